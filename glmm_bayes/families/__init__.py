"""Families and links: one file a kind of response, all in `FAMILIES` and `LINKS`."""

from glmm_bayes.families import binary, continuous, counts
from glmm_bayes.families.family import FAMILIES, Family, Natural, Parameter, add_family
from glmm_bayes.families.links import LINKS, Link, add_link

__all__ = [
    "FAMILIES",
    "LINKS",
    "Family",
    "Link",
    "Natural",
    "Parameter",
    "add_family",
    "add_link",
    "binary",
    "continuous",
    "counts",
]
