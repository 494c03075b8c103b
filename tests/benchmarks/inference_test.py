import pytest
from absl.testing import flagsaver

from benchmarks import inference


@pytest.mark.parametrize(
    "name, model, form, scale, is_voting",
    [
        ("TFLite int8 x1.5", "of --model", "TFLite int8", 1.5, False),
        ("TFLite int8", "of --model", "TFLite int8", 1.0, False),
        ("TFLite int8 voting", "of --model", "TFLite int8", 1.0, True),
        ("mobilenet025_fast: TFLite int8 x1.25 voting", "mobilenet025_fast", "TFLite int8", 1.25, True),
        ("mobilenet025_fast: Keras", "mobilenet025_fast", "Keras", 1.0, False),
        ("ONNX float16 voting", "of --model", "ONNX float16", 1.0, True),
        ("YuNet (OpenCV)", "of --model", "YuNet (OpenCV)", 1.0, False),
    ],
)
def test_a_name_says_which_model_how_far_the_photo_is_enlarged_and_whether_boxes_vote(
    name, model, form, scale, is_voting
):
    inference.flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(model="of --model"):
        assert inference.parse_name(name) == (model, form, scale, is_voting)
