"""Runs `.onnx` files under onnxruntime, without TensorFlow."""

from __future__ import annotations

import ctypes
import os
import threading
import types

import numpy as np

from keras_retinaface import config as config_lib
from keras_retinaface import extras
from keras_retinaface.inference import onnx_check

_OUTPUTS = ("boxes", "scores", "landmarks", "count")
_ERRORS_ALONE = 3


class OnnxRuntime:
    """An `.onnx` file under onnxruntime, on the CPU; its size, if it has one, and its thresholds are of its export.

    One session serves any number of threads. A forked child makes its own.

    Args:
        path: path of the file.
        num_threads: threads of a call.
        detection: thresholds and limits of a light form, which takes them with each call; of other files unused.

    Attributes:
        takes_options: whether it is a light form.

    Raises:
        ValueError: if the file is not a detector, or damaged; see `onnx_check.read`.
        ModuleNotFoundError: if there is no onnxruntime; says how it is installed.
    """

    def __init__(self, path: str | os.PathLike, num_threads: int, detection: config_lib.Detection | None = None):
        content, parts = onnx_check.read(path)
        extras.require("onnxruntime", "an .onnx file")
        # Read once, so that a session made in a child is of the same model, whatever became of the file.
        self._content, self._num_threads = content, num_threads
        size = onnx_check.image_size(parts)
        self.image_sizes = () if size is None else (size,)
        self.score_threshold = onnx_check.score_threshold(parts)
        batch = parts.inputs["image"].shape[0]
        # A file of another program may have one batch, which images that are not there fill up.
        self._batch = batch if isinstance(batch, int) else None
        self.max_batch = self._batch or (1 if size else None)
        self.takes_options = bool(parts.defaults)
        self._options = _options(detection or config_lib.Detection()) if self.takes_options else {}
        self._lock, self._process, self._session = threading.Lock(), 0, None
        try:
            self._here()
        except Exception as error:  # onnxruntime's own have no base class of their own
            raise ValueError(f"{path}: not a RetinaFace .onnx file: {' '.join(str(error).split())}") from error

    def run(self, images):
        """Detects faces, see `runtime.Runtime`."""
        count = len(images)
        if self._batch and count < self._batch:
            images = np.concatenate([images, np.zeros((self._batch - count, *images.shape[1:]), np.uint8)])
        outputs = self._here().run(list(_OUTPUTS), {"image": images, **self._options})
        return {name: values[:count] for name, values in zip(_OUTPUTS, outputs)}

    def _here(self):
        """Returns the session of this process."""
        if self._process == os.getpid():
            return self._session
        if self._process:
            # Another process made it and its lock: its threads are not here, and taking it down would wait for them.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
            self._lock, self._process = threading.Lock(), 0
        with self._lock:
            if self._process != os.getpid():
                self._session = _open(self._content, self._num_threads)
                self._process = os.getpid()
        return self._session


def _options(detection: config_lib.Detection) -> dict[str, np.ndarray]:
    types = {"float32": np.float32, "int64": np.int64}
    return {name: np.array([getattr(detection, name)], types[kind]) for name, (kind, _) in onnx_check.OPTIONS.items()}


def load() -> types.ModuleType:
    """Imports onnxruntime so that it keeps to itself.

    From version 1.29 it tells its makers about every model that is opened, by threads of its own, which a forked child
    then waits for at its end. Who wants that sets `ORT_DISABLE_TELEMETRY` to 0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def _open(content: bytes, num_threads: int):
    onnxruntime = load()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    options.log_severity_level = _ERRORS_ALONE
    # A plan of memory for every size of photo is never given back.
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
