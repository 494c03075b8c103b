"""Makes batches for trainings elsewhere: a server of a `tf.data` service.

    python -m data_pipeline.serve --port=5000                          for trainings on this machine only
    python -m data_pipeline.serve --port=5000 --host=FIRST             for other machines, which must be trusted
    python -m data_pipeline.serve --dispatcher=grpc://FIRST:5000 --host=THIS_MACHINE      on any number of others
    python train_main.py --data_service=grpc://FIRST:5000 ...          where the model is trained

The first also shares out the work. Images must be at the same paths on all machines. The service has no authentication
and runs the graphs of whoever reaches it, which may read and write files: with a --host other than localhost its ports
belong into a closed network.
"""

from __future__ import annotations

import tensorflow as tf
from absl import app, flags, logging

from data_pipeline import colour, loopback
from keras_retinaface import program

_DISPATCHER = flags.DEFINE_string("dispatcher", None, "Address of the first server; by default this is the first.")
_PORT = flags.DEFINE_integer("port", 5000, "Where the first server listens; 0 takes any free port.", 0)
_HOST = flags.DEFINE_string(
    "host",
    "localhost",
    "Name under which the training reaches this machine. With localhost no other machine can connect; with any other "
    "name everybody who reaches the ports can, and runs programs here.",
)
_LOCAL = ("localhost", "127.0.0.1", "::1", "[::1]")


def load_kernels() -> None:
    """Loads the kernels of tensorflow-addons, which come with their first use; a graph from elsewhere needs them."""
    colour.adjust_hsv(tf.zeros([1, 1, 3]), tf.constant(0.0), tf.constant(1.0), tf.constant(1.0))


def main(argv):
    """Serves until it is interrupted."""
    if len(argv) > 1:
        raise app.UsageError(f"takes flags only. Received: {argv[1:]}")
    if _DISPATCHER.value and _PORT.present:
        raise app.UsageError("--port is that of the first server; it must stand without --dispatcher")
    try:
        # Both servers live as long as these names.
        dispatcher, worker, address = start(_DISPATCHER.value, _HOST.value, _PORT.value)
    except (OSError, tf.errors.OpError) as error:
        logging.error("%s", getattr(error, "message", None) or error)
        return 1
    logging.info("serving; train with --data_service=%s", address)
    worker.join()
    del dispatcher
    return 0


def start(address: str | None, host: str, port: int) -> tuple:
    """Starts a worker, and a dispatcher where there is none yet.

    Args:
        address: address of the dispatcher, if there is one.
        host: name under which trainings reach this machine; only with localhost others cannot.
        port: port of the dispatcher.

    Returns:
        The dispatcher or None, the worker, and the address for trainings.

    Raises:
        OSError: if the ports cannot be closed to other machines as `host` asks.
    """
    service = tf.data.experimental.service
    load_kernels()
    dispatcher = None
    if not address:
        dispatcher = service.DispatchServer(service.DispatcherConfig(port=port))
        guard(host)
        address = f"grpc://{host}:{dispatcher.target.rsplit(':', 1)[1]}"
    # The placeholder is TensorFlow's, for the port that the worker gets.
    config = service.WorkerConfig(dispatcher_address=address.split("://")[-1], worker_address=f"{host}:%port%")
    worker = service.WorkerServer(config)
    guard(host)
    return dispatcher, worker, address


def guard(host: str) -> None:
    """Keeps other machines away from the ports of this process unless `host` asks for them; says so."""
    ports = ", ".join(map(str, loopback.ports()))
    if host not in _LOCAL:
        logging.warning("ports %s are open to everybody who reaches this machine, and run what they send", ports)
        return
    if not ports:
        raise OSError("the ports cannot be kept to this machine here, on Linux only; --host=NAME opens them to all")
    for port in loopback.ports():
        loopback.close_to_others(port)
    logging.info("ports %s are open to this machine only; --host=NAME opens them to others", ports)


if __name__ == "__main__":
    program.run(main)
