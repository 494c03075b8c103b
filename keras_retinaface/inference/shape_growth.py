"""Keeps TensorFlow 2.15 from growing with every new image size.

It prepares a fused convolution (with norm and activation in one op) anew for every size, keeps the last thousand, and
frees nothing of the others: about 1.2 MB a size for MobileNet-0.25, without end. Convolutions that are not fused are
freed. TensorFlow 2.21 frees both.
"""

from __future__ import annotations

import contextlib

# As many sizes of this network as the thousand hold. With more, preparing takes as long as fusing saves.
_MAX_SIZES = 16


class Fusing:
    """Leaves ops apart for one model once it has seen many image sizes."""

    def __init__(self):
        import tensorflow as tf

        self._sizes = set()
        self._is_needed = tf.__version__.startswith("2.15.")

    def for_shape(self, shape: tuple[int, ...]) -> contextlib.AbstractContextManager:
        """Returns a context to call the model in, with images of this shape."""
        if self._is_needed and len(self._sizes) <= _MAX_SIZES:
            self._sizes.add(tuple(shape))
        return _apart() if len(self._sizes) > _MAX_SIZES else contextlib.nullcontext()


@contextlib.contextmanager
def _apart():
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
    from tensorflow.python.eager import context as eager

    # What goes with every call of a function, which TensorFlow optimises once for each of its values. Of this thread
    # alone: the option of `tf.config.optimizer` is all threads', and one that first runs meanwhile would keep it.
    context = eager.context()
    usual = context.function_call_options
    config = config_pb2.ConfigProto.FromString(usual.config_proto_serialized)
    config.graph_options.rewrite_options.remapping = rewriter_config_pb2.RewriterConfig.OFF
    context.function_call_options = eager.FunctionCallOptions(usual.executor_type, config)
    try:
        yield
    finally:
        context.function_call_options = usual
