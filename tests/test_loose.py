"""Laws of the coordinates of a search: every structure's, inside and at every edge."""

import numpy as np
import pytest
from test_covariance import FORMULAS, draw_theta, exchangeable

from glmm_bayes.covariance import COVARIANCES

COLUMNS = list(COVARIANCES)


@pytest.fixture(params=[1, 2, 5])
def size(request):
    return request.param


@pytest.fixture(params=COLUMNS)
def columns(request):
    return COVARIANCES[request.param]()


def covariance(structure, z, size):
    L = structure.loose_factor(z, size)
    return L @ L.T


def anywhere(structure, size, seed=0):
    """Give loose coordinates of any sign, as many as the parameters."""
    m = sum(p.size for p in structure.parameters(size))
    return np.random.default_rng(seed).normal(0, 2, m)


def edges(structure, size):
    """Give points at every edge by itself, at some two together and at all of them."""
    z = anywhere(structure, size)
    which = [*np.eye(len(z)), *(np.eye(len(z)) + np.roll(np.eye(len(z)), 1, axis=1)), 1 + 0 * z]
    return [structure.at_edge(z, size, 1e3 * np.minimum(near, 1)) for near in which]


def jacobian(structure, z, size, h=1e-5):
    """Difference the covariance by every coordinate, to both sides: `(m, p p)`."""
    steps = h * np.eye(len(z))
    ends = [[covariance(structure, z + s * step, size) for s in (1, -1)] for step in steps]
    return np.stack([(up - down).ravel() / (2 * h) for up, down in ends])


@pytest.mark.parametrize("seed", range(5))
def test_loose_coordinates_keep_the_covariance(columns, size, seed):
    theta = draw_theta(columns, size, seed)
    z, L = columns.loose(theta, size), columns.factor(theta, size)
    assert z.shape == (sum(p.size for p in columns.parameters(size)),)
    np.testing.assert_allclose(covariance(columns, z, size), L @ L.T, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("seed", range(5))
def test_tight_undoes_loose(columns, size, seed):
    theta = draw_theta(columns, size, seed)
    found = columns.tight(columns.loose(theta, size), size)
    assert list(found) == list(theta)
    for name, value in theta.items():
        # Partial correlations come from products of square roots, with the digits these leave.
        np.testing.assert_allclose(found[name], value, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_tight_has_the_covariance_and_the_support(columns, size, seed):
    z = anywhere(columns, size, seed)
    z = np.abs(z) if columns.name == "cs" else z
    theta = columns.tight(z, size)
    for p in columns.parameters(size):
        assert (theta[p.name] >= p.support[0]).all()
        assert (theta[p.name] <= p.support[1]).all()
    np.testing.assert_allclose(
        FORMULAS[columns.name](theta, size), covariance(columns, z, size), rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_covariance_at_any_coordinates(columns, size, seed):
    C = covariance(columns, anywhere(columns, size, seed), size)
    np.testing.assert_allclose(C, C.T)
    assert np.linalg.eigvalsh(C)[0] > -1e-12 * np.trace(C)


def test_loose_pullback_is_the_difference_quotient_at_edges_too(columns, size):
    weights = np.random.default_rng(1).normal(size=(size, size))
    for z in [anywhere(columns, size), *edges(columns, size)]:
        steps = 1e-5 * np.eye(len(z))
        ends = [[columns.loose_factor(z + s * step, size) for s in (1, -1)] for step in steps]
        expected = [np.sum(weights * (up - down)) / 2e-5 for up, down in ends]
        found = columns.loose_pullback(z, size, weights)
        # Curvature and rounding of differences over 1e-5 leave 1e-9 of entries of some 10.
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


def test_lengths_multiply_the_factor(columns, size):
    z, growth = anywhere(columns, size), columns.growth(size)
    assert growth.any()
    moved = 3.0**growth * z
    np.testing.assert_allclose(
        columns.loose_factor(moved, size), 3.0 * columns.loose_factor(z, size), rtol=1e-12
    )
    sd = 1.0 + np.arange(size)
    units = columns.units(size, sd)
    assert units.shape == z.shape
    assert (units > 0).all()
    np.testing.assert_allclose(columns.units(size, 3.0 * sd), 3.0**growth * units)


def test_all_lengths_of_the_other_sign_have_the_same_covariance(columns, size):
    z = anywhere(columns, size)
    moved = np.where(columns.growth(size) > 0, -z, z)
    np.testing.assert_allclose(
        covariance(columns, moved, size), covariance(columns, z, size), rtol=1e-12
    )


@pytest.mark.parametrize("name", [n for n in COLUMNS if n not in ("us", "rr")])
def test_a_standard_deviation_of_either_sign_has_the_same_covariance(name, size):
    structure = COVARIANCES[name]()
    z = anywhere(structure, size)
    for k in np.flatnonzero(structure.growth(size)):
        moved = np.where(np.arange(len(z)) == k, -z, z)
        np.testing.assert_allclose(
            covariance(structure, moved, size), covariance(structure, z, size), rtol=1e-12
        )


def test_a_factor_of_loadings_may_have_either_sign(size):
    structure = COVARIANCES["rr"]()
    z = anywhere(structure, size)
    for k in range(structure.rank(size)):
        column = np.append(np.arange(structure.rank(size)), np.tril_indices(size, -1, 2)[1])
        moved = np.where(column[: len(z)] == k, -z, z)
        np.testing.assert_allclose(
            covariance(structure, moved, size), covariance(structure, z, size), rtol=1e-12
        )


def test_a_column_of_an_unstructured_factor_may_have_either_sign(size):
    structure = COVARIANCES["us"]()
    z = anywhere(structure, size)
    for k in range(size):
        moved = np.where(np.tril_indices(size)[1] == k, -z, z)
        np.testing.assert_allclose(
            covariance(structure, moved, size), covariance(structure, z, size), rtol=1e-12
        )


# Of toep, what stands for a lag that no two columns with effects have may be held where it is.
@pytest.mark.parametrize("name", [n for n in COLUMNS if n not in ("cs", "toep")])
def test_what_is_idle_changes_nothing(name, size):
    structure = COVARIANCES[name]()
    assert not structure.idle(anywhere(structure, size), size).any()
    for z in edges(structure, size):
        idle = structure.idle(z, size)
        np.testing.assert_allclose(jacobian(structure, z, size)[idle], 0.0, atol=1e-9)


def test_what_is_not_idle_changes_the_covariance_in_its_own_way(columns, size):
    """The slopes by the coordinates that are not at an edge are linearly independent."""
    for z in [anywhere(columns, size), *edges(columns, size)]:
        slopes = jacobian(columns, z, size)[~columns.idle(z, size)]
        assert np.linalg.matrix_rank(slopes, tol=1e-6) == len(slopes)


def test_the_edge_is_near_and_stays(columns, size):
    z = anywhere(columns, size)
    for near in (1e-4, 1e-2, 0.3):
        reach = near * np.ones(len(z))
        for start in [z, *(e + 0.999 * reach for e in edges(columns, size)), 0.9 * reach]:
            moved = columns.at_edge(start, size, reach)
            old, new = covariance(columns, start, size), covariance(columns, moved, size)
            sd = np.sqrt(np.diag(old))
            assert (np.abs(new - old) <= 3 * near * np.add.outer(sd, sd + near) + 1e-12).all()
            again = columns.at_edge(moved, size, reach)
            np.testing.assert_allclose(again, moved, atol=1e-13)
            np.testing.assert_array_equal(columns.idle(again, size), columns.idle(moved, size))
        far = columns.at_edge(2.0 + np.abs(z), size, np.full(len(z), 1e-12))
        expected = covariance(columns, 2.0 + np.abs(z), size)
        np.testing.assert_allclose(covariance(columns, far, size), expected, rtol=1e-12)


def test_ways_off_an_edge_change_the_covariance_a_little(columns, size):
    z = anywhere(columns, size)
    steps = [0.03 * np.ones(len(z)), 0.3 * np.ones(len(z))]
    assert not list(columns.exits(z, size, steps))
    for edge in edges(columns, size):
        ways = list(columns.exits(edge, size, steps))
        assert bool(ways) == columns.idle(edge, size).any()
        for way in ways:
            assert way.shape == edge.shape
            moved = covariance(columns, way, size) - covariance(columns, edge, size)
            assert np.abs(moved).max() < 0.5 * (1 + np.abs(covariance(columns, edge, size)).max())


def test_an_edge_is_exact(columns, size):
    """A standard deviation at an edge is no small number, but 0.0."""
    z = columns.at_edge(anywhere(columns, size), size, np.full(len(anywhere(columns, size)), 1e3))
    assert not columns.loose_factor(z, size).any()
    theta = columns.tight(z, size)
    assert not (theta | columns.reported(theta, size))["sd"].any()
    assert columns.idle(z, size).all()


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("name", ["cs", "homcs"])
@pytest.mark.parametrize("end", ["least", "most"])
def test_compound_symmetry_has_its_extreme_correlations_at_edges(name, size, end):
    structure, rho = COVARIANCES[name](), {"least": -1 / (size - 1), "most": 1.0}[end]
    sd = np.full(size if name == "cs" else 1, 2.0)
    inside = structure.loose({"sd": sd, "rho": np.array([rho * (1 - 1e-7)])}, size)
    z = structure.at_edge(inside, size, np.full(len(inside), 1e-2))
    np.testing.assert_allclose(structure.tight(z, size)["rho"], rho, rtol=1e-14)
    assert structure.idle(z, size).tolist() == [False] * len(sd) + [True]
    C = covariance(structure, z, size)
    np.testing.assert_allclose(C, 4.0 * exchangeable({"rho": [rho]}, size), atol=1e-12)
    assert abs(np.linalg.eigvalsh(C)[0]) < 1e-12
