"""A point of our density as the point of PyMC's that it stands for, and PyMC's density there."""

import numpy as np
import pytensor
from pytensor.compile.mode import Mode

from glmm_bayes.compile import ASCENDING, forms_of, part_names, sampled_name
from glmm_bayes.draws import ascending

PYTHON = Mode(linker="py", optimizer="fast_compile")


def pymc_logp(model):
    """Compile the log density of `model.pymc` as a function of its value variables, by name."""
    built = model.pymc
    return pytensor.function(built.value_vars, built.logp(), mode=PYTHON)


def pymc_point(model, joint, x):
    """Give the value variables of `model.pymc` at x, both on the unconstrained scale."""
    z = np.full(len(joint.outer.value), np.nan)
    z[joint.outer.free] = x[: joint.outer.size]
    named = {}
    apart = ascending(model)
    for block in model.blocks:
        at = [apart[block.name]] if block.name in apart else []
        named |= _block_values(model, block, z[model.layout[block.name]], at)
    if apart:
        named[ASCENDING] = z[joint.outer.rising]
    bs = [b[0] for b in joint.unpack(x[None])[1]]
    for term, effects, b in zip(model.design.terms, joint.effects, bs, strict=True):
        if model.centering[term.name]:
            named[f"b_{term.name}"] = b
        else:
            named[f"v_{term.name}"] = x[effects.at].reshape(effects.q, effects.p)
    values = model.pymc.rvs_to_values
    assert set(named) == {rv.name for rv in model.pymc.free_RVs}
    return {values[rv].name: np.asarray(named[rv.name]) for rv in model.pymc.free_RVs}


def _block_values(model, block, z, apart):
    name, forms = sampled_name(model, block), forms_of(block, apart)
    if block.scalar:
        return {} if block.priors[0].is_fixed else {name: z[0]}
    sampled = [not (prior.is_fixed or prior.is_dependent) for prior, _ in forms]
    if sampled == [True] and not apart:
        return {name: z}
    parts = zip(part_names(name, forms), forms, sampled, strict=True)
    return {part: z[at] for part, (_, at), own in parts if own}
