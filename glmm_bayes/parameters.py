"""The outer parameters of a model: their names, supports and priors, default or the user's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glmm_bayes.covariance import CovarianceParameter, Structure
from glmm_bayes.covariance.structure import refuse_prior
from glmm_bayes.design import INTERCEPT, Design, Predictor
from glmm_bayes.errors import DataError, NotSupportedError, UnknownNameError
from glmm_bayes.families import Family, Link, Parameter
from glmm_bayes.observed import Observed
from glmm_bayes.priors import REAL, Prior, as_prior
from glmm_bayes.registry import suggestion
from glmm_bayes.residual import Residuals
from glmm_bayes.terms import RandomTerm
from glmm_bayes.unseen import Measured

THRESHOLDS = "thresholds"


@dataclass(frozen=True, eq=False)
class Block:
    """
    Outer parameters that stand together under one name.

    Attributes
    ----------
    name
        What results call them: `beta`, `sd_subject`, `sigma`; for a vector that is sampled in
        place of the reported one, the sampled one's name (`partial_subject`).
    labels
        One an entry; empty for a scalar.
    dim
        The dimension that the labels are coordinates of, if they are.
    keys
        For each entry, the names that a user's prior may have, the narrowest first.
    support
        The open interval of the values.
    priors, sources
        One an entry; `"default"`, or the user's name for it.
    structure
        For a structure's parameter, what turns a prior of the reported value into the entries'.
    stated
        Where the reported value is not what is sampled, the prior of that.
    spreads
        For coefficients and standard deviations, what one unit of each adds to the predictor where
        its column is one standard deviation off; `()` for others.
    """

    name: str
    labels: tuple[str, ...]
    dim: str | None
    keys: tuple[tuple[str, ...], ...]
    support: tuple[float, float]
    priors: tuple[Prior, ...]
    sources: tuple[str, ...]
    structure: Callable[[Prior], tuple[Prior, ...]] | None = None
    stated: Prior | None = None
    spreads: tuple[float, ...] = ()

    def expand(self, prior: Prior) -> tuple[Prior, ...]:
        """Turn a prior of the whole block into one for each entry."""
        if self.structure is not None:
            return self.structure(prior)
        return tuple(prior.element(k, self.size) for k in range(self.size))

    @property
    def size(self) -> int:
        """The number of entries, 1 for a scalar."""
        return len(self.priors)

    @property
    def scalar(self) -> bool:
        """Whether this is a single number without labels."""
        return not self.labels


@dataclass(frozen=True)
class Scale:
    """Where an intercept lies by default, `m` within `s`, and how far effects `reach`."""

    m: float
    s: float
    reach: float


def default_scales(family: Family, links: Mapping[str, Link], design: Design) -> dict[str, Scale]:
    """
    Read the scales of the default priors off the response, for every parameter of the family.

    Notes
    -----
    For mu, m = median g(y) and s = max(2.5, 1.4826 MAD g(y)) where its link is identity or log,
    with 0.1 for log(0); else m = 0, s = 2.5. The same rule as brms's; effects reach as far as s.
    For the other parameters m = 0, or g(s of mu) where they are in the response's own unit, or
    g(half the smallest response) where they lie below it; s = 2.5, and effects reach 1.
    """
    if family.categories is not None:
        return _scales_of_categories(family)
    means = {"mu": family} if family.mixed is None else family.mixed.means
    scales = {name: _scale_of_mean(name, own, links, design) for name, own in means.items()}
    for parameter in (p for p in family.parameters if p.name not in means):
        s = next(iter(scales.values())).s
        m = links[parameter.name].linkfun(s) if parameter.scaled else 0.0
        if parameter.below:
            m = links[parameter.name].linkfun(0.5 * np.min(np.abs(design.y)))
        scales[parameter.name] = Scale(_rounded(float(m)), 2.5, 1.0)
    return scales


def scales_by_response(
    parts: Sequence[Observed], family: Family, links: Mapping[str, Link]
) -> dict[str, Scale]:
    """Read the scales of the default priors off each response, of its own parameters."""
    scales: dict[str, Scale] = {}
    for part in parts:
        own = {name: links[whole] for name, whole in part.names.items()}
        found = default_scales(part.family, own, part.design)
        scales |= {part.names[name]: scale for name, scale in found.items()}
    # What belongs to no single response, such as correlations.
    return {p.name: scales.get(p.name, Scale(0.0, 2.5, 1.0)) for p in family.parameters}


def _scales_of_categories(family: Family) -> dict[str, Scale]:
    """Take effects on a latent variable, and its thresholds, for those of a logit."""
    assert family.categories is not None
    latent = {*family.categories.means, *family.categories.parameters}
    return {p.name: Scale(0.0, 2.5, 2.5 if p.name in latent else 1.0) for p in family.parameters}


def _scale_of_mean(param: str, family: Family, links: Mapping[str, Link], design: Design) -> Scale:
    link = links[param]
    if link.name not in ("identity", "log"):
        return Scale(0.0, 2.5, 2.5)
    y = family.working(design.y)
    if link.name == "log":
        y = np.log(np.where(y > 0, y, 0.1))
    m = float(np.median(y))
    s = max(2.5, _rounded(1.4826 * float(np.median(np.abs(y - m)))))
    return Scale(_rounded(m - float(np.mean(design.predictors[param].offset))), s, s)


def coefficient_block(predictor: Predictor, scale: Scale, user: Mapping[str, Any]) -> Block:
    """
    Describe the coefficients gamma of one predictor.

    gamma is beta, but for the Intercept where it is centred: there it is the predictor at the
    means of the other columns, whose prior is called `intercept`.
    """
    suffix = "" if predictor.param == "mu" else f"_{predictor.param}"
    name = f"beta{suffix}"
    centred = centred_intercept(predictor, user)
    keys, priors, spreads = [], [], []
    step, steps = predictor.part.step, predictor.monotonic_columns
    for k, label in enumerate(predictor.names):
        spreads.append(float(np.std(predictor.X[:, k])) or 1.0)
        if step is not None and k == 0:
            keys.append(_threshold_keys(step, user))
            priors.append(Prior("StudentT", nu=3.0, mu=scale.m, sigma=scale.s))
        elif label == INTERCEPT:
            keys.append((f"intercept{suffix}",) if centred else (f"{name}[{label}]", name))
            priors.append(Prior("StudentT", nu=3.0, mu=scale.m, sigma=scale.s))
        else:
            shown = name if step is None else "beta"
            # Steps have no prior of their own: what they are made of has.
            keys.append(() if k in steps else (f"{shown}[{label}]", shown))
            priors.append(Prior("Normal", mu=0.0, sigma=_rounded(2.5 * scale.reach / spreads[k])))
    return Block(
        name=name,
        labels=predictor.names,
        dim=f"coef{suffix}",
        keys=tuple(keys),
        support=REAL,
        priors=tuple(priors),
        sources=("default",) * len(priors),
        spreads=tuple(spreads),
    )


def centred_intercept(predictor: Predictor, user: Mapping[str, Any]) -> bool:
    """
    Tell whether the predictor's columns are centred about their means while sampling.

    They are if there is an Intercept, unless a user's prior speaks of the Intercept itself: by
    `beta[Intercept]`, or by `beta` without a prior of its own for `intercept`; one that shrinks
    coefficients together does not. The columns of a mean with thresholds are, unless a user's
    prior speaks of `thresholds`.
    """
    if not predictor.part.intercept:
        return predictor.param == "mu" and not _speaks_of_thresholds(user)
    suffix = "" if predictor.param == "mu" else f"_{predictor.param}"
    spoken = {
        key
        for key in (f"beta{suffix}", f"beta{suffix}[{INTERCEPT}]")
        if key in user and not (key == f"beta{suffix}" and _shrinks(user[key]))
    }
    return INTERCEPT in predictor.names and (f"intercept{suffix}" in user or not spoken)


def _shrinks(value: Any) -> bool:
    return isinstance(value, Prior) and value.is_whole


def _speaks_of_thresholds(user: Mapping[str, Any]) -> bool:
    return any(key.split("[")[0] == THRESHOLDS for key in user)


def _threshold_keys(step: str, user: Mapping[str, Any]) -> tuple[str, ...]:
    """Name a threshold's prior: `intercept` is that at the means of the mean's columns."""
    name = THRESHOLDS if _speaks_of_thresholds(user) else "intercept"
    return (f"{name}[{step}]", name)


def structure_blocks(term: RandomTerm, scales: Mapping[str, Scale]) -> Iterator[Block]:
    """Describe the parameters of one random term's structures."""
    reach = np.array([_rounded(_reach(term, k, scales)) for k in range(term.size)])
    for structure, size in term.structures:
        for parameter in structure.parameters(size):
            default = structure.default_prior(parameter.key)
            if default is None:
                default = structure.scaled_prior(parameter, reach)
            block = _structure_block(term, structure, size, parameter, default)
            if parameter.name == "sd" and "sigma" in default.arguments:
                # The entries' own, or that of the one that all columns have.
                own = np.broadcast_to(np.asarray(default.arguments["sigma"]), parameter.size)
                whole = next(iter(scales.values())).reach
                block = replace(block, spreads=tuple(float(whole / sigma) for sigma in own))
            yield block


def residual_blocks(residual: Residuals) -> Iterator[Block]:
    """Describe the parameters of the residuals' structure, whose scale is sigma's."""
    structure, size = residual.structures[1]
    for parameter in structure.parameters(size):
        default = structure.default_prior(parameter.key)
        assert default is not None
        yield _structure_block(residual, structure, size, parameter, default)


def measured_blocks(measured: Measured) -> Iterator[Block]:
    """Describe the distribution of what was measured with errors: by the measurements' spread."""
    middle, spread = np.median(measured.x, axis=0), np.std(measured.x, axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    name = f"mean_{measured.name}"
    yield Block(
        name=name,
        labels=measured.columns,
        dim=f"{measured.name}__coef",
        keys=tuple((f"{name}[{column}]", name) for column in measured.columns),
        support=REAL,
        priors=tuple(
            Prior("StudentT", nu=3.0, mu=_rounded(float(m)), sigma=_rounded(float(s)))
            for m, s in zip(middle, spread, strict=True)
        ),
        sources=("default",) * measured.size,
    )
    structure, size = measured.structure, measured.size
    reach = np.array([_rounded(float(s)) for s in spread])
    for parameter in structure.parameters(size):
        default = structure.default_prior(parameter.key)
        if default is None:
            default = structure.scaled_prior(parameter, reach)
        block = _structure_block(measured, structure, size, parameter, default)
        # Its names have no short form: `sd` is of random effects.
        yield replace(block, keys=tuple(keys[:-1] for keys in block.keys))


def _expansion(
    structure: Structure, parameter: CovarianceParameter, size: int
) -> Callable[[Prior], tuple[Prior, ...]]:
    def expand(prior: Prior) -> tuple[Prior, ...]:
        if prior.is_fixed and parameter.name != parameter.key:
            raise refuse_prior(structure.name, parameter.key, prior, "a distribution")
        return structure.entry_priors(parameter, prior, size)

    return expand


def _structure_block(
    term: RandomTerm | Residuals | Measured,
    structure: Structure,
    size: int,
    parameter: CovarianceParameter,
    default: Prior,
) -> Block:
    whole, stand_in = f"{parameter.key}_{term.name}", parameter.name != parameter.key
    labels: tuple[str, ...] = ()
    dim = "coef" if parameter.by_column else parameter.dim
    if stand_in:
        labels = tuple(str(k) for k in range(parameter.size))
    elif dim is not None:
        labels = term.columns if parameter.by_column else structure.coordinates(size)[dim]
    keys: list[tuple[str, ...]] = [(whole, parameter.key)] * parameter.size
    if labels and not stand_in:
        keys = [(f"{whole}[{label}]", whole, parameter.key) for label in labels]
    expand = _expansion(structure, parameter, size)
    return Block(
        name=f"{parameter.name}_{term.name}",
        labels=labels,
        dim=f"{term.name}__{dim}" if labels and not stand_in else None,
        keys=tuple(keys),
        support=parameter.support,
        priors=expand(default),
        sources=("default",) * parameter.size,
        structure=expand,
        stated=default if stand_in else None,
    )


def _reach(term: RandomTerm, k: int, scales: Mapping[str, Scale]) -> float:
    """Scale a column's standard deviation: s for a constant or an indicator, else s / sd(z)."""
    size = term.column_size(k)
    return scales[term.param_of(k)].reach / (size * term.level_structure.spread)


def constant_block(
    parameter: Parameter, scale: Scale, least: float, user: Mapping[str, Any]
) -> Block:
    """Describe a family parameter that has no formula, given the smallest response."""
    name, prior = parameter.name, parameter.prior
    if prior is None and name not in user:
        raise UnknownNameError(
            f"The parameter {name!r} has no default prior; give it one in `priors`, or a "
            f"formula: '{name} ~ 1'."
        )
    if prior is None:
        prior = as_prior(user[name], name)
    elif parameter.scaled:
        sigma = _rounded(prior.arguments["sigma"] * scale.s)
        prior = Prior(prior.distribution, **{**prior.arguments, "sigma": sigma})
    elif parameter.below:
        upper = prior.arguments["upper"] * least
        prior = Prior(prior.distribution, **{**prior.arguments, "upper": upper})
    return Block(name, (), None, ((name,),), parameter.support, (prior,), ("default",))


def with_user_priors(blocks: Sequence[Block], user: Mapping[str, Any]) -> tuple[Block, ...]:
    """
    Put the user's priors in place of the defaults, the narrowest name winning.

    Raises
    ------
    UnknownNameError
        If a name is that of no parameter; the message suggests one.
    DataError
        If a prior has the wrong number of entries, or reaches outside the parameter's support.
    """
    known = dict.fromkeys(key for block in blocks for keys in block.keys for key in keys)
    for key in user:
        if key not in known:
            raise UnknownNameError(
                f"There is no parameter {key!r} to have a prior. {suggestion(key, known)}"
            )
    given = {key: as_prior(value, key) for key, value in user.items()}
    return tuple(_overridden(block, given) for block in blocks)


def _overridden(block: Block, given: Mapping[str, Prior]) -> Block:
    priors, sources = list(block.priors), list(block.sources)
    for k, keys in enumerate(block.keys):
        key = next((key for key in keys if key in given), None)
        if key is None:
            continue
        if given[key].is_whole:
            priors[k], sources[k] = _one_of_many(given[key], block, k, key), key
            continue
        members = [j for j, other in enumerate(block.keys) if key in other]
        if block.stated is None:
            names = [block.labels[j] for j in members] if block.labels else [key]
            _check_shape(given[key], key, names)
        if len(members) == block.size:
            priors[k] = block.expand(given[key])[k]
        else:
            priors[k] = given[key].element(members.index(k), len(members))
        _check_support(priors[k], block, key)
        sources[k] = key
    stated = given.get(sources[0], block.stated) if block.stated is not None else None
    return replace(block, priors=tuple(priors), sources=tuple(sources), stated=stated)


def _one_of_many(prior: Prior, block: Block, k: int, key: str) -> Prior:
    """Give an entry's part of a prior of several parameters together."""
    is_intercept = bool(block.labels) and block.labels[k] == INTERCEPT and block.support == REAL
    if block.scalar and block.spreads and prior.is_dependent:
        raise NotSupportedError(
            f"{block.keys[k][0]!r} cannot be shrunk together with other coefficients, as "
            f"{prior!r} would: give it a prior of its own."
        )
    if not block.spreads or block.support != prior.support or is_intercept:
        of = "standard deviations, as 'sd'" if prior.support[0] == 0 else "slopes, as 'beta'"
        raise DataError(f"The prior of {key!r}, {prior!r}, is one of {of}.")
    if prior.distribution == "Lasso":
        return Prior("Laplace", mu=0.0, b=prior.arguments["scale"] / block.spreads[k])
    return prior


def _check_shape(prior: Prior, key: str, members: Sequence[str]) -> None:
    for name, value in prior.arguments.items():
        if isinstance(value, Prior):
            _check_shape(value, key, members)
        elif np.ndim(value) and np.shape(value) != (len(members),):
            raise DataError(
                f"The prior of {key!r} has {name} with {np.shape(value)} entries, but it speaks "
                f"of {len(members)}: {', '.join(members)}."
            )


def _check_support(prior: Prior, block: Block, key: str) -> None:
    lower, upper = prior.support
    low, high = block.support
    if prior.is_fixed:
        if not low < lower < high:
            raise DataError(f"{key!r} cannot be {lower:g}: it lies between {low:g} and {high:g}.")
    elif lower < low or upper > high:
        raise DataError(
            f"The prior of {key!r}, {prior!r}, reaches outside ({low:g}, {high:g}), where the "
            f"parameter lies; take a distribution on that interval, such as "
            f"{'HalfNormal' if high == np.inf else 'Beta or Uniform'}, or gb.Prior('Truncated', "
            f"dist={prior!r}, lower={low:g}{'' if high == np.inf else f', upper={high:g}'})."
        )


def _rounded(x: float) -> float:
    """Round to three digits, as a prior's argument is read rather than computed with."""
    return float(f"{x:.3g}")
