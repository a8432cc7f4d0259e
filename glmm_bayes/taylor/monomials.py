"""
Which terms of truncated polynomials meet in a sum, a product, a quotient, a composition.

A monomial is the sorted tuple of its variables: `()` is 1, `(0, 0, 1)` is x0² x1. A list of them
begins with `()` and goes by degree. Plans hold positions in such lists, and are made once.
"""

from functools import cache
from itertools import product
from typing import NamedTuple

type Monomial = tuple[int, ...]
type Monomials = tuple[Monomial, ...]
type Pairs = list[tuple[int, int]]


def ordered(monomials: set[Monomial]) -> Monomials:
    """List monomials by degree, then by variable."""
    return tuple(sorted(monomials, key=lambda m: (len(m), m)))


def times(a: Monomial, b: Monomial) -> Monomial:
    """Multiply two monomials."""
    return tuple(sorted(a + b))


@cache
def sum_plan(a: Monomials, b: Monomials) -> tuple[Monomials, list[tuple[int | None, int | None]]]:
    """Give the monomials of a sum, and for each its positions in the two lists, or None."""
    found = ordered({*a, *b})
    return found, [(a.index(m) if m in a else None, b.index(m) if m in b else None) for m in found]


@cache
def product_plan(a: Monomials, b: Monomials, order: int) -> tuple[Monomials, list[Pairs]]:
    """Give the monomials of a product up to an order, and for each the pairs that make it."""
    pairs: dict[Monomial, Pairs] = {}
    for (i, left), (j, right) in product(enumerate(a), enumerate(b)):
        if len(left) + len(right) <= order:
            pairs.setdefault(times(left, right), []).append((i, j))
    found = ordered(set(pairs))
    return found, [pairs[m] for m in found]


@cache
def quotient_plan(
    a: Monomials, b: Monomials, order: int
) -> tuple[Monomials, list[tuple[int | None, Pairs]]]:
    """
    Give the monomials of q = a / b, and for each how q b = a is solved for it.

    That is its position in a, or None, and the pairs of an earlier term of q and one of b that
    make it.
    """
    found, grown = set(a), True
    while grown:
        more = {times(q, m) for q in found for m in b if len(q) + len(m) <= order} - found
        found, grown = found | more, bool(more)
    monomials = ordered(found)
    plan = []
    for m in monomials:
        pairs = [
            (i, j)
            for (i, q), (j, other) in product(enumerate(monomials), enumerate(b))
            if other and len(q) + len(other) <= order and times(q, other) == m
        ]
        plan.append((a.index(m) if m in a else None, pairs))
    return monomials, plan


class Composition(NamedTuple):
    """
    How f(u) is made of the terms of u.

    Attributes
    ----------
    linear
        Positions in u of the terms of degree one.
    squares
        Pairs of positions in u whose product is a term of half the square of u's linear part,
        of itself with a factor one half.
    second
        For each term of degree two, its positions in u and in `squares`, or None.
    third
        For each term of degree three, its position in u, or None, and the pairs of a position in
        u of degree one and one in `second` that make it.
    """

    monomials: Monomials
    linear: list[int]
    squares: Pairs
    second: list[tuple[int | None, int | None]]
    third: list[tuple[int | None, Pairs]]


@cache
def composition_plan(u: Monomials, order: int) -> Composition:
    """Plan the composition of a function of one variable with a polynomial of these monomials."""
    linear = [i for i, m in enumerate(u) if len(m) == 1]
    pairs = [(i, j) for i in linear for j in linear if i <= j] if order > 1 else []
    squares = {times(u[i], u[j]): k for k, (i, j) in enumerate(pairs)}
    twos = ordered({*squares, *(m for m in u if len(m) == 2)})
    made: dict[Monomial, Pairs] = {m: [] for m in u if len(m) == 3}
    if order > 2:
        for i, (k, two) in product(linear, enumerate(twos)):
            made.setdefault(times(u[i], two), []).append((i, k))
    threes = ordered(set(made))
    return Composition(
        ((), *(u[i] for i in linear), *twos, *threes),
        linear,
        pairs,
        [(u.index(m) if m in u else None, squares.get(m)) for m in twos],
        [(u.index(m) if m in u else None, made[m]) for m in threes],
    )
