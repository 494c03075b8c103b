"""The dense branch: face model, mesh decoder, renderer and photometric loss."""
