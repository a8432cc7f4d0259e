"""Profile intervals and the parametric bootstrap, beside lme4."""
