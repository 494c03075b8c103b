"""Finds faces, as `keras_retinaface/cli/detect.py` says."""

from absl import app

from keras_retinaface.cli import detect

if __name__ == "__main__":
    app.run(detect.main)
