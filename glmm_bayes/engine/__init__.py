"""Numerics of latent Gaussian models on plain arrays: no names, no frames, no PyMC."""
