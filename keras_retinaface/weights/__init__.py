"""Arrays by the names of a model's variables: files, shipped presets, public checkpoints, ImageNet, norms."""
