"""Makes batches for trainings elsewhere: a server of a `tf.data` service.

    python -m data_pipeline.serve --port=5000                          on one machine
    python -m data_pipeline.serve --dispatcher=grpc://FIRST:5000 --host=THIS_MACHINE      on any number of others
    python train_main.py --data_service=grpc://FIRST:5000 ...          where the model is trained

The first also shares out the work. Images must be at the same paths on all machines. The service has no authentication:
its ports belong into a closed network.
"""

from __future__ import annotations

import tensorflow as tf
from absl import app, flags, logging

from data_pipeline import colour

_DISPATCHER = flags.DEFINE_string("dispatcher", None, "Address of the first server; by default this is the first.")
_PORT = flags.DEFINE_integer("port", 5000, "Where the first server listens; 0 takes any free port.", 0)
_HOST = flags.DEFINE_string("host", "localhost", "Name under which the training reaches this machine.")


def load_kernels() -> None:
    """Loads the kernels of tensorflow-addons, which come with their first use; a graph from elsewhere needs them."""
    colour.adjust_hsv(tf.zeros([1, 1, 3]), tf.constant(0.0), tf.constant(1.0), tf.constant(1.0))


def main(argv):
    """Serves until it is interrupted."""
    if len(argv) > 1:
        raise app.UsageError(f"takes flags only. Received: {argv[1:]}")
    if _DISPATCHER.value and _PORT.present:
        raise app.UsageError("--port is that of the first server; it must stand without --dispatcher")
    service = tf.data.experimental.service
    load_kernels()
    address = _DISPATCHER.value
    if not address:
        dispatcher = service.DispatchServer(service.DispatcherConfig(port=_PORT.value))
        address = f"grpc://{_HOST.value}:{dispatcher.target.rsplit(':', 1)[1]}"
    # The placeholder is TensorFlow's, for the port that the worker gets.
    config = service.WorkerConfig(dispatcher_address=address.split("://")[-1], worker_address=f"{_HOST.value}:%port%")
    worker = service.WorkerServer(config)
    logging.info("serving; train with --data_service=%s", address)
    worker.join()


if __name__ == "__main__":
    app.run(main)
