"""Densities of single parameters, on grids."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from glmm_bayes.errors import UnknownNameError
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.tables import outer_draws

if TYPE_CHECKING:
    import xarray as xr

POINTS = 128  # of a kernel estimate's grid

type Curve = tuple[np.ndarray, np.ndarray]


def marginals(fit: PosteriorFit, names: str | Sequence[str] | None = None) -> pd.DataFrame:
    """
    Give the posterior densities of single parameters.

    Of `nested_laplace` they are the approximation's own, computed without its draws; of other
    posteriors kernel estimates from the draws, by ArviZ.

    Parameters
    ----------
    names
        Of parameters as tables and messages have them, `"beta[x]"`, `"sd_g[x]"`, `"sigma"`,
        `"b_g[level, x]"`, or of all with a common one: `"beta"`, `"b_g"`. By default all but the
        random effects.

    Returns
    -------
    DataFrame
        `name, x, density`: one row a point of a parameter's grid; the density integrates to one.
        What does not vary is left out.

    Raises
    ------
    UnknownNameError
        If there is no such parameter.
    """
    drawn, own = _drawn(fit), fit.densities
    found = {} if own is None else dict(_of_approximation(own))
    known = [name for name in drawn if own is None or name in found]
    parts = []
    for name in _asked(known, names, [f"b_{term.name}" for term in fit.model.design.terms]):
        x, density = _smoothed(drawn[name]) if own is None else found[name]
        if np.isfinite(density).all():
            parts.append(pd.DataFrame({"name": name, "x": x, "density": density}))
    columns = ["name", "x", "density"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _asked(known: list[str], names: str | Sequence[str] | None, effects: list[str]) -> list[str]:
    if names is None:
        return [name for name in known if name.split("[")[0] not in effects]
    found: list[str] = []
    for name in [names] if isinstance(names, str) else names:
        members = [k for k in known if name in (k, k.split("[")[0])]
        if not members:
            heads = dict.fromkeys(k.split("[")[0] for k in known)
            hint = suggestion(name, [*heads, *known[:50]])
            raise UnknownNameError(f"There is no parameter {name!r}. {hint}")
        found += members
    return list(dict.fromkeys(found))


def _of_approximation(densities: "xr.Dataset") -> Iterator[tuple[str, Curve]]:
    """Go through the entries of every variable, of symmetric ones once."""
    for head, values in densities.data_vars.items():
        dims = [str(dim) for dim in values.dims[2:]]
        curves = values.to_numpy()
        if not dims:
            yield str(head), (curves[0], curves[1])
            continue
        labels = [[str(label) for label in values.coords[dim].to_numpy()] for dim in dims]
        symmetric = len(dims) == 2 and dims[1] == f"{dims[0]}2"
        for at in product(*(range(len(part)) for part in labels)):
            if symmetric and at[0] >= at[1]:
                continue
            inside = ", ".join(part[k] for part, k in zip(labels, at, strict=True))
            yield f"{head}[{inside}]", (curves[0][:, *at], curves[1][:, *at])


def _drawn(fit: PosteriorFit) -> dict[str, np.ndarray]:
    found = outer_draws(fit)
    for term in fit.model.design.terms:
        b = fit.draws.effects[term.name]
        for j, level in enumerate(term.levels[: term.shown]):
            for c, column in enumerate(term.columns):
                found[f"b_{term.name}[{level}, {column}]"] = b[:, j, c]
    return found


def _smoothed(values: np.ndarray) -> Curve:
    from arviz_stats.base import array_stats

    if np.ptp(values) == 0:
        return values[:1], np.array([np.nan])
    x, density, _ = array_stats.kde(values, grid_len=POINTS)
    return x, density / np.trapezoid(density, x)
