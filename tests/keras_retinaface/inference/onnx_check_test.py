import pytest

from keras_retinaface.formats import onnx_file
from keras_retinaface.inference import onnx_check
from keras_retinaface.weights import shipped

LIGHT = shipped.light("mobilenet025")


def test_a_light_form_takes_any_image_and_its_limits():
    content, parts = onnx_check.read(LIGHT)
    assert content == LIGHT.read_bytes() and onnx_file.check_seal(content)
    assert set(parts.inputs) == {"image", *onnx_check.OPTIONS} and parts.defaults == set(onnx_check.OPTIONS)
    assert onnx_check.image_size(parts) is None


def test_the_size_of_an_image_is_told_where_it_is_fixed():
    parts = onnx_file.Parts(inputs={"image": onnx_file.Value("uint8", ("batch", 480, 640, 3))})
    assert onnx_check.image_size(parts) == (480, 640)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an ONNX file"),
        (b"text", "(damaged|not an ONNX file)"),
        (LIGHT.read_bytes()[:-1], "(damaged|not an ONNX file)"),
        (onnx_file.seal(b"\x42\x04\x0a\x00\x10\x11\x3a\x00"), "expected the input `image` uint8"),
    ],
    ids=["empty", "text", "cut", "another model"],
)
def test_what_is_none_of_ours_is_one_line(tmp_path, content, message):
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a.onnx: not a RetinaFace .onnx file: .*{message}") as raised:
        onnx_check.read(path)
    assert "\n" not in str(raised.value)


def test_checking_needs_a_file_of_sane_size(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="a.onnx: no such file"):
        onnx_check.read(tmp_path / "a.onnx")
    monkeypatch.setattr(onnx_check, "_LARGEST_FILE", 99)
    with pytest.raises(ValueError, match="larger than 99 bytes"):
        onnx_check.read(LIGHT)
