"""One side of a profile: from the maximum outward, until zeta is as large as asked or never is."""

from dataclasses import dataclass, field

import numpy as np

from glmm_bayes.modes.paths import Stand, Walk

NEAR = 0.02  # of zeta: so near what is asked, a cubic gives the rest
MOST = 40  # maximisations on the way to one zeta
LIMIT = 1e-4  # of an angle: as good as its end
FARTHEST = 60.0  # standard errors from the estimate, where no other measure is at hand
LOWEST = 3.0  # of the logarithm below the estimate: so small, zero is tried
TOUCHING = 1e-4  # on the scale of the walk: points with another zeta are on another ridge
JUMP = 0.15  # of zeta, beyond what the slope lets expect
ALONG = 2.5  # standard errors in one step that nothing else limits

REACHED, BOUND, FLAT, FIXED, LOST = "reached", "bound", "flat", "fixed", "lost"


@dataclass(eq=False)
class Branch:
    """
    One side of a profile.

    Parameters
    ----------
    walk
        The profile's.
    side
        1 for values above the estimate, -1 for those below.

    Attributes
    ----------
    stands
        Points of it, from the maximum outward.
    end
        `"reached"`; `"bound"` where the profile comes to an end of the parameter's support before
        zeta is as large as was asked, `"flat"` where it is the same everywhere, `"fixed"` where
        the parameter cannot have another value, `"lost"` where it could not be followed.
    """

    walk: Walk
    side: int
    stands: list[Stand] = field(init=False)
    end: str = field(default=REACHED, init=False)
    _zero: Stand | None = field(default=None, init=False)
    _zero_tried: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        start = self.walk.at_maximum()
        self.stands = [start]
        if np.isnan(start.s):
            self.end = FLAT  # a correlation of what does not vary
        elif not np.isfinite(start.rate):
            self._leave_edge(start)

    def _leave_edge(self, start: Stand) -> None:
        off = self.walk.off_start(start, 0.5)
        if off is None:
            self.end = FIXED
        elif (off.s - start.s) * self.side < 0:
            self.end = BOUND
        else:
            found = self.walk.climbed(off, off.s, self.side)
            if found is None:
                self.end = LOST
            else:
                self._add(found)

    @property
    def bound(self) -> float:
        """The end of what is possible on this side."""
        if self.end == FIXED:
            return self.stands[0].value
        return self.walk.target.support[self.side > 0]

    def reach(self, zeta: float, near: float = NEAR) -> None:
        """Go on until a point is as near as that to `zeta` > 0, or `end` says why not."""
        failures = 0
        for attempt in range(MOST):
            if self._settled(zeta, near):
                return
            lo, hi = self._around(zeta)
            if hi is not None and abs(hi.s - lo.s) < TOUCHING:
                self._mend(lo, hi)
                continue
            s = self._next(lo, hi, zeta)
            if hi is not None and np.isfinite(hi.s) and attempt % 3 == 2:
                # Where the curve has a bend, a cubic through its ends comes nearer too slowly.
                s = 0.5 * (lo.s + hi.s)
            if self._at_end(lo, hi, s):
                self._finish(lo, zeta)
                continue
            found = self._climbed(lo, hi, lo.s + (s - lo.s) * 0.5**failures)
            if (found is None or attempt > 2) and self.walk.most < zeta:
                # Towards there the profile is flat, and hard to follow.
                self.end = BOUND
            elif found is None:
                failures += 1
                if failures > 6:
                    self.end = BOUND if self._rests(lo, zeta) else LOST
            else:
                failures = max(failures - 1, 0)
                self._add(found)
        else:
            self.end = LOST

    def _climbed(self, lo: Stand, hi: Stand | None, s: float) -> Stand | None:
        """Maximise at s, from more than one side if the first does not lead as high as it might."""
        likely = abs(lo.zeta) + max(lo.rate, 0.0) * abs(s - lo.s) + JUMP
        best: Stand | None = None
        for near, first in self._guesses(lo, hi, s):
            found = self.walk.climbed(near, s, self.side, first)
            if found is not None and (best is None or abs(found.zeta) < abs(best.zeta)):
                best = found
            if best is not None and abs(best.zeta) < likely:
                break
        return best

    def _mend(self, lo: Stand, hi: Stand) -> None:
        """Go on from lo where hi, beside it, is on a lower ridge: a profile has no steps."""
        found = self.walk.climbed(lo, hi.s, self.side)
        if found is None or abs(found.zeta) > abs(hi.zeta) - JUMP / 10:
            self.end = LOST
            return
        self.stands = [p for p in self.stands if self.side * (p.s - lo.s) <= 0]
        self._add(found)

    def _settled(self, zeta: float, near: float) -> bool:
        beyond = any(abs(p.zeta) >= zeta for p in self.stands)
        ended = self.end in (FLAT, FIXED) or (self.end != REACHED and not beyond)
        return ended or any(abs(abs(p.zeta) - zeta) < near for p in self.stands)

    def _add(self, found: Stand) -> None:
        self.stands.append(found)
        self.stands.sort(key=lambda p: self.side * p.s)

    # ---- where to go next

    def _around(self, zeta: float) -> tuple[Stand, Stand | None]:
        """Give the outermost point of those below zeta, and the one beyond it, if there is one."""
        known = [p for p in self.stands if np.isfinite(p.s)]
        low = [p for p in known if abs(p.zeta) < zeta]
        lo = low[-1] if low else known[0]
        beyond = [p for p in known if self.side * (p.s - lo.s) > 0]
        return lo, (beyond[0] if beyond else self._zero)

    def _next(self, lo: Stand, hi: Stand | None, zeta: float) -> float:
        if hi is not None and not np.isfinite(hi.s):
            # Towards zero the standard deviation itself is the better scale than its logarithm.
            share = (zeta - abs(lo.zeta)) / (abs(hi.zeta) - abs(lo.zeta))
            return float(self.walk.target.bend.to(lo.value * (1 - np.clip(share, 0.05, 0.95))))
        if hi is not None:
            share = (between(lo, hi, self.side * zeta) - lo.s) / (hi.s - lo.s)
            return lo.s + float(np.clip(share, 0.05, 0.95)) * (hi.s - lo.s)
        return lo.s + self.side * self._step(lo, zeta)

    def _step(self, lo: Stand, zeta: float) -> float:
        """Give how far to go beyond the outermost point."""
        start, left = self.stands[0], zeta - abs(lo.zeta)
        behind = [p for p in self.stands if np.isfinite(p.s) and self.side * (lo.s - p.s) > 0]
        gone = abs(lo.s - start.s) if np.isfinite(start.s) else 1.0
        unit = 1 / start.rate if np.isfinite(start.rate) and start.rate > 0 else gone
        most = min(max(2 * gone, ALONG * unit), self.walk.target.bend.stride)
        if not (np.isfinite(lo.rate) and lo.rate > 0):
            return most
        step = left / lo.rate
        if behind and np.isfinite(behind[-1].rate) and behind[-1].rate > 0:
            last = behind[-1]
            bend = (1 / lo.rate - 1 / last.rate) / (abs(lo.zeta) - abs(last.zeta) or np.inf)
            step = float(np.clip(step + 0.5 * bend * left**2, 0.4 * step, 3 * step))
        return min(step, most)

    def _guesses(
        self, lo: Stand, hi: Stand | None, s: float
    ) -> list[tuple[Stand, np.ndarray | None]]:
        """Give where a maximisation at s may begin: near which point, and where exactly."""
        other = hi
        if hi is None or not np.isfinite(hi.s):
            known = [p for p in self.stands if np.isfinite(p.s)]
            behind = [p for p in known if self.side * (lo.s - p.s) > 0]
            other = behind[-1] if behind else None
        if other is None:
            return [(lo, None)]
        share = (s - lo.s) / (other.s - lo.s)
        found: list[tuple[Stand, np.ndarray | None]] = [(lo, lo.y + share * (other.y - lo.y))]
        found.append((lo, None))
        return [*found, (other, None)] if other is hi else found

    # ---- the end of the support

    def _at_end(self, lo: Stand, hi: Stand | None, s: float) -> bool:
        """Tell whether the support's end has to be looked at before going to s."""
        if hi is not None:
            return False
        target, start = self.walk.target, self.stands[0]
        edge = target.bend.ends[self.side > 0]
        if np.isfinite(edge):
            return abs(lo.s - edge) < 1.5 * LIMIT
        if not self._zero_tried and self.side < 0 and s < start.s - LOWEST:
            return True
        far = target.bend.far or FARTHEST / start.rate
        return np.isfinite(start.s) and abs(lo.s - start.s) >= far

    def _rests(self, lo: Stand, zeta: float) -> bool:
        """Tell whether zeta would stay below up to the support's end, by its slope so far."""
        edge = self.walk.target.bend.ends[self.side > 0]
        return abs(lo.zeta) + max(lo.rate, 0.0) * abs(edge - lo.s) < zeta

    def _finish(self, lo: Stand, zeta: float) -> None:
        """Look at the end: it is the answer, or something to go towards."""
        if self.side < 0 and not self._zero_tried:
            self._zero_tried = True
            self._zero = self.walk.at_zero(lo, self.side)
            if self._zero is None:
                return
            if abs(self._zero.zeta) > zeta:
                return
            self.stands.append(self._zero)
        self.end = BOUND


def between(one: Stand, other: Stand, zeta: float) -> float:
    """Give s at zeta by the cubic through two points, with their slopes."""
    h = other.zeta - one.zeta
    if h == 0:
        return 0.5 * (one.s + other.s)
    t, chord = (zeta - one.zeta) / h, other.s - one.s
    slopes = [h / p.rate if np.isfinite(p.rate) and p.rate > 0 else chord for p in (one, other)]
    # With slopes up to three times the chord's, the cubic is monotone: Fritsch & Carlson (1980).
    a, b = (float(np.clip(m / chord, 0.0, 3.0)) * chord for m in slopes)
    curve = one.s * (1 + 2 * t) * (1 - t) ** 2 + other.s * t**2 * (3 - 2 * t)
    return float(curve + a * t * (1 - t) ** 2 - b * t**2 * (1 - t))
