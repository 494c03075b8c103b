"""What stands around `model.fit`. `training.run` is a whole run; it loads lazily, as it takes TensorFlow."""


def __getattr__(name):
    if name == "run":
        from keras_retinaface.training import session

        return session.run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
