"""Trains RetinaFace, as `keras_retinaface/cli/train.py` says."""

from keras_retinaface import program
from keras_retinaface.cli import train

if __name__ == "__main__":
    program.run(train.main)
