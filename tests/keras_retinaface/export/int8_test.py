import numpy as np
import pytest

from keras_retinaface import config as config_lib
from keras_retinaface.export import tflite
from keras_retinaface.inference import detector
from keras_retinaface.media import image_file
from keras_retinaface.network import model as model_lib

DETECTION = config_lib.Detection()


@pytest.mark.slow
def test_layers_stay_in_float_on_request(model, images, tmp_path):
    from ai_edge_litert import interpreter

    path = tmp_path / "mixed.tflite"
    arguments = {"image_size": (96, 128), "quantize": "int8", "calibration_images": images}
    tflite.write(model, path, DETECTION, float_layers=["box_P3"], **arguments)
    bare = interpreter.Interpreter(
        model_path=str(path), experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF
    )
    tensors = {tensor["index"]: tensor for tensor in bare.get_tensor_details()}
    floats = [
        tensors[op["outputs"][0]]["shape"].tolist()
        for op in bare._get_ops_details()
        if op["op_name"] == "CONV_2D" and tensors[op["inputs"][0]]["dtype"] is np.float32
    ]
    assert floats == [[1, 12, 16, 8]]
    with pytest.raises(ValueError, match=r"`float_layers` must match layers of the network. Received: \['box_P9'\]"):
        tflite.write(model, path, DETECTION, float_layers=["box_P9"], **arguments)
    with pytest.raises(ValueError, match=r"must match layers of the network. Received: \['bax_\*'\], which match none"):
        tflite.write(model, path, DETECTION, float_layers=["box_P3", "bax_*"], **arguments)


@pytest.mark.long
def test_networks_without_the_usual_float_layers_are_rounded_too(photos, tmp_path):
    other = model_lib.RetinaFace(config_lib.Config().replace(backbone="mobilenet_v2", pyramid_channels=8))
    image = image_file.read(photos / "astronaut.png")[:64, :64]
    options = {"image_size": (64, 64), "calibration_images": [image], "quantize": "int8"}
    tflite.write(other, tmp_path / "int8.tflite", DETECTION, **options)
    assert detector.Detector(tmp_path / "int8.tflite")._runtime.image_sizes == ((64, 64),)
    with pytest.raises(ValueError, match="`float_layers` must match layers"):
        tflite.write(other, tmp_path / "int8.tflite", DETECTION, float_layers=["stage1_0*"], **options)
