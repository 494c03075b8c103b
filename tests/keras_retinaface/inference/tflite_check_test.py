import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from keras_retinaface.formats import tflite_file
from keras_retinaface.inference import detector, tflite_check
from tests.fuzz import tiny_model

_TYPE = schema.TensorType


@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_whole_file_opens(tmp_path, is_sealed):
    path = tmp_path / "a.tflite"
    path.write_bytes(tiny_model.tflite(is_sealed=is_sealed))
    faces = detector.Detector(str(path)).detect(np.zeros((32, 48, 3), np.uint8))
    assert [face.score for face in faces] == [0.75, 0.5]
    assert ("checksum" in tflite_file.read_metadata(path)) == is_sealed


def _tensors(**changed):
    return {name: changed.get(name, tensor) for name, tensor in tiny_model._TENSORS.items()}


def _custom_op():
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(tiny_model.part()))
    code = schema.OperatorCodeT()
    code.customCode = "Run"
    code.builtinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes = [code]
    builder = tflite_file._Builder(1 << 10)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _flipped(content, place):
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


_FACES = tiny_model.tflite()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a .tflite file"),
        (tiny_model.part()[: -len(tiny_model.part()) // 3], "index|buffer|damaged|unpack"),
        (
            _flipped(_FACES, _FACES.index(np.arange(20, dtype=np.float32).tobytes()) + 6),
            "by the checksum in its metadata",
        ),
        (_flipped(_FACES, _FACES.index(b'"checksum"') + 3), "the metadata is damaged"),
        (
            tiny_model.part(_tensors(image=(_TYPE.FLOAT32, [1, 32, 48, 3], None))),
            r"expected the input `image` uint8 \[1, height, width, 3\]. Received: `image` float32 \[1, 32, 48, 3\]",
        ),
        (
            tiny_model.part(_tensors(scores=(_TYPE.FLOAT32, [1, 3], np.zeros(3, np.float32)))),
            r"expected the output .*Received: .*`scores` float32 \[1, 3\]",
        ),
        (
            tiny_model.part(_tensors(boxes=(_TYPE.FLOAT32, [1, 2, 4], np.zeros(5, np.float32)))),
            "damaged: tensor 1 does not have 32 bytes",
        ),
        (_custom_op(), "it has an op that is not LiteRT's own: b'Run'"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_at_opening(tmp_path, content, message):
    path = tmp_path / "a.tflite"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a.tflite: not a RetinaFace .tflite file: .*({message})") as raised:
        detector.Detector(str(path))
    assert "\n" not in str(raised.value)


def test_checking_needs_a_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        tflite_check.read(tmp_path / "a.tflite")
