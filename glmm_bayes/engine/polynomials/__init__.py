"""Smooth functions of few variables as polynomials of what is known at points."""
