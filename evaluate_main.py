"""Measures a model, as `keras_retinaface/cli/evaluate.py` says."""

from keras_retinaface import program
from keras_retinaface.cli import evaluate

if __name__ == "__main__":
    program.run(evaluate.main)
