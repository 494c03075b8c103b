import numpy as np
import pytest
import tensorflow as tf

from keras_retinaface import config as config_lib
from keras_retinaface.inference import runtime, saved_model_file

_SPEC = [tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")]


def _faces(image, factor):
    rows = tf.tile(tf.reshape(factor, [1, 1]), [tf.shape(image)[0], 2])
    return {
        "boxes": tf.tile(rows[..., None], [1, 1, 4]),
        "scores": rows,
        "landmarks": tf.tile(rows[..., None, None], [1, 1, 5, 2]),
        "count": tf.cast(rows[:, 0], tf.int32),
    }


def _save(path, extra=lambda image: None, *, spec=_SPEC, change=lambda outputs: outputs):
    """Saves a module with the tensors of a detector; `extra` runs in its graph."""
    module = tf.Module()
    module.factor = tf.Variable(1.0)

    @tf.function(input_signature=spec)
    def serve(image):
        with tf.control_dependencies([value for value in [extra(image)] if value is not None]):
            return change(_faces(image, tf.identity(module.factor)))

    tf.saved_model.save(module, str(path), signatures={"serving_default": serve.get_concrete_function()})
    return path


def _open(path):
    return runtime.open_model(str(path), config_lib.Detection())


def test_a_whole_one_opens_with_and_without_checksums(tmp_path):
    path = _save(tmp_path / "a")
    for _ in range(2):
        found = _open(path).run(np.zeros((2, 8, 8, 3), np.uint8))
        np.testing.assert_array_equal(found["scores"], np.ones((2, 2)))
        saved_model_file.seal(path)


def _read(image):
    return tf.io.read_file("/etc/hostname")


def _write(image):
    return tf.io.write_file("written", "text")


def _print(image):
    return tf.print(tf.shape(image), output_stream="file://written")


def _call(image):
    return tf.py_function(lambda: 1.0, [], tf.float32)


def _checkpoint(image):
    return tf.raw_ops.SaveV2(prefix="written", tensor_names=["a"], shape_and_slices=[""], tensors=[tf.constant(1.0)])


def _loop(image):
    return tf.while_loop(lambda i: i < 2, lambda i: i + tf.strings.length(tf.io.read_file("/etc/hostname")), [0])[0]


@pytest.mark.parametrize(
    ("extra", "op"),
    [
        (_read, "ReadFile"),
        (_write, "WriteFile"),
        (_print, "StringFormat|PrintV2"),
        (_call, "EagerPyFunc"),
        (_checkpoint, "SaveV2"),
        (_loop, "ReadFile"),
    ],
)
def test_ops_that_reach_out_are_refused_before_anything_runs(tmp_path, monkeypatch, extra, op):
    path = _save(tmp_path / "a", extra)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"a: holds the op ({op}) \(.*, which has no place in an exported detector"):
        _open(path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"spec": [tf.TensorSpec([None, None, None, 3], tf.float32, name="input_1")]},
            r"input: expected `image` uint8 \[any, any, any, 3\]. Received: `input_1` float32 \[any, any, any, 3\]",
        ),
        (
            {"change": lambda faces: {**faces, "count": faces["scores"]}},
            "output: expected .*Received: .*`count` float32",
        ),
        (
            {"change": lambda faces: {"boxes": faces["boxes"]}},
            r"output: expected .*Received: `boxes` float32 \[any, 2, 4\]",
        ),
    ],
)
def test_other_tensors_are_refused_at_opening(tmp_path, options, message):
    path = _save(tmp_path / "a", **options)
    with pytest.raises(ValueError, match=f"a: not made by export_main.py: {message}"):
        _open(path)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index", "assets.extra/checksums.json"])
def test_damage_is_named(tmp_path, name):
    path = _save(tmp_path / "a")
    saved_model_file.seal(path)
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(ValueError, match="a: damaged: .* differs from what was exported"):
        _open(path)
    (path / "assets.extra" / "checksums.json").unlink()
    (path / "saved_model.pb").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="a: saved_model.pb (is damaged|must hold one graph)"):
        _open(path)
