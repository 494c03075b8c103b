"""Finds faces, as `keras_retinaface/cli/detect.py` says."""

from keras_retinaface import program
from keras_retinaface.cli import detect

if __name__ == "__main__":
    program.run(detect.main)
