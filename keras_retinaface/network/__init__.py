"""The Keras model, its objective, and what turns its outputs into faces."""
