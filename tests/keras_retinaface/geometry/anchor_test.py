import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.geometry import anchor


def test_first_anchors_worked_example():
    anchors = anchor.generate((16, 24), (8,), ((16.0, 32.0),))
    assert anchors.shape == (2 * 3 * 2, 4)
    # Location (0, 0) is centred at (4, 4); location (0, 1) at (12, 4); the second row starts after 3 x 2.
    np.testing.assert_array_equal(anchors[0], [-4, -4, 12, 12])
    np.testing.assert_array_equal(anchors[1], [-12, -12, 20, 20])
    np.testing.assert_array_equal(anchors[2], [4, -4, 20, 12])
    np.testing.assert_array_equal(anchors[6], [-4, 4, 12, 20])


def test_counts_of_the_paper_and_of_mobilenet():
    for preset, count in (("paper_resnet50", 102_300), ("mobilenet025", 16_800)):
        anchors = config_lib.Config.preset(preset).anchors
        assert anchor.generate((640, 640), anchors.strides, anchors.sizes).shape == (count, 4)


def test_sizes_that_no_stride_divides_are_rounded_up():
    np.testing.assert_array_equal(anchor.feature_size((33, 1999), 32), [2, 63])


def test_in_graph_with_unknown_size_equals_eager():
    @tf.function(input_signature=[tf.TensorSpec([2], tf.int32)])
    def generate(image_size):
        return anchor.generate(image_size, (8, 16), ((16.0,), (32.0,)))

    np.testing.assert_array_equal(
        generate(tf.constant([50, 70])), anchor.generate((50, 70), (8, 16), ((16.0,), (32.0,)))
    )


@pytest.mark.parametrize("size", [(48, 64), (37, 91), (8, 200)])
def test_anchors_by_place_are_those_of_the_list(size):
    strides, sizes = (8, 16, 32), ((16.0, 20.0, 32.0), (64.0, 90.0, 128.0), (256.0, 300.0, 512.0))
    listed = anchor.generate(size, strides, sizes)
    rows = np.random.default_rng(0).permutation(len(listed)).astype(np.int32)
    np.testing.assert_array_equal(anchor.at(tf.constant(rows), size, strides, sizes), listed.numpy()[rows])
    one = anchor.generate(size, (8,), ((16.0,),))
    np.testing.assert_array_equal(anchor.at(tf.range(len(one)), tf.constant(size), (8,), ((16.0,),)), one)
