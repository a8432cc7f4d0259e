"""Maximise a model's marginal likelihood: its coordinates, the search, and what was found."""
