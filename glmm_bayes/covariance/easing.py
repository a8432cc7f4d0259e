"""Coordinates of nodes that are independent of a structure's parameters, for samplers."""

from collections.abc import Mapping

import numpy as np

type Theta = Mapping[str, np.ndarray]


class Apart:
    """
    Nodes b about others s, b given s being N(sqrt(rho) s, 1 - rho), as coordinates e and s.

    b = sqrt(rho) s + sqrt(1 - rho) e, with e and s independent of rho: given b and s themselves,
    rho is nearly known, and a chain takes small steps.

    Notes
    -----
    Papaspiliopoulos, Roberts & Skold (2007), Statistical Science 22, 59-73.
    """

    def nodes(self, theta: Theta, w: np.ndarray) -> np.ndarray:
        """Give the nodes b and s `(2 q, p)` of the coordinates."""
        rho = float(theta["rho"][0])
        e, s = np.split(w, 2)
        return np.concatenate([np.sqrt(rho) * s + np.sqrt(1 - rho) * e, s])

    def coordinates(self, theta: Theta, v: np.ndarray) -> np.ndarray:
        """Give the coordinates e and s `(2 q, p)` of nodes."""
        rho = float(theta["rho"][0])
        b, s = np.split(v, 2)
        return np.concatenate([(b - np.sqrt(rho) * s) / np.sqrt(1 - rho), s])

    def coordinate_slopes(self, theta: Theta, by_w: np.ndarray) -> np.ndarray:
        """Carry slopes by what `coordinates` gives back to the nodes."""
        rho = float(theta["rho"][0])
        e, s = np.split(by_w, 2)
        by_b = e / np.sqrt(1 - rho)
        return np.concatenate([by_b, s - np.sqrt(rho) * by_b])

    def node_slopes(
        self, theta: Theta, w: np.ndarray, by_v: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Carry slopes by what `nodes` gives back to the coordinates, and to the parameters."""
        rho = float(theta["rho"][0])
        (e, s), (b, other) = np.split(w, 2), np.split(by_v, 2)
        moves = 0.5 * s / np.sqrt(rho) - 0.5 * e / np.sqrt(1 - rho)
        by_w = np.concatenate([np.sqrt(1 - rho) * b, other + np.sqrt(rho) * b])
        return by_w, {"rho": np.array([np.vdot(b, moves)])}

    def log_volume(self, theta: Theta, size: int) -> tuple[float, dict[str, np.ndarray]]:
        """Give log |d nodes / d coordinates| of `size` nodes, and its slopes by the parameters."""
        rho, q = float(theta["rho"][0]), size // 2
        return 0.5 * q * np.log1p(-rho), {"rho": np.array([-0.5 * q / (1 - rho)])}
