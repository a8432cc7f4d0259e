"""Normal and t responses with correlated residuals: density and slopes, whatever is missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import digamma, gammaln

from glmm_bayes.arrays import NUMPY
from glmm_bayes.families.continuous import HALF_LOG_2PI
from glmm_bayes.families.family import Array, Params

if TYPE_CHECKING:
    from glmm_bayes.families.several import Part

TAILS = "nu"  # of a multivariate t, whose responses have their tails in common

type Rows = list[list[Any]]  # of a lower triangular matrix, each entry a number or one a row
type Pairs = Mapping[tuple[int, int], Any]


@dataclass(frozen=True, eq=False)
class Correlated:
    """
    R responses with correlated residuals.

    Attributes
    ----------
    parts
        The responses.
    correlations
        The names of the partial correlations, in the order of `pairs`.
    shared
        `"gaussian"`, or `"student"`: multivariate t.
    """

    parts: "Sequence[Part]"
    correlations: Sequence[str]
    shared: str

    def partial(self, params: Params) -> dict[tuple[int, int], Any]:
        """Give the partial correlations by pair."""
        names = zip(pairs(len(self.parts)), self.correlations, strict=True)
        return {pair: params[name] for pair, name in names}

    def root(self, params: Params, xp: Any = NUMPY) -> Rows:
        """Give the Cholesky factor of the residuals' correlation matrix."""
        return root(self.partial(params), len(self.parts), xp)

    def density(self, y: Any, present: Array, views: Any, params: Params, xp: Any) -> Any:
        """Give the log density of the responses that each row has, `present` `(n, R)`."""
        L, total = self.root(params, xp), 0.0
        kinds = list(_kinds(present))
        for chosen, rows in kinds:
            z, logs = self._standard(y, chosen, rows, params, xp)
            found = _log_density(z, root_of(L, chosen, xp), params, self.shared, xp) - logs
            total = found if len(kinds) == 1 else total + xp.where(rows, found, 0.0)
        return total

    def _standard(
        self, y: Any, chosen: Array, rows: Array, params: Params, xp: Any
    ) -> tuple[list[Any], Any]:
        """Give some responses' standard residuals, and the sum of the logs of their sigmas."""
        z, logs = [], 0.0
        for r in chosen:
            own, value = self.parts[r].own(params), y[..., r]
            value = value if rows.all() else xp.where(rows, value, self.parts[r].filler)
            z.append((value - own["mu"]) / own["sigma"])
            logs = logs + xp.log(own["sigma"])
        return z, logs

    def score(self, y: Array, given: Any, params: Params) -> dict[str, Array]:
        """Give the slopes of the log density by the parameters, by name."""
        L, size = self.root(params), len(self.parts)
        found: dict[str, Any] = dict.fromkeys(
            [name for part in self.parts for name in part.names.values()], 0.0
        )
        by_pair: dict[tuple[int, int], Any] = dict.fromkeys(pairs(size), 0.0)
        for chosen, rows in _kinds(~np.isnan(y)):
            z, _ = self._standard(y, chosen, rows, params, NUMPY)
            M = inverse(root_of(L, chosen, NUMPY))
            w, by_nu, stretch = _whitened(z, M, params, self.shared)
            if self.shared == "student":
                found[TAILS] = found[TAILS] + np.where(rows, by_nu, 0.0)
            for a, r in enumerate(chosen):
                names, sigma = self.parts[r].names, self.parts[r].own(params)["sigma"]
                pull = stretch * w[a]
                for name, slope in (("mu", pull), ("sigma", pull * z[a] - 1.0)):
                    whole = names[name]
                    found[whole] = found[whole] + np.where(rows, slope / sigma, 0.0)
                for b, other in enumerate(chosen[:a]):
                    covariance = sum(M[k][a] * M[k][b] for k in range(a, len(chosen)))
                    slope = stretch * w[a] * w[b] - covariance
                    by_pair[r, other] = by_pair[r, other] + np.where(rows, slope, 0.0)
        slopes = _by_partial(self.partial(params), L, by_pair)
        return found | dict(zip(self.correlations, slopes, strict=True))


def pairs(size: int) -> Iterator[tuple[int, int]]:
    """List the pairs (i, j), j < i, by rows."""
    return ((i, j) for i in range(size) for j in range(i))


def _kinds(present: Array) -> Iterator[tuple[Array, Array]]:
    """Give the sets of responses that rows have, and which rows these are."""
    code = present @ 2 ** np.arange(present.shape[-1])
    for each in np.unique(code):
        rows = code == each
        yield np.flatnonzero(present[np.argmax(rows)]), rows


def root(partial: Pairs, size: int, xp: Any) -> Rows:
    """Give the Cholesky factor, by rows, of the correlation matrix of partial correlations."""
    L: Rows = []
    for i in range(size):
        row: list[Any] = []
        left: Any = 1.0
        for j in range(i):
            row.append(partial[i, j] * left)
            left = left * xp.sqrt(1 - partial[i, j] ** 2)
        L.append([*row, left])
    return L


def product(L: Rows, i: int, j: int) -> Any:
    """Give an entry of L L'."""
    found: Any = L[i][0] * L[j][0]
    for k in range(1, min(i, j) + 1):
        found = found + L[i][k] * L[j][k]
    return found


def root_of(L: Rows, chosen: Array, xp: Any) -> Rows:
    """Give the Cholesky factor of some rows and columns of L L'."""
    if list(chosen) == list(range(len(chosen))):
        return L[: len(chosen)]
    found: Rows = []
    for a, i in enumerate(chosen):
        row: list[Any] = []
        for b, j in enumerate(chosen[: a + 1]):
            rest = product(L, i, j)
            others = row if a == b else found[b]
            for k in range(b):
                rest = rest - row[k] * others[k]
            row.append(xp.sqrt(rest) if a == b else rest / found[b][b])
        found.append(row)
    return found


def _log_density(z: list[Any], L: Rows, params: Params, shared: str, xp: Any) -> Any:
    """Give the log density of standard residuals whose correlation matrix is L L'."""
    k = len(z)
    v: list[Any] = []
    squares: Any = 0.0
    logs: Any = 0.0
    for i in range(k):
        rest = z[i]
        for j in range(i):
            rest = rest - L[i][j] * v[j]
        v.append(rest / L[i][i])
        squares = squares + v[i] * v[i]
        logs = logs + xp.log(L[i][i]) if i else logs
    if shared == "gaussian":
        return -0.5 * squares - logs - k * HALF_LOG_2PI
    nu = params[TAILS]
    gamma = gammaln if xp is NUMPY else xp.gammaln
    scale = gamma((nu + k) / 2) - gamma(nu / 2) - k / 2 * xp.log(nu * np.pi)
    return scale - logs - (nu + k) / 2 * xp.log1p(squares / nu)


# ---- slopes


def inverse(L: Rows) -> Rows:
    """Invert a lower triangular matrix."""
    M: Rows = []
    for i in range(len(L)):
        row = [-sum(L[i][k] * M[k][j] for k in range(j, i)) / L[i][i] for j in range(i)]
        M.append([*row, 1.0 / L[i][i]])
    return M


def _whitened(z: list[Any], M: Rows, params: Params, shared: str) -> tuple[list[Any], Any, Any]:
    """Give C^-1 z of standard residuals, M' M = C^-1; the slope by nu; what t has of the pull."""
    k = len(z)
    v = [sum(M[i][j] * z[j] for j in range(i + 1)) for i in range(k)]
    w = [sum(M[i][j] * v[i] for i in range(j, k)) for j in range(k)]
    if shared == "gaussian":
        return w, 0.0, 1.0
    nu, squares = params[TAILS], sum(each * each for each in v)
    stretch = (nu + k) / (nu + squares)
    by_nu = digamma((nu + k) / 2) - digamma(nu / 2) - k / nu - np.log1p(squares / nu)
    return w, 0.5 * (by_nu + stretch * squares / nu), stretch


def _by_partial(partial: Pairs, L: Rows, by_pair: Mapping[tuple[int, int], Any]) -> list[Any]:
    """
    Go from slopes by the correlations to those by the partial ones.

    L_ij = p_ij times the roots of 1 - p_ik^2 over k < j, and L_ii has all of these.
    """
    found = []
    for i, j in partial:
        total: Any = 0.0
        before: Any = 1.0
        for k in range(j):
            before = before * np.sqrt(1 - partial[i, k] ** 2)
        for k in range(j, i + 1):
            move = before if k == j else -L[i][k] * partial[i, j] / (1 - partial[i, j] ** 2)
            by_L = sum(
                by_pair[max(i, o), min(i, o)] * L[o][k] for o in range(len(L)) if o != i and k <= o
            )
            total = total + by_L * move
        found.append(total)
    return found
