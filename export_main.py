"""Exports a model, as `keras_retinaface/cli/export.py` says."""

from keras_retinaface import program
from keras_retinaface.cli import export

if __name__ == "__main__":
    program.run(export.main)
