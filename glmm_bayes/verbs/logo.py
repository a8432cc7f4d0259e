"""Leave-one-group-out cross-validation, the group's effects integrated out."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr

from glmm_bayes.draws import Draws, factors, to_dataset
from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.engine.integrals.apart import Apart
from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.model import Model
from glmm_bayes.modes.normal import is_marginally_normal
from glmm_bayes.modes.reading import read_rows
from glmm_bayes.predictive import linear_predictor
from glmm_bayes.residual import refuse_residual
from glmm_bayes.terms import RandomTerm
from glmm_bayes.verbs.elpd import ELPDDataLOGO, log_mean, totals
from glmm_bayes.verbs.folds import Levels, levels_of, without

ROOM = 1_000_000  # numbers of an array, draws by rows by effects
CELLS = 1_000_000  # draws times rows: beyond, evenly spaced draws are taken


def logo(fit: PosteriorFit, group: str | None = None, *, refit: bool = False) -> ELPDDataLOGO:
    """
    Estimate by importance sampling how well each level of a group is predicted from the others.

    Parameters
    ----------
    group
        A group of the model, or a column of the data; may be left out where the model has one
        group.
    refit
        Whether the model is fitted again without each level whose Pareto k is too large; its k is
        then 0.

    Returns
    -------
    ELPDDataLOGO
        As what `loo` gives, with the levels as its points: `elpd, se, p, pareto_k, elpd_i` …, for
        `gb.compare`. Each is the log density of all rows of the level together.

    Raises
    ------
    UnknownNameError
        If there is no such group.
    DataError
        If there are several groups and none is named.
    NotSupportedError
        If effects of the group are not independent between levels, or not normal; if residuals
        have a structure.

    Warns
    -----
    UserWarning
        By ArviZ, where a level is too influential (large Pareto k) for the estimate to be trusted.

    Notes
    -----
    At every draw the effects of the level, and of all terms nested in the group, are integrated
    out: exactly for normal responses, by adaptive quadrature of one or two effects, by importance
    sampling of more. With the effects as drawn, which the level's own rows have determined, the
    weights would have no finite variance: Merkle, Furr & Rabe-Hesketh (2019), Psychometrika 84,
    802-829. Effects of other terms are those of the draws, which other levels inform too; so a
    crossed term is not left out.
    """
    import arviz as az

    levels, group = _chosen(fit.model, group)
    draws = _thinned(fit.draws, fit.model.nobs)
    values = integrated(fit.model, draws, levels, seed=fit.seed)
    posterior = to_dataset(fit.model, draws)
    names = [name for name in posterior.data_vars if not str(name).startswith("b_")]
    coords = {**{dim: posterior[dim] for dim in ("chain", "draw")}, group: list(levels.names)}
    shaped = values.reshape(draws.chains, -1, values.shape[1])
    tree = xr.DataTree.from_dict(
        {
            "posterior": posterior[names],
            "log_likelihood": xr.Dataset({"y": (list(coords), shaped)}, coords),
        }
    )
    with warnings.catch_warnings():
        if refit:
            warnings.simplefilter("ignore", UserWarning)
        found = ELPDDataLOGO(**vars(az.loo(tree, pointwise=True)))
    return _refitted(fit, levels, found, log_mean(values)) if refit else found


def _refitted(
    fit: PosteriorFit, levels: Levels, found: ELPDDataLOGO, lpd: np.ndarray
) -> ELPDDataLOGO:
    """Predict the levels whose weights are not reliable from fits without them."""
    elpd, k = found.elpd_i.copy(), found.pareto_k.copy()
    options = {**fit.options, **({"progressbar": False} if "progressbar" in fit.options else {})}
    for g in map(int, np.flatnonzero(k.to_numpy() > found.good_k)):
        again = without(fit.model, levels.of == g).fit(fit.method, seed=fit.seed, **options)
        draws = _thinned(again.draws, fit.model.nobs)
        elpd[g] = log_mean(integrated(fit.model, draws, levels, seed=fit.seed, only=g))[0]
        k[g] = 0.0
    whole = totals(elpd, elpd.copy(data=lpd - elpd.to_numpy()))
    return ELPDDataLOGO(**{**vars(found), **whole, "pareto_k": k, "warning": False})


def _chosen(model: Model, group: str | None) -> tuple[Levels, str]:
    if group is not None:
        return levels_of(model, group), group
    labels = {term.label for term in model.design.terms if not term.common}
    if len(labels) != 1:
        raise DataError(
            f"The model has {len(labels)} groups; say which to leave out: "
            f"{', '.join(f'logo({label!r})' for label in sorted(labels)) or 'a column'}."
        )
    (only,) = labels
    return levels_of(model, only), only


def _thinned(draws: Draws, n: int) -> Draws:
    length, step = draws.size // draws.chains, max(1, -(-draws.size * n // CELLS))
    if step == 1:
        return draws
    at = np.arange(draws.size).reshape(draws.chains, length)[:, ::step].ravel()
    found = draws.thinned(at)
    return Draws(found.beta, found.constants, found.theta, found.effects, draws.chains)


def integrated(
    model: Model, draws: Draws, levels: Levels, *, seed: int, only: int | None = None
) -> np.ndarray:
    """
    Give the log density `(S, G)` of each level's rows, or of one's, its effects integrated out.

    Raises
    ------
    NotSupportedError
        See `logo`.
    """
    nested = _nested(model, levels)
    kept = {
        name: np.zeros_like(b) if any(t.name == name for t in nested) else b
        for name, b in draws.effects.items()
    }
    base = _predictors(model, draws, kept)
    Lambdas = [factors(term, draws.theta) for term in nested]
    which = range(len(levels.names)) if only is None else (only,)
    exact, found = is_marginally_normal(model), np.empty((draws.size, len(which)))
    with one_thread(), np.errstate(all="ignore"):
        for column, g in enumerate(which):
            rows, rng = np.flatnonzero(levels.of == g), np.random.default_rng([seed, g])
            part = _Part(model, [term.take(rows) for term in nested], rows)
            for at in part.pieces(draws.size):
                apart = part.apart(base[:, at][:, :, rows], [L[at] for L in Lambdas])
                found[at, column] = apart.log_integrals(rng, exact=exact)
    return found


def _nested(model: Model, levels: Levels) -> list[RandomTerm]:
    """List the terms whose levels have all their rows in one level of the group."""
    refuse_residual(model.design.residual, "logo()")
    found = []
    for term in model.design.terms:
        if term.index.shape[1] > 1 or term.common:
            continue
        first = np.full(len(term.levels), -1)
        first[term.index[:, 0]] = levels.of
        if (first[term.index[:, 0]] == levels.of).all():
            _check_integrable(term)
            found.append(term)
    return found


def _check_integrable(term: RandomTerm) -> None:
    between = term.level_structure
    if between.pairs is not None or between.distribution is not None:
        why = "depend on each other" if between.pairs is not None else "are not normal"
        raise NotSupportedError(
            f"The effects of {term.text!r} {why}, and leaving a level out with its effects "
            f"integrated is not built for these: kfold(group=…) refits without levels."
        )


def _predictors(model: Model, draws: Draws, effects: dict[str, np.ndarray]) -> np.ndarray:
    """Give all parameters on their links' scale, `(P, S, n)`."""
    shape, found = (draws.size, model.nobs), []
    for parameter in model.family.parameters:
        name = parameter.name
        if name in model.constants:
            own = model.links[name].linkfun(draws.constants[name])
            found.append(np.broadcast_to(own[:, None], shape))
        else:
            found.append(linear_predictor(model.design, draws, effects, name))
    return np.stack(found)


@dataclass(frozen=True, eq=False)
class _Part:
    """The n rows of one level, and the terms that are integrated over, for these rows."""

    model: Model
    terms: list[RandomTerm]
    rows: np.ndarray

    @property
    def loaded(self) -> np.ndarray:
        """The numbers of the predictors that the effects load on."""
        names = [p.name for p in self.model.family.parameters]
        found = {names.index(loading.param) for term in self.terms for loading in term.loadings}
        return np.array(sorted(found), dtype=int)

    def pieces(self, size: int) -> Iterator[slice]:
        """Cut draws into runs that fit into memory."""
        d = sum(len(np.unique(term.index)) * term.size for term in self.terms)
        step = max(1, ROOM // (len(self.rows) * (1 + len(self.loaded)) * (1 + d)))
        for start in range(0, size, step):
            yield slice(start, min(start + step, size))

    def apart(self, base: np.ndarray, Lambdas: list[np.ndarray]) -> Apart:
        """Put the integrals of S draws together, predictors `(P, S, n)` without the effects."""
        P, S, n = base.shape
        rows = lru_cache(maxsize=2)(lambda size: read_rows(self.model, np.tile(self.rows, size)))
        one, at = read_rows(self.model, self.rows), base[:, 0]
        constant, loaded = one(at, 1).value - density_of(one, at), self.loaded
        R = len(loaded)

        def value(eta: np.ndarray) -> np.ndarray:
            flat = eta.reshape(P, -1)
            return density_of(rows(eta.shape[1]), flat).reshape(-1, n) + constant

        def slopes(eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            found = rows(eta.shape[1])(eta.reshape(P, -1), 2, tuple(loaded))
            pairs = np.ix_(loaded, loaded)
            return found.first[loaded].reshape(R, -1, n), -found.second[pairs].reshape(R, R, -1, n)

        return Apart(value, slopes, loaded, base, self._moves(Lambdas, S))

    def _moves(self, Lambdas: list[np.ndarray], S: int) -> np.ndarray:
        """Give how the predictors move with effects in standard units, `(R, S, n, d)`."""
        names, n = [p.name for p in self.model.family.parameters], len(self.rows)
        loaded = list(self.loaded)
        blocks = [np.empty((len(loaded), S, n, 0))]
        for term, Lambda in zip(self.terms, Lambdas, strict=True):
            used, at = np.unique(term.index[:, 0], return_inverse=True)
            block = np.zeros((len(loaded), S, n, len(used), term.size))
            for loading in term.loadings:
                moved = np.einsum(
                    "nc,scp->nsp", loading.Z * term.weights, Lambda[:, loading.columns]
                )
                block[loaded.index(names.index(loading.param)), :, np.arange(n), at] += moved
            blocks.append(block.reshape(len(loaded), S, n, -1))
        return np.concatenate(blocks, axis=-1)


def density_of(rows: Any, eta: np.ndarray) -> np.ndarray:
    """Give the rows' log density without its constant."""
    found: np.ndarray = rows.value(eta)
    return found
