"""Log densities of models with unknown values: integrated over these, and as PyMC has them."""

import numpy as np
from pointmap import _block_values, pymc_logp

from glmm_bayes.density import read_density

STEP = 1e-5


class OverUnknown:
    """
    A model's log density as a function of its outer parameters alone.

    Where that is quadratic in all other coordinates, Laplace's method integrates them out
    exactly: with gradients of the density and differences of them only.
    """

    def __init__(self, model):
        self.model, self.joint = model, read_density(model)
        self.d = self.joint.outer.size

    def __call__(self, outer):
        """Integrate at `outer` `(d,)`, unconstrained, without the parameters' prior."""
        x = np.concatenate([outer, np.zeros(self.joint.size - self.d)])
        rise = [self._slope(x, k, STEP) - self._slope(x, k, -STEP) for k in range(self.d, len(x))]
        H = np.reshape(rise, (len(rise), len(rise))) / (2 * STEP)
        gradient = self.joint.value_and_gradient(x)[1][self.d :]
        x[self.d :] = np.linalg.solve(-H, gradient)
        value = self.joint.value_and_gradient(x)[0]
        theta = self.joint.outer.constrain(outer)
        prior = self.joint.outer.log_prior(theta)[0] + self.joint.outer.jacobian(outer, theta)[0]
        return value - prior - 0.5 * np.linalg.slogdet(-H)[1]

    def named(self, outer):
        """Give the outer parameters by block, coefficients those of columns as they are."""
        theta = self.joint.outer.constrain(outer)
        found = {name: theta[at] for name, at in self.model.layout.items()}
        for param in self.model.design.predictors:
            name = "beta" if param == "mu" else f"beta_{param}"
            gamma = found[name].copy()
            gamma[0] -= self.model.means(param) @ found[name]
            found[name] = gamma
        return found

    def _slope(self, x, k, step):
        moved = x.copy()
        moved[k] += step
        return self.joint.value_and_gradient(moved)[1][self.d :]


def gradient_error(model, seed=0):
    """Give the largest distance of the density's gradient from differences of its values."""
    joint = read_density(model)
    x = 0.4 * np.random.default_rng(seed).normal(size=joint.size)
    moved = STEP * np.eye(joint.size)
    value = [joint.value_and_gradient(x + h)[0] - joint.value_and_gradient(x - h)[0] for h in moved]
    return np.abs(joint.value_and_gradient(x)[1] - np.array(value) / (2 * STEP)).max()


def distances_from_pymc(model, times=3):
    """Give our log density less PyMC's, volumes of coordinates taken off, at several points."""
    joint, logp = read_density(model), pymc_logp(model)
    found = []
    for seed in range(times):
        x = 0.4 * np.random.default_rng(seed).normal(size=joint.size)
        named, volume = _pymc_point(model, joint, x)
        values = model.pymc.rvs_to_values
        assert set(named) == {rv.name for rv in model.pymc.free_RVs}
        point = {values[rv].name: np.asarray(named[rv.name]) for rv in model.pymc.free_RVs}
        found.append(joint.value_and_gradient(x)[0] - float(logp(**point)) - volume)
    return np.array(found)


TO_LINE = {"positive": np.log, "unit": lambda y: np.log(y / (1 - y)), "real": np.asarray}


def _pymc_point(model, joint, x):
    theta = joint.outer.constrain(x[: joint.outer.size])
    z = np.full(len(joint.outer.value), np.nan)
    z[joint.outer.free] = x[: joint.outer.size]
    named = {}
    for block in model.blocks:
        named |= _block_values(model, block, z[model.layout[block.name]], [])
    for term, effects in zip(model.design.terms, joint.effects, strict=True):
        assert not model.centering[term.name]
        named[f"v_{term.name}"] = x[effects.at].reshape(effects.q, effects.p)
    volume = 0.0
    pairs = zip(model.design.unknown, joint.unseen.sources, strict=True)
    for unseen, source in pairs:
        value = source.placed(x[source.at], theta)[1]
        if unseen.kind == "mi":
            named[unseen.names[0]] = TO_LINE[source.support](value[:, 0])
            continue
        named[f"true_{unseen.name}"] = value
        unit = np.eye(value.size)
        moves = [source.placed(x[source.at] + h, theta)[1] - value for h in unit]
        volume += np.linalg.slogdet(np.stack(moves).reshape(len(unit), -1))[1]
    return named, volume
