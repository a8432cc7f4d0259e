"""Densities of single numbers in a nested approximation, on grids, without drawing."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from glmm_bayes.draws import Draws, beta_name, split_outer, thresholds_of, to_dataset
from glmm_bayes.engine.polynomials.surface import systematic
from glmm_bayes.posthoc.nested import Nested, moments_of

if TYPE_CHECKING:
    import xarray as xr

POINTS = 129  # of a grid
LINES = 512  # along which an outer parameter's density is integrated
MIXED, FEWER = 512, 128  # outer parameters over which coefficients are mixed, and effects
MOST_EFFECTS = 2000
WIDE = 5.0  # standard deviations on either side of the mean
BELOW = 1e-6  # of the highest density: a grid ends there
SKEWED = 0.9  # of a skew normal distribution, at most
STEP, ROUNDING = 1e-3, 1e-11  # of a standard deviation, to see what a number depends on; of it

type Curve = tuple[np.ndarray, np.ndarray]


def marginals(nested: Nested) -> "xr.Dataset":
    """
    Give every number's density, by the names and dimensions that draws of it have.

    Returns
    -------
    Dataset
        `name[axis, point, …]`: along `axis` the grid `"x"` and the `"density"` on it. Densities
        are NaN for what does not vary. Effects are left out where there are more than 2,000, and
        thresholds where they move with the mean's coefficients: those have draws only.

    Notes
    -----
    Of an outer parameter: the density of psi, integrated along lines on which all parameters move
    with it as they are correlated. Of coefficients and effects: a mixture over psi of skew normal
    densities. Of what depends on several outer parameters at once, such as the correlations of
    three columns: a kernel estimate.
    """
    import xarray as xr

    variables: dict[str, Any] = {}
    curves = dict(_of_outer(nested)) | dict(_of_coefficients(nested)) | dict(_of_effects(nested))
    for name, (dims, coords, found) in curves.items():
        shape = [len(coords[dim]) for dim in dims]
        stacked = np.stack([np.stack(curve) for curve in found], axis=-1)
        values = stacked.reshape(2, POINTS, *shape)
        variables[name] = xr.DataArray(values, dims=["axis", "point", *dims], coords=coords)
    return xr.Dataset(variables).assign_coords(axis=["x", "density"])


type Found = Iterator[tuple[str, tuple[list[str], dict[str, Any], list[Curve]]]]


# ---- outer parameters


def _of_outer(nested: Nested) -> Found:
    lines = [_line(nested, j) for j in range(nested.d)]
    middle, covariance = moments_of(nested.pool, nested.weights)
    moves = np.diag(np.sqrt(np.diag(covariance)))
    about = middle + STEP * np.concatenate([np.zeros((1, nested.d)), moves])
    near = _named(nested, about)
    along = [_named(nested, _moved(middle, j, line[0])) for j, line in enumerate(lines)]
    drawn: Any = None
    for name, values in near.items():
        flat = values.to_numpy().reshape(1 + nested.d, -1)
        found = []
        for i, entry in enumerate(flat.T):
            of = np.flatnonzero(np.abs(entry[1:] - entry[0]) > ROUNDING * (1 + abs(entry[0])))
            if len(of) > 1 and drawn is None:
                drawn = _named(nested, nested.pool[systematic(nested.weights, len(nested.pool))])
            if len(of) == 0:
                found.append((np.full(POINTS, entry[0]), np.full(POINTS, np.nan)))
            elif len(of) == 1:
                x = along[of[0]][name].to_numpy().reshape(POINTS, -1)[:, i]
                psi, density = lines[of[0]]
                found.append(_carried(psi, density, x))
            else:
                found.append(_smoothed(drawn[name].to_numpy().reshape(len(nested.pool), -1)[:, i]))
        dims = [str(dim) for dim in values.dims[2:]]
        yield name, (dims, {dim: values.coords[dim].to_numpy() for dim in dims}, found)


def _line(nested: Nested, j: int) -> Curve:
    """Integrate the density of psi over all but the j-th, `(POINTS,)`."""
    pool, weights = nested.pool, nested.weights
    _, covariance = moments_of(pool, weights)
    sd = np.sqrt(covariance[j, j])
    direction = covariance[:, j] / covariance[j, j]
    order = np.argsort(pool[:, j])
    some = pool[order[systematic(weights[order], LINES if nested.d > 1 else 1)]]
    low, high = pool[:, j].min() - 2 * sd, pool[:, j].max() + 2 * sd
    for _ in range(3):
        grid = np.linspace(low, high, POINTS)
        apart = grid[None, :] - some[:, j][:, None]
        psi = some[:, None, :] + apart[:, :, None] * direction
        height = nested.log_density(psi.reshape(-1, nested.d)).reshape(len(some), POINTS)
        # Each line is a conditional density, and their mean the marginal one.
        line = np.exp(height - height.max(axis=1, keepdims=True))
        density = (line / np.trapezoid(line, grid, axis=1)[:, None]).mean(axis=0)
        inside = np.flatnonzero(density > BELOW * density.max())
        first, last = max(inside[0] - 1, 0), min(inside[-1] + 1, POINTS - 1)
        if last - first > 0.8 * POINTS:
            break
        low, high = grid[first], grid[last]
    return grid, density / np.trapezoid(density, grid)


def _moved(middle: np.ndarray, j: int, grid: np.ndarray) -> np.ndarray:
    psi = np.tile(middle, (len(grid), 1))
    psi[:, j] = grid
    return psi


def _carried(psi: np.ndarray, density: np.ndarray, x: np.ndarray) -> Curve:
    """Carry a density to the values of a monotone function."""
    with np.errstate(all="ignore"):
        carried = density / np.abs(np.gradient(x, psi, edge_order=2))
    carried = np.where(np.isfinite(carried), carried, 0.0)
    if x[0] > x[-1]:
        x, carried = x[::-1], carried[::-1]
    return x, carried / np.trapezoid(carried, x)


def _smoothed(values: np.ndarray) -> Curve:
    from arviz_stats.base import array_stats

    x, density, _ = array_stats.kde(values, grid_len=POINTS)
    return x, density / np.trapezoid(density, x)


def _named(nested: Nested, psi: np.ndarray) -> dict[str, Any]:
    """Name what outer parameters `(S, d)` come to: all but the mean's coefficients and effects."""
    target, model = nested.target, nested.target.model
    gamma = np.zeros((len(psi), nested.given.k))
    beta, constants, structures = split_outer(model, target.theta(psi, gamma))
    none = {
        t.name: np.broadcast_to(0.0, (len(psi), len(t.levels), t.size)) for t in model.design.terms
    }
    data = to_dataset(model, Draws(beta, constants, structures, none, 1))
    dropped = {beta_name(model.main), *(f"b_{name}" for name in none)}
    if thresholds_of(model) and model.means("mu").any():
        dropped.add("thresholds")
    return {str(name): data[name] for name in data.data_vars if name not in dropped}


# ---- coefficients and effects


def _of_coefficients(nested: Nested) -> Found:
    model, given = nested.target.model, nested.given
    names = model.design.predictors[model.main].names
    if not names:
        return
    first = given.k + given.N
    found = _mixtures(nested, slice(first, first + len(names)), MIXED)
    fixed = ~given.turn.any(axis=0) if given.k else np.ones(len(names), dtype=bool)
    curves = [
        (np.full(POINTS, nested.nodes[0].mean[first + j]), np.full(POINTS, np.nan))
        if fixed[j]
        else curve
        for j, curve in enumerate(found)
    ]
    dim = "coef" if model.main == "mu" else f"coef_{model.main}"
    yield beta_name(model.main), ([dim], {dim: list(names)}, curves)


def _of_effects(nested: Nested) -> Found:
    given, terms = nested.given, nested.target.model.design.terms
    if given.N > MOST_EFFECTS:
        return
    for term, at in zip(terms, given.latent.places, strict=True):
        columns = slice(given.k + at.start, given.k + at.stop)
        dims = [term.label, f"{term.name}__coef"]
        coords = dict(zip(dims, (list(term.levels), list(term.columns)), strict=True))
        yield f"b_{term.name}", (dims, coords, _mixtures(nested, columns, FEWER))


def _mixtures(nested: Nested, columns: slice, size: int) -> list[Curve]:
    """Mix skew normal densities of some numbers over psi."""
    order = np.argsort(nested.frame.z(nested.pool)[:, -1]) if nested.d else np.zeros(1, dtype=int)
    at = order[systematic(nested.weights[order], size if nested.d else 1)]
    mean, sd, skewness = nested.moments(nested.pool[at], columns)
    middle = mean.mean(axis=0)
    whole = np.sqrt(np.mean(sd**2 + (mean - middle) ** 2, axis=0))
    grid = middle + whole * np.linspace(-WIDE, WIDE, POINTS)[:, None]
    found = []
    for j in range(mean.shape[1]):
        density = _skew_normal(grid[:, j, None], mean[:, j], sd[:, j], skewness[:, j]).mean(axis=1)
        found.append((grid[:, j], density / np.trapezoid(density, grid[:, j])))
    return found


def _skew_normal(
    x: np.ndarray, mean: np.ndarray, sd: np.ndarray, skewness: np.ndarray
) -> np.ndarray:
    """
    Give the density of Azzalini's skew normal distribution with given moments.

    Azzalini (1985), Scandinavian Journal of Statistics 12, 171-178.
    """
    from scipy.special import ndtr

    size = np.abs(np.clip(skewness, -SKEWED, SKEWED)) ** (2 / 3)
    delta = np.sign(skewness) * np.sqrt(np.pi / 2 * size / (size + (2 - np.pi / 2) ** (2 / 3)))
    scale = sd / np.sqrt(1 - 2 * delta**2 / np.pi)
    z = (x - mean) / scale + delta * np.sqrt(2 / np.pi)
    shape = delta / np.sqrt(1 - delta**2)
    return 2 / scale * np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi) * ndtr(shape * z)
