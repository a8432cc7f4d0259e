"""The registered families that are made of others by `zeros`: one line a family."""

from glmm_bayes.families.binary import BETA_BINOMIAL, BINOMIAL
from glmm_bayes.families.compois import COMPOIS
from glmm_bayes.families.continuous import BETA, GAMMA, LOGNORMAL
from glmm_bayes.families.counts import NBINOM1, NEGBINOMIAL, POISSON
from glmm_bayes.families.dispersed import GENPOIS
from glmm_bayes.families.family import add_family
from glmm_bayes.families.zeros import hurdle, truncated, zero_inflated

BASES = (POISSON, NEGBINOMIAL, NBINOM1, GENPOIS, COMPOIS)
MADE = (
    *(zero_inflated(base) for base in (*BASES, BINOMIAL, BETA_BINOMIAL)),
    # A beta variable is never zero: all zeros are of the other kind.
    hurdle(BETA, name="zero_inflated_beta", parameter="zi"),
    *(hurdle(base) for base in (POISSON, NEGBINOMIAL, NBINOM1, COMPOIS, GAMMA, LOGNORMAL)),
    *(truncated(base) for base in BASES),
)
for _family in MADE:
    add_family(_family)
