import pytest
from absl import flags
from absl.testing import flagsaver

from keras_retinaface.cli import source_flags


@pytest.fixture(autouse=True)
def saved():
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver():
        yield


def _set(**values):
    for name, value in values.items():
        setattr(flags.FLAGS, name, value)


def test_of_several_settings_the_last_one_counts():
    _set(train_images=["a", "b"], train_annotations=["a.txt"], train_landmarks=None, train_shares=None)
    assert source_flags.train_sources() == ["b", "a.txt", None]
    _set(train_images=None, train_annotations=["a.tfrecord"])
    assert source_flags.train_sources() == [None, "a.tfrecord", None]


def test_shares_take_as_many_settings_as_there_are():
    _set(train_shares=[".7", ".3"], train_images=["x", "a", ""], train_annotations=["a.txt", "b.tfrecord"])
    _set(train_landmarks=None)
    assert source_flags.train_sources() == [["a", None], ["a.txt", "b.tfrecord"], [None, None]]
    _set(train_landmarks=["points.txt"])
    feed = pytest.importorskip("data_pipeline.feed")
    images, annotations, landmarks = source_flags.train_sources()
    with pytest.raises(ValueError, match="`train_landmarks` must be given once for each of 2 shares. Received: "):
        feed.open(images, annotations, landmarks=landmarks, shares=[".7", ".3"])
