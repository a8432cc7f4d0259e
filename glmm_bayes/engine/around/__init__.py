"""Draws of effects and coefficients around a mode, at one or many outer parameters."""
