"""Sampling around the mode: a model's posterior for the engine, and named draws from it."""
