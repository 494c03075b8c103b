import pytest

from benchmarks import inference


@pytest.mark.parametrize(
    "name, base, scale",
    [("TFLite int8 x1.5", "TFLite int8", 1.5), ("TFLite int8", "TFLite int8", 1.0), ("YuNet (OpenCV)",) * 2 + (1.0,)],
)
def test_a_name_may_say_how_far_the_photo_is_enlarged(name, base, scale):
    assert inference.parse_name(name) == (base, scale)
