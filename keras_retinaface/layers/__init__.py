"""Keras layers and blocks; each takes plain arguments, never a config."""
