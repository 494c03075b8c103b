"""Models of every kind behind one detector. Imports no TensorFlow until a model asks for it."""
