"""Exports a model, as `keras_retinaface/cli/export.py` says."""

from absl import app

from keras_retinaface.cli import export

if __name__ == "__main__":
    app.run(export.main)
