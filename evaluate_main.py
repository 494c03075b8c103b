"""Measures a model, as `keras_retinaface/cli/evaluate.py` says."""

from absl import app

from keras_retinaface.cli import evaluate

if __name__ == "__main__":
    app.run(evaluate.main)
