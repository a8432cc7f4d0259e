"""A parameter's profile: the maximum of the likelihood where the parameter is held somewhere."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from glmm_bayes.engine.search.optimise import maximise
from glmm_bayes.engine.search.ridge import Crest, Held, climb_ridge
from glmm_bayes.modes.surfaces import Surface, axes_of
from glmm_bayes.modes.targets import Target

HIGHER = 1e-4  # of log likelihood above the maximum: another, higher one


@dataclass(frozen=True, eq=False)
class Stand:
    """
    A point of a profile.

    Attributes
    ----------
    zeta
        The signed root of twice the fall of the log likelihood.
    s, value
        The parameter on the scale of its `Bend`, and on its own.
    rate
        d zeta / d s.
    x
        `(m,)` where all the parameters are there.
    y
        `(d,)` the same in the walk's coordinates.
    inverse
        What is known of the curvature there.
    """

    zeta: float
    s: float
    value: float
    rate: float
    x: np.ndarray
    y: np.ndarray
    inverse: np.ndarray


@dataclass(eq=False)
class Walk:
    """
    A parameter's profile, followed from the maximum.

    Parameters
    ----------
    surface, target
        What is climbed, and what is held.
    x, spread
        The maximum `(m,)`, and the covariance `(m, m)` there.
    higher
        The highest log likelihood met above the maximum, less that; 0 if there was none.
    """

    surface: Surface
    target: Target
    x: np.ndarray
    spread: np.ndarray
    higher: float = field(default=0.0, init=False)
    crests: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.surface.restarted(self.x)
        self.origin = self.surface.free(self.x)
        self.axes = axes_of(self.surface.covariance(self.spread))
        self.top = self.surface(self.origin)[0]
        self.held = Held(self._held)

    def at_maximum(self) -> Stand:
        """Give the maximum as a point of the profile; its rate is not finite at an edge."""
        d = len(self.origin)
        s, n = self._held(np.zeros(d))
        length = float(np.linalg.norm(n))
        rate = 1 / length if length > 0 else np.inf
        value = self.target.natural(self.x)
        return Stand(0.0, s, value, rate, self.x, np.zeros(d), np.eye(d))

    # ---- on the surface

    def _held(self, y: np.ndarray) -> tuple[float, np.ndarray]:
        s, slope = self.target(self.surface.lift(self._v(y)))
        return s, self.axes.T @ self.surface.lower(slope)

    def _evaluate(self, y: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = self.surface(self._v(y))
        return value, self.axes.T @ slope

    def _v(self, y: np.ndarray) -> np.ndarray:
        return self.origin + self.axes @ y

    def _y(self, x: np.ndarray) -> np.ndarray:
        return np.linalg.solve(self.axes, self.surface.free(x) - self.origin)

    # ---- along the profile

    def climbed(
        self, near: Stand, s: float, side: int, y: np.ndarray | None = None
    ) -> Stand | None:
        """Maximise where the parameter is held at s, from a point nearby; None if that fails."""
        self.crests += 1
        crest = climb_ridge(self._evaluate, self.held, near.y if y is None else y, s, near.inverse)
        if crest is None:
            return None
        return self._stand(self._off_edges(crest), side)

    def _stand(self, crest: Crest, side: int) -> Stand:
        fall = self.top - crest.value
        self.higher = max(self.higher, -fall if -fall > HIGHER else 0.0)
        zeta = side * float(np.sqrt(2 * max(fall, 0.0)))
        rate = -crest.slope / zeta if zeta else np.inf
        x = self.surface.x(self._v(crest.y))
        value = float(self.target.bend.back(crest.s))
        return Stand(zeta, crest.s, value, rate, x, crest.y, crest.inverse)

    def _off_edges(self, crest: Crest) -> Crest:
        """Leave edges where that is higher: along them the slope is zero, and tells nothing."""
        c = self.surface.coordinates
        x = self.surface.lift(self._v(crest.y))
        if not c.idle(x).any():
            return crest
        for moved in self._beside(x):
            found = climb_ridge(self._evaluate, self.held, self._y(moved), crest.s, crest.inverse)
            if found is not None and found.value > crest.value + 1e-7:
                return self._off_edges(found)
        self.surface(self._v(crest.y))
        return crest

    def at_zero(self, near: Stand, side: int) -> Stand | None:
        """Maximise where the parameter is zero; None where that is no edge to be reached."""
        edge = self.target.at_zero(self.surface.lift(self._v(near.y)))
        found = None if edge is None else self._on_edge(*edge)
        if found is None:
            return None
        zeta, place = found
        return Stand(side * zeta, -np.inf, 0.0, np.inf, place, near.y, near.inverse)

    @cached_property
    def most(self) -> float:
        """
        How large |zeta| can be: that of the maximum where the parameter is of no consequence.

        A correlation is not, where a standard deviation is zero.
        """
        found = [self._on_edge(*edge) for edge in self.target.releases(self.x)]
        return min((edge[0] for edge in found if edge is not None), default=np.inf)

    def _on_edge(self, x: np.ndarray, stays: np.ndarray) -> tuple[float, np.ndarray] | None:
        """Maximise from x over all but what `stays` `(m,)`; |zeta| there, and the place `(m,)`."""
        v = self.surface.free(x)
        kept = self.surface.free(stays.astype(float)) == 0
        whole = np.zeros((len(v), int(kept.sum())))
        whole[kept] = axes_of(self.surface.covariance(self.spread)[np.ix_(kept, kept)])

        def along(y: np.ndarray) -> tuple[float, np.ndarray]:
            value, slope = self.surface(v + whole @ y)
            return value, whole.T @ slope

        d = whole.shape[1]
        best = maximise(along, np.zeros(d), np.full(d, 2.0), tolerance=2e-6)
        if not np.isfinite(best.value):
            return None
        zeta = float(np.sqrt(2 * max(self.top - best.value, 0.0)))
        return zeta, self.surface.x(v + whole @ best.x)

    def off_start(self, at: Stand, reach: float) -> Stand | None:
        """
        Leave the edge that the maximum is at, so that the parameter moves; None if it cannot.

        Parameters
        ----------
        reach
            How far, in the walk's coordinates.
        """
        for moved in self.target.exits(self.x):
            y = self._y(moved)
            y = y * (reach / float(np.linalg.norm(y)))
            s, n = self._held(y)
            if np.isfinite(s) and n.any() and s != at.s:
                return Stand(0.0, s, at.value, np.inf, self.x, y, at.inverse)
        return None

    def _beside(self, x: np.ndarray) -> Iterator[np.ndarray]:
        """Give points off the edges that x is at, by steps of the size of standard errors."""
        c, sizes = self.surface.coordinates, np.sqrt(np.diag(self.spread))
        for term, at, strict in zip(c.model.design.terms, c.factors, c.strict, strict=True):
            if not strict:
                steps = [step * sizes[at] for step in (0.2, 1.0)]
                for part in term.structure.exits(x[at], term.size, steps):
                    moved = x.copy()
                    moved[at] = part
                    yield moved
