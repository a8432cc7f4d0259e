"""A family's formulas on arrays as one node of PyTensor's graph, where the graph has no words."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from glmm_bayes.families.forward import forward_score

type Params = Mapping[str, Any]


def opaque(
    name: str,
    log_density: Callable[..., Any],
    names: Sequence[str],
    positive: Sequence[str] = (),
) -> Callable[[Any, Params, Any], Any]:
    """
    Give a log density for `Stated`, with its first derivatives by the parameters.

    Parameters
    ----------
    log_density
        `log_density(y, trials, params)`, pointwise, on arrays and on numbers with derivatives.
    names
        The parameters, in order.
    positive
        Those that are positive: the node is a function of their logarithms, by which a slope is a
        number where by the parameter itself it is none.
    """

    def by_coordinates(y: Any, trials: Any, values: Params) -> Any:
        own = {n: np.exp(values[n]) if n in positive else values[n] for n in names}
        return log_density(y, trials, own)

    def value(y: Any, *values: Any) -> Any:
        return by_coordinates(y, None, dict(zip(names, values, strict=True)))

    def slope(k: int) -> Callable[..., Any]:
        def by(y: Any, *values: Any) -> Any:
            score = forward_score(by_coordinates, names, _refuse)
            return score(y, None, dict(zip(names, values, strict=True)))[names[k]]

        return by

    def logp(y: Any, params: Params, trials: Any) -> Any:
        import pytensor.tensor as pt

        slopes = [slope(k) for k in range(len(names))]
        own = [pt.log(params[n]) if n in positive else params[n] for n in names]
        return _node(name, value, slopes)(y, *own)

    return logp


def _refuse() -> Any:
    raise TypeError("A formula of a family of ours has a function without derivatives.")


def _node(name: str, value: Any, slopes: Sequence[Any] | None) -> Callable[..., Any]:
    """Make a function of tensors of a function of arrays: the first is y, of no derivative."""
    import pytensor.tensor as pt
    from pytensor.gradient import grad_not_implemented, grad_undefined
    from pytensor.graph.basic import Apply
    from pytensor.graph.op import Op

    class Opaque(Op):
        __props__ = ("name",)

        def __init__(self) -> None:
            self.name = name

        def make_node(self, *inputs: Any) -> Any:
            inputs = tuple(pt.as_tensor(x).astype("float64") for x in inputs)
            return Apply(self, list(inputs), [inputs[0].type()])

        def perform(self, node: Any, inputs: Any, outputs: Any) -> None:
            with np.errstate(all="ignore"):
                found = value(*inputs)
            outputs[0][0] = np.array(np.broadcast_to(found, inputs[0].shape), float)

        def pullback(self, inputs: Any, outputs: Any, gradients: Any) -> list[Any]:
            none = grad_undefined(self, 0, inputs[0], "the response is given")
            if slopes is None:
                why = "a formula on arrays has first derivatives only"
                rest = (grad_not_implemented(self, k, x, why) for k, x in enumerate(inputs))
                return [none, *list(rest)[1:]]
            by = [_node(f"{name}_{k}", slope, None)(*inputs) for k, slope in enumerate(slopes)]
            return [none, *(gradients[0] * slope for slope in by)]

    def function(*inputs: Any) -> Any:
        return Opaque()(*pt.broadcast_arrays(*inputs))

    return function
