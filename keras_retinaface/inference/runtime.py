"""Opens models of every kind behind one method. TensorFlow is imported only by the kinds that need it."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from absl import logging

from keras_retinaface import config as config_lib
from keras_retinaface import extras
from keras_retinaface.inference import fork, onnx_runtime, pool
from keras_retinaface.weights import shipped

KINDS = "a preset with shipped weights, a workdir, a .keras, .tflite or .onnx file or a SavedModel directory"

_CGROUP_LIMIT = "/sys/fs/cgroup/cpu.max"
# What there is where TensorFlow may find a GPU of NVIDIA (Linux, WSL) or AMD; asking TensorFlow takes seconds.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


class Runtime(Protocol):
    """A model that finds faces in images as they are.

    Attributes:
        image_sizes: (height, width) that the images of a call may have; empty for any.
        max_batch: most images a call takes, or None.
    """

    image_sizes: Sequence[tuple[int, int]]
    max_batch: int | None

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Detects faces.

        Args:
            images: uint8 `[B, H, W, 3]`, RGB.

        Returns:
            `boxes` float32 `[B, N, 4]` (xyxy, pixels), `scores` `[B, N]`, `landmarks` `[B, N, 5, 2]`, `count` int32
            `[B]`; with meshes `dense` `[B, N, 148]`, see `decoding.decode`.
        """
        ...


class KerasRuntime:
    """A Keras model in this process; one trace for single images and one for batches, of any size."""

    image_sizes = ()
    max_batch = None

    def __init__(self, model, detection: config_lib.Detection, *, has_dense: bool = False):
        from keras_retinaface.inference import shape_growth
        from keras_retinaface.network import decoding

        if has_dense and not model.config.network.dense:
            raise ValueError("`mesh` needs a model with a dense head, as the preset mobilenet025_dense")
        self._one = decoding.make_function(model, detection, batch_size=1, has_dense=has_dense)
        self._many = decoding.make_function(model, detection, batch_size=None, has_dense=has_dense)
        self._fusing = shape_growth.Fusing()

    def run(self, images):  # noqa: D102
        fork.check()
        with self._fusing.for_shape(images.shape):
            outputs = (self._one if len(images) == 1 else self._many)(images)
        return {name: tensor.numpy() for name, tensor in outputs.items()}


class SavedModelRuntime:
    """A SavedModel; thresholds are those of its export."""

    image_sizes = ()
    max_batch = None

    def __init__(self, path: str):
        from keras_retinaface.inference import saved_model_file, shape_growth

        self._module, self._function = saved_model_file.load(path)
        self._fusing = shape_growth.Fusing()

    def run(self, images):  # noqa: D102
        import tensorflow as tf

        fork.check()
        with self._fusing.for_shape(images.shape):
            outputs = self._function(image=tf.constant(images))
        return {name: tensor.numpy() for name, tensor in outputs.items()}


class LiteRtRuntime:
    """A `.tflite` file under LiteRT, without TensorFlow; sizes and thresholds are those of its export.

    An interpreter serves one thread at a time. Threads that run at the same time have one each, up to as many as there
    are cores for their `num_threads`; all share the bytes of the file.
    """

    max_batch = 1

    def __init__(self, path: str, num_threads: int | None):
        if not pathlib.Path(path).is_file():
            raise ValueError(f"{path}: no such file")
        extras.require("ai_edge_litert", "a .tflite file")
        from keras_retinaface.inference import tflite_check

        # Read once, so that an interpreter made later is of the model that was checked, whatever became of the file.
        content = tflite_check.read(path)
        self.score_threshold = tflite_check.score_threshold(content)
        make = functools.partial(_litert_runners, content, num_threads or 1)
        self._pool = pool.Pool(make, max(1, num_cores() // (num_threads or 1)))
        try:
            with self._pool.lend() as runners:
                self.image_sizes = tuple(runners)
        except (ValueError, RuntimeError, KeyError) as error:
            raise ValueError(f"{path}: not a RetinaFace .tflite file: {error}") from error

    def run(self, images):  # noqa: D102
        with self._pool.lend() as runners:
            return runners[images.shape[1:3]](image=images)  # copies, not the interpreter's memory


def open_model(
    model, detection: config_lib.Detection, num_threads: int | None = None, *, has_dense: bool = False
) -> Runtime:
    """Opens a model.

    Args:
        model: a `model.RetinaFace`, or the name or path of one of `KINDS`.
        detection: thresholds and limits; exported models carry their own, but for a light form.
        num_threads: threads for LiteRT, onnxruntime and, if TensorFlow has not run anything yet, for TensorFlow; None
            is one for LiteRT and all for the others.
        has_dense: whether to run the dense head, which exported models do not hold.

    Raises:
        ValueError: if the model is of no known kind or cannot be read, has no dense head when one is wanted, or is an
            export and `detection` asks for voting, which an export fixes, a light form not.
        RuntimeError: if it needs TensorFlow in a process forked from one where TensorFlow ran.
        ModuleNotFoundError: if it needs TensorFlow and there is none; says how it is installed.
    """
    if not isinstance(model, (str, pathlib.Path)):
        fork.check()
        return KerasRuntime(model, detection, has_dense=has_dense)
    path = pathlib.Path(model)
    is_export = path.suffix in (".tflite", ".onnx") or (path / "saved_model.pb").is_file()
    if has_dense and is_export:
        raise ValueError(f"`mesh` needs a Keras model, for exports hold no dense head. Received: {str(model)!r}")
    light = None if has_dense or is_export else _light_form(str(model))
    if light or path.suffix == ".onnx":
        opened = onnx_runtime.OnnxRuntime(light or path, num_threads or num_cores(), detection)
        if not opened.takes_options:
            _refuse_voting(model, detection)
        return _warned(opened, path, detection)
    if is_export:
        _refuse_voting(model, detection)
    if path.suffix == ".tflite":
        return _warned(LiteRtRuntime(str(path), num_threads), path, detection)
    fork.check()
    is_saved_model = (path / "saved_model.pb").is_file()
    if not is_saved_model:
        _check_keras(model)
    if num_threads or is_saved_model:
        extras.require("tensorflow", "this kind of model")
    if num_threads:
        _set_tensorflow_threads(num_threads)
    if is_saved_model:
        return SavedModelRuntime(str(path))
    return KerasRuntime(load_keras(model), detection, has_dense=has_dense)


def _refuse_voting(model, detection: config_lib.Detection) -> None:
    if detection.voting_iou:
        raise ValueError(f"`voting_iou` is fixed at export: give it to export_main.py. Received: {str(model)!r}")


def _warned(opened: LiteRtRuntime | onnx_runtime.OnnxRuntime, path: pathlib.Path, detection: config_lib.Detection):
    """Warns where a threshold under that of the export is asked for, as average precision wants it.

    The default is not: it may just not have been given.
    """
    of_export, default = opened.score_threshold, config_lib.Detection.score_threshold
    if of_export is not None and default != detection.score_threshold < of_export:
        logging.warning(
            "%s gives no scores under %g, its threshold at export; a score_threshold of %g changes nothing here",
            path,
            of_export,
            detection.score_threshold,
        )
    return opened


def runs_without_tensorflow(model: str) -> bool:
    """Returns whether a model that is given by name or path runs under LiteRT or onnxruntime when it is opened."""
    return pathlib.Path(model).suffix in (".tflite", ".onnx") or _light_form(model) is not None


def load_keras(model: str | pathlib.Path):
    """Loads a Keras model from a preset, workdir or `.keras` file.

    Raises:
        ValueError: if it is none of these or cannot be read.
        RuntimeError: in a process forked from one where TensorFlow ran.
    """
    fork.check()
    path = _check_keras(model)
    extras.require("tensorflow", "a Keras model")
    if path is None:
        from keras_retinaface.network import model as model_lib

        return model_lib.RetinaFace.from_preset(str(model))
    from keras_retinaface.inference import model_file

    return model_file.load(path)


def _check_keras(model: str | pathlib.Path) -> pathlib.Path | None:
    """Returns the file of a workdir or `.keras` file, None for a preset; a wrong name is told before all else."""
    if str(model) in shipped.PRESETS:
        return None
    path = pathlib.Path(model)
    path = path / "model.keras" if path.is_dir() else path
    if path.suffix != ".keras" or not path.is_file():
        raise ValueError(
            f"`model` must be {KINDS}; presets with weights: {tuple(shipped.PRESETS)}. Received: {str(model)!r}"
        )
    return path


def _litert_runners(content: bytes, num_threads: int) -> dict[tuple[int, int], Callable]:
    """Returns what runs the signatures of one interpreter, by size; each takes memory at its first call."""
    from ai_edge_litert import interpreter

    made = interpreter.Interpreter(model_content=content, num_threads=num_threads)
    runners = map(made.get_signature_runner, made.get_signature_list())
    return {tuple(runner.get_input_details()["image"]["shape"][1:3].tolist()): runner for runner in runners}


def _light_form(model: str) -> pathlib.Path | None:
    """Returns the file that a preset runs by without TensorFlow: it starts ten times as fast, and does not use a GPU.

    Where TensorFlow is loaded already, nothing is gained by a second runtime.
    """
    light = shipped.light(model)
    return light if light and _prefers_light() else None


def _prefers_light() -> bool:
    if "tensorflow" in sys.modules or importlib.util.find_spec("onnxruntime") is None:
        return False
    has_gpu = any(pathlib.Path(device).exists() for device in _GPU_DEVICES)
    return not (has_gpu and importlib.util.find_spec("tensorflow"))


def num_cores() -> int:
    """Returns how many cores this process may use, by its affinity and its container's limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # no container, or none with a limit
        quota, period = pathlib.Path(_CGROUP_LIMIT).read_text(encoding="ascii").split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _set_tensorflow_threads(num_threads: int) -> None:
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(num_threads)
        tf.config.threading.set_inter_op_parallelism_threads(1 if num_threads == 1 else 2)
    except RuntimeError as error:
        raise ValueError("`num_threads` must be set before TensorFlow has run anything") from error
