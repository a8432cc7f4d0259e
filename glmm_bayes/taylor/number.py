"""Truncated multivariate Taylor arithmetic on arrays."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from itertools import islice
from typing import Any, Self

import numpy as np
from scipy import special

from glmm_bayes.taylor.monomials import (
    Monomial,
    Monomials,
    composition_plan,
    product_plan,
    quotient_plan,
    sum_plan,
)
from glmm_bayes.taylor.slopes import SLOPES, UNITS, Slopes, power, power_unit, softplus

type Array = np.ndarray
type Terms = Sequence[Any]

CONSTANT: Monomials = ((),)


class NoRuleError(TypeError):
    """A function is asked for derivatives that are not in the tables."""


class Taylor(np.lib.mixins.NDArrayOperatorsMixin):
    """
    A function's value at n points and its derivatives by the variables x0, x1, … up to an order.

    NumPy's and SciPy's functions take it for an array, and give such numbers again; comparisons
    look at the value. A term that is absent is zero, so that constants, and functions of one
    variable among several, are cheap.

    Attributes
    ----------
    monomials
        The monomials of the terms, `()` first: see `glmm_bayes.taylor.monomials`.
    terms
        The coefficients of the Taylor polynomial, each `(n,)` or broadcasting to it: of
        x0^i x1^j it is the derivative divided by i! j!.
    order
        1, 2 or 3.

    Notes
    -----
    Griewank & Walther (2008), Evaluating Derivatives, chapter 13.
    `np.clip` here leaves the derivatives as they are: it keeps a number inside its support.
    `np.maximum` and `np.minimum` have their own derivatives, zero where the constant is taken.

    Examples
    --------
    >>> x = Taylor.variable(np.array([1.0, 2.0]), 0, order=3)
    >>> (x**3).derivative(0, 0)
    array([ 6., 12.])
    """

    __slots__ = ("monomials", "order", "terms")

    def __init__(self, monomials: Monomials, terms: Terms, order: int) -> None:
        self.monomials = monomials
        self.terms = terms
        self.order = order

    @classmethod
    def variable(cls, value: Array, number: int, *, order: int) -> Self:
        """Give the variable of this number, at the points `value`."""
        return cls(((), (number,)), (value, 1.0), order)

    @classmethod
    def constant(cls, value: Array, *, order: int) -> Self:
        """Give numbers that no variable is in, for formulas that want to see such numbers."""
        return cls(CONSTANT, (value,), order)

    @property
    def value(self) -> Any:
        """What an array would hold."""
        return self.terms[0]

    def derivative(self, *variables: int) -> Any:
        """Give the derivative by these variables, in any order."""
        monomial = tuple(sorted(variables))
        if monomial not in self.monomials:
            return np.zeros_like(self.value)
        return multiplicity(monomial) * self.terms[self.monomials.index(monomial)]

    def without_value(self) -> "Taylor":
        """Give the same number with value 0."""
        return Taylor(self.monomials, (0.0, *self.terms[1:]), self.order)

    def with_value(self, value: Any) -> "Taylor":
        """Give the same derivatives with another value."""
        return Taylor(self.monomials, (value, *self.terms[1:]), self.order)

    def scaled(self, factor: Any) -> "Taylor":
        """Multiply by a constant."""
        return Taylor(self.monomials, [factor * t for t in self.terms], self.order)

    def compose(self, slopes: Slopes, unit: Any = None) -> "Taylor":
        """
        Give f of this number, from f, f', f'' and f''' at its value (Faà di Bruno).

        With a `unit`, the derivatives are those by the number in that unit.
        """
        u = self.terms
        if len(u) == 1:
            return Taylor(CONSTANT, (next(iter(slopes)),), self.order)
        if unit is not None:
            u = (u[0], *(t / unit for t in u[1:]))
        plan = composition_plan(self.monomials, self.order)
        f, f1, *higher = islice(slopes, self.order + 1)
        terms = [f, *(f1 * u[i] for i in plan.linear)]
        if not higher:
            return Taylor(plan.monomials, terms, self.order)
        f2 = higher[0]
        squares = [0.5 * u[i] * u[i] if i == j else u[i] * u[j] for i, j in plan.squares]
        terms += [_combination(f1, u, i, f2, squares, k) for i, k in plan.second]
        if len(higher) > 1:
            f3 = higher[1] / 3
            rest = [_combination(f2, u, i, f3, squares, k) for i, k in plan.second]
            for at, pairs in plan.third:
                total = 0.0 if at is None else f1 * u[at]
                for i, k in pairs:
                    total = total + u[i] * rest[k]
                terms.append(total)
        return Taylor(plan.monomials, terms, self.order)

    def __array__(self, *args: Any, **kwargs: Any) -> Array:
        raise NoRuleError("An array has no room for the derivatives of a Taylor number.")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and not kwargs:
            if ufunc in SLOPES:
                return _composed(ufunc, inputs[0])
            if ufunc in RULES:
                return RULES[ufunc](*inputs)
            if ufunc in PREDICATES:
                return ufunc(*(_value(x) for x in inputs))
        raise NoRuleError(f"The derivatives of {ufunc.__name__} are not in the tables.")

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        if function not in FUNCTIONS:
            raise NoRuleError(f"The derivatives of {function.__name__} are not in the tables.")
        return FUNCTIONS[function](*args, **kwargs)


def differentiable(
    slopes: Callable[[Any, Any], Slopes], unit: Callable[[Any], Any] | None = None
) -> Callable[[Callable[[Any, Any], Any]], Callable[[Any, Any], Any]]:
    """
    Let a function f(y, x) of a constant y take a Taylor number x, given its derivatives by x.

    With a `unit`, they are those by x in units of `unit(x)`.
    """

    def decorate(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        @wraps(function)
        def either(y: Any, x: Any) -> Any:
            if isinstance(x, Taylor):
                return x.compose(slopes(y, x.value), None if unit is None else unit(x.value))
            return function(y, x)

        return either

    return decorate


def expanded(partials: Mapping[Monomial, Any], numbers: Sequence[Taylor]) -> Taylor:
    """
    Compose a function of several variables with Taylor numbers.

    Parameters
    ----------
    partials
        The function's partial derivatives at the numbers' values: its value is that of `()`, its
        second derivative by the first number that of `(0, 0)`.
    """
    rises = [number.without_value() for number in numbers]
    powers: dict[Monomial, Any] = {(): 1.0}
    total = Taylor(CONSTANT, (0.0,), numbers[0].order)
    for monomial in sorted(partials, key=len):
        if monomial:
            powers[monomial] = powers[monomial[:-1]] * rises[monomial[-1]]
        total = total + powers[monomial] * (partials[monomial] / multiplicity(monomial))
    return total


def multiplicity(monomial: Monomial) -> int:
    """Give i! j! … of x0^i x1^j …: the derivative is that often the coefficient."""
    factor = 1
    for at, variable in enumerate(monomial):
        factor *= monomial[: at + 1].count(variable)
    return factor


def _composed(function: Any, x: Taylor) -> Taylor:
    unit = UNITS.get(function)
    return x.compose(SLOPES[function](x.value), None if unit is None else unit(x.value))


def _combination(a: Any, x: Terms, i: int | None, b: Any, y: Terms, k: int | None) -> Any:
    """Give a x[i] + b y[k], of which one position may be None."""
    if i is None:
        return b * y[k] if k is not None else 0.0
    return a * x[i] if k is None else a * x[i] + b * y[k]


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Taylor) else x


def _terms(x: Any) -> tuple[Monomials, Terms]:
    return (x.monomials, x.terms) if isinstance(x, Taylor) else (CONSTANT, (x,))


def _order(x: Any, y: Any) -> int:
    return x.order if isinstance(x, Taylor) else y.order


def _together(function: Callable[[Any, Any], Any], x: Any, y: Any) -> Taylor:
    """Apply a linear function to the terms of two numbers, one by one."""
    (a, s), (b, t) = _terms(x), _terms(y)
    monomials, plan = sum_plan(a, b)
    terms = [function(0.0 if i is None else s[i], 0.0 if j is None else t[j]) for i, j in plan]
    return Taylor(monomials, terms, _order(x, y))


def _add(x: Any, y: Any) -> Taylor:
    (a, s), (b, t) = _terms(x), _terms(y)
    monomials, plan = sum_plan(a, b)
    terms = [_sum(None if i is None else s[i], None if j is None else t[j]) for i, j in plan]
    return Taylor(monomials, terms, _order(x, y))


def _sum(s: Any, t: Any) -> Any:
    return t if s is None else s if t is None else s + t


def _subtract(x: Any, y: Any) -> Taylor:
    return _add(x, -y)


def _multiply(x: Any, y: Any) -> Taylor:
    if not isinstance(y, Taylor):
        return x.scaled(y)
    if not isinstance(x, Taylor):
        return y.scaled(x)
    monomials, plan = product_plan(x.monomials, y.monomials, x.order)
    s, t, terms = x.terms, y.terms, []
    for (i, j), *others in plan:
        total = s[i] * t[j]
        for i, j in others:  # noqa: PLW2901
            total = total + s[i] * t[j]
        terms.append(total)
    return Taylor(monomials, terms, x.order)


def _divide(x: Any, y: Any) -> Taylor:
    if not isinstance(y, Taylor):
        return Taylor(x.monomials, [t / y for t in x.terms], x.order)
    a, s = _terms(x)
    monomials, plan = quotient_plan(a, y.monomials, y.order)
    # Relative to its value, where the denominator's terms cannot overflow together.
    t = [1.0, *(term / y.value for term in y.terms[1:])]
    terms: list[Any] = []
    for at, pairs in plan:
        total = 0.0 if at is None else s[at] / y.value
        for i, j in pairs:
            total = total - terms[i] * t[j]
        terms.append(total)
    return Taylor(monomials, terms, y.order)


def _power(x: Any, y: Any) -> Taylor:
    if not isinstance(y, Taylor):
        square = np.ndim(y) == 0 and y == 2
        return _multiply(x, x) if square else x.compose(power(x.value, y), power_unit(x.value))
    return np.exp(y * np.log(x)).with_value(_value(x) ** y.value)


def _logaddexp(x: Any, y: Any) -> Taylor:
    if isinstance(y, Taylor) and isinstance(x, int | float) and x == 0:
        return y.compose(softplus(y.value))
    rise = y - x
    return (x + rise.compose(softplus(rise.value))).with_value(np.logaddexp(_value(x), _value(y)))


def _x_times(log: np.ufunc, product: np.ufunc) -> Callable[[Any, Any], Taylor]:
    """Make the rule of x log(y), which is 0 where x is, whatever y."""

    def rule(x: Any, y: Any) -> Taylor:
        value = product(_value(x), _value(y))
        if isinstance(x, Taylor):
            return (x * log(y)).with_value(value)
        none = np.equal(x, 0)
        slopes = (np.where(none, 0.0, x * f) for f in SLOPES[log](y.value))
        unit = UNITS[log](y.value)
        unit = np.where(np.equal(unit, 0), 1.0, unit)
        return y.compose(slopes, unit).with_value(value)

    return rule


def _betaln(a: Any, b: Any) -> Taylor:
    slopes = special.gammaln(a) + special.gammaln(b) - special.gammaln(a + b)
    return slopes.with_value(special.betaln(_value(a), _value(b)))


def _where(condition: Any, x: Any, y: Any) -> Any:
    if not (isinstance(x, Taylor) or isinstance(y, Taylor)):
        return np.where(_value(condition), x, y)
    return _together(lambda a, b: np.where(condition, a, b), x, y)


# Where both are equal one has the slope and the other has not, so that the pieces of
# max(x, c) + min(x - c, 0) are x again.
def _maximum(x: Any, y: Any) -> Any:
    return _where(_value(x) >= _value(y), x, y)


def _minimum(x: Any, y: Any) -> Any:
    return _where(_value(x) < _value(y), x, y)


def _clip(x: Taylor, a_min: Any, a_max: Any) -> Taylor:
    return x.with_value(np.clip(x.value, a_min, a_max))


RULES: dict[np.ufunc, Callable[..., Any]] = {
    np.positive: lambda x: x,
    np.negative: lambda x: Taylor(x.monomials, [-t for t in x.terms], x.order),
    np.absolute: lambda x: x.scaled(np.sign(x.value)),
    np.square: lambda x: _multiply(x, x),
    np.add: _add,
    np.subtract: _subtract,
    np.multiply: _multiply,
    np.divide: _divide,
    np.power: _power,
    np.float_power: _power,
    np.maximum: _maximum,
    np.minimum: _minimum,
    np.logaddexp: _logaddexp,
    special.xlogy: _x_times(np.log, special.xlogy),
    special.xlog1py: _x_times(np.log1p, special.xlog1py),
    special.betaln: _betaln,
}
PREDICATES = {
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
    np.equal,
    np.not_equal,
    np.isfinite,
    np.isnan,
    np.isinf,
    np.sign,
    np.floor,
}
FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.where: _where,
    np.clip: _clip,
    np.zeros_like: lambda x: np.zeros_like(x.value),
    np.ones_like: lambda x: np.ones_like(x.value),
}
