"""What a nested approximation has to say of itself."""

import numpy as np

from glmm_bayes.posthoc.nested import Nested

LARGE = 0.3  # standard deviations by which Laplace's method is off
FAR = 1.0  # and by which third-order terms may move parameters, before they are doubted
VAGUE = 0.3  # error of a log density


def notes(nested: Nested) -> tuple[str, ...]:
    """Say that this is an approximation, of what kind, and how far it is from simpler ones."""
    d, count = nested.d, len(nested.nodes)
    kind = "grid" if d <= 2 else "central composite design"
    over = f"a {kind} of {count} points in {d} outer parameter{'s' if d > 1 else ''}"
    over = over if d else "no outer parameters"
    found = [f"an approximation, in the manner of INLA, over {over}; fit('posthoc') is exact"]
    shift = nested.nodes[0].shift
    if len(shift) and np.abs(shift).max() > 0:
        found.append(_shifted(nested, shift))
    if nested.moved > 0.05:
        found.append(
            f"beyond Laplace's method, outer parameters move by up to {nested.moved:.2f} posterior "
            f"standard deviations"
        )
    return tuple(found)


def _shifted(nested: Nested, shift: np.ndarray) -> str:
    names = nested.target.model.design.predictors[nested.target.model.main].names
    free = np.flatnonzero(np.isnan(nested.target.coordinates.held[0]))
    worst = int(np.argmax(np.abs(shift)))
    far = abs(float(shift[worst]))
    words = (
        f"mean and mode differ by up to {far:.2f} posterior standard deviations "
        f"({names[free[worst]]}, at the predictors' means)"
    )
    if far > LARGE:
        words += ": Laplace's method, PQL and a normal at the mode are biased here"
    return words


def problems(nested: Nested) -> tuple[str, ...]:
    """Say what makes it doubtful, with a remedy."""
    found = []
    lost = sum(not node.settled for node in nested.nodes)
    if lost:
        found.append(
            f"The nearest normal was not found at {lost} of {len(nested.nodes)} points of the "
            f"design: compare with fit('posthoc')."
        )
    if nested.moved > FAR:
        found.append(
            f"Third-order terms move outer parameters by {nested.moved:.1f} posterior standard "
            f"deviations, so that higher ones may matter: compare with fit('posthoc')."
        )
    if nested.d and nested.error > VAGUE:
        found.append(
            f"The density of the outer parameters is no polynomial of low degree (error "
            f"{nested.error:.2f} of its logarithm): use fit('posthoc') or fit('nuts')."
        )
    return tuple(found)
