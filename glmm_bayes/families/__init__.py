"""Families and links: one file a kind of response, all in `FAMILIES` and `LINKS`."""

from glmm_bayes.families import (
    bell,
    binary,
    circular,
    compois,
    continuous,
    counts,
    differences,
    diffusion,
    dispersed,
    mixtures,
    nominal,
    ordinal,
    positive,
    proportions,
    reaction_times,
    real,
    tweedie,
)
from glmm_bayes.families.categories import Categories
from glmm_bayes.families.family import (
    FAMILIES,
    Family,
    Natural,
    Parameter,
    add_family,
    is_registered,
)
from glmm_bayes.families.links import LINKS, Link, add_link
from glmm_bayes.families.mixture_of import mixture

__all__ = [
    "FAMILIES",
    "LINKS",
    "Categories",
    "Family",
    "Link",
    "Natural",
    "Parameter",
    "add_family",
    "add_link",
    "bell",
    "binary",
    "circular",
    "compois",
    "continuous",
    "counts",
    "differences",
    "diffusion",
    "dispersed",
    "is_registered",
    "mixture",
    "mixtures",
    "nominal",
    "ordinal",
    "positive",
    "proportions",
    "reaction_times",
    "real",
    "tweedie",
]
