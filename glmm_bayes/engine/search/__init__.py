"""Climbing smooth functions: quasi-Newton steps, many at once, and along a ridge."""
