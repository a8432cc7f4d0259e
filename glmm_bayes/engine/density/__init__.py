"""The joint log density and its gradient on arrays, compiled, and in better coordinates."""
