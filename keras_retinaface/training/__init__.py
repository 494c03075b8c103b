"""A training around `model.fit`: start, optimizer, checkpoints, callbacks, devices."""
