"""Meshes: face model, decoder, camera, renderer, and the loss that the dense head learns by."""
