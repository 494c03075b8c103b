"""Trains RetinaFace, as `keras_retinaface/cli/train.py` says."""

from absl import app

from keras_retinaface.cli import train

if __name__ == "__main__":
    app.run(train.main)
