"""What families of responses in categories say of them, and draws of a category."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from glmm_bayes.families.links import Link

if TYPE_CHECKING:
    from glmm_bayes.families.family import Family

type Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Categories:
    """
    The K categories of a response, and the parameters that belong to them one by one.

    Attributes
    ----------
    labels
        Of the categories, in order.
    parameters
        The K - 1 parameters' names: the thresholds between ordered categories, or the predictors
        of all categories but the first.
    links
        The choices of the mean's link.
    made
        `made(labels, link)`: the same family for other categories, with a link of that name.
    start
        `start(shares)`: where a search starts each of the parameters `(K - 1,)`, from the
        categories' shares `(K,)`, all positive.
    thresholds
        Whether the parameters are thresholds of a single mean, whose intercept they are.
    rising
        Whether the thresholds have to ascend.
    counted
        Whether the response is a number for each category, not one of them.
    """

    labels: tuple[str, ...]
    parameters: tuple[str, ...]
    links: Mapping[str, Link]
    made: "Callable[[tuple[str, ...], str], Family]"
    start: Callable[[Array], Array]
    thresholds: bool = False
    rising: bool = False
    counted: bool = False

    @property
    def means(self) -> tuple[str, ...]:
        """The names of the parameters that have the mean's link."""
        return ("mu",) if self.thresholds else self.parameters

    @property
    def size(self) -> int:
        """The number K."""
        return len(self.labels)


def select(values: Any, y: Any, xp: Any) -> Any:
    """Give the y-th of some values, y an array of whole numbers."""
    found = values[0]
    for k, value in enumerate(values[1:], start=1):
        found = xp.where(y >= k, value, found)
    return found


def shares_of(y: Array, weights: Array | None, size: int) -> Array:
    """Give the shares `(K,)` of categories among codes `(n,)` or numbers `(n, K)`, all positive."""
    w = np.ones(len(y)) if weights is None else weights
    count = w @ y if y.ndim == 2 else np.bincount(y.astype(int), w, size)
    return (count + 0.5) / (count + 0.5).sum()


@dataclass(frozen=True, eq=False)
class Shares:
    """The distribution of a category, numbered from 0, with probabilities `(…, K)`."""

    p: Array

    def rvs(self, size: Any = None, random_state: Any = None) -> Array:
        """Draw numbers of categories."""
        rng = np.random.default_rng(random_state)
        up_to = np.cumsum(self.p, axis=-1)[..., :-1]
        u = rng.uniform(size=up_to.shape[:-1] if size is None else size)
        return (u[..., None] > up_to).sum(axis=-1)

    def logpmf(self, y: Array) -> Array:
        """Give the log probability of each y."""
        with np.errstate(divide="ignore"):
            return np.log(select(np.moveaxis(self.p, -1, 0), y, np))

    def cdf(self, y: Array) -> Array:
        """Give P(Y <= y)."""
        up_to = np.moveaxis(np.cumsum(self.p, axis=-1), -1, 0)
        return np.where(np.asarray(y) < 0, 0.0, np.minimum(select(up_to, y, np), 1.0))
