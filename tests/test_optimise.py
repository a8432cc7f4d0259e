"""The search: to the tops of functions whose tops are known, and to an honest end elsewhere."""

import numpy as np
import pytest

from glmm_bayes.engine.search.optimise import bounded_newton, hessian, maximise


def counted(function):
    """Count the evaluations of a function."""

    def evaluate(x):
        evaluate.count += 1
        return function(x)

    evaluate.count = 0
    return evaluate


def quadratic(H, top):
    return lambda x: (-0.5 * (x - top) @ H @ (x - top), -H @ (x - top))


def random_quadratic(m, largest, seed=0):
    """Make a quadratic with curvatures from 1 to `largest`, its top some units off."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(m, m)))[0]
    return Q @ np.diag(np.geomspace(1.0, largest, m)) @ Q.T, 3.0 * rng.normal(size=m)


def rosenbrock(x):
    """Minus Rosenbrock's valley (1960), Computer Journal 3, 175-184: its top is 0 at (1, …, 1)."""
    a, b = x[:-1], x[1:]
    gradient = np.zeros_like(x)
    gradient[:-1] += 400 * a * (b - a * a) + 2 * (1 - a)
    gradient[1:] -= 200 * (b - a * a)
    return -np.sum(100 * (b - a * a) ** 2 + (1 - a) ** 2), gradient


def steps(m, size=2.0):
    return np.full(m, size)


@pytest.mark.parametrize("m", [1, 2, 5, 12])
@pytest.mark.parametrize("largest", [1.0, 1e2, 1e4])
def test_a_quadratic_is_climbed_to_its_top(m, largest):
    H, top = random_quadratic(m, largest)
    found = maximise(quadratic(H, top), np.zeros(m), steps(m), tolerance=1e-14)
    # Half the decrement is what is left to climb.
    assert found.value == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(found.x, top, atol=1e-6)


def test_badly_scaled_coordinates():
    """Curvatures from 1e-4 to 1e6, where steps should have been of size 1."""
    H, top = np.diag([1e-4, 1.0, 1e6]), np.array([20.0, -1.0, 0.003])
    found = maximise(quadratic(H, top), np.zeros(3), steps(3), tolerance=1e-12)
    assert found.value == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("start", [(-1.2, 1.0), (2.0, -3.0), (-1.2, 1.0, -1.2, 1.0)])
def test_a_curved_valley(start):
    evaluate = counted(rosenbrock)
    found = maximise(evaluate, np.array(start), steps(len(start)), tolerance=1e-14)
    np.testing.assert_allclose(found.x, 1.0, atol=1e-5)
    assert found.evaluations == evaluate.count < 150


def test_what_it_says_of_the_end_is_so():
    evaluate = counted(rosenbrock)
    found = maximise(evaluate, np.array([-1.2, 1.0]), steps(2), tolerance=1e-10)
    value, gradient = rosenbrock(found.x)
    assert found.value == value
    np.testing.assert_array_equal(found.gradient, gradient)
    assert found.evaluations == evaluate.count
    assert found.decrement == pytest.approx(gradient @ found.inverse @ gradient)
    assert 0 <= found.decrement < 1e-10


def test_after_as_many_steps_as_coordinates_it_knows_a_quadratic_s_curvature():
    H, top = random_quadratic(4, 10.0)
    found = maximise(quadratic(H, top), np.zeros(4), steps(4), tolerance=1e-20)
    # The line searches are not exact, so the estimate is a rough one.
    np.testing.assert_allclose(found.inverse, np.linalg.inv(H), rtol=0.05, atol=0.01)


def test_it_starts_at_the_top():
    evaluate = counted(quadratic(np.eye(3), np.ones(3)))
    found = maximise(evaluate, np.ones(3), steps(3))
    assert evaluate.count == 1
    np.testing.assert_array_equal(found.x, np.ones(3))


@pytest.mark.parametrize("nothing", [-np.inf, np.nan, np.inf])
@pytest.mark.parametrize("wall", [0.5, 1.0, 3.0])
def test_a_region_without_values_is_kept_out_of(nothing, wall):
    """log x + log(wall - x) has its top in the middle, and nothing beyond the wall."""

    def evaluate(x):
        if not 0 < x[0] < wall:
            return nothing, np.zeros(2)
        value = np.log(x[0]) + np.log(wall - x[0]) - (x[1] - 2) ** 2
        return value, np.array([1 / x[0] - 1 / (wall - x[0]), -2 * (x[1] - 2)])

    found = maximise(evaluate, np.array([0.01 * wall, 0.0]), steps(2), tolerance=1e-12)
    np.testing.assert_allclose(found.x, [wall / 2, 2.0], atol=1e-5)


def test_a_top_at_a_wall_is_come_near_to():
    def evaluate(x):
        return (x[0], np.ones(1)) if x[0] < 1 else (-np.inf, np.zeros(1))

    found = maximise(evaluate, np.zeros(1), steps(1))
    assert 0.999 < found.x[0] < 1.0
    assert found.value == found.x[0]


def test_a_start_without_a_value_is_where_it_ends():
    found = maximise(lambda x: (-np.inf, np.zeros(2)), np.ones(2), steps(2))
    assert found.value == -np.inf
    np.testing.assert_array_equal(found.x, np.ones(2))


def test_a_flat_function_has_no_way_up():
    evaluate = counted(lambda x: (1.5, np.zeros_like(x)))
    found = maximise(evaluate, np.ones(3), steps(3))
    assert (found.value, found.decrement, evaluate.count) == (1.5, 0.0, 1)


def test_a_flat_direction_does_not_disturb_the_others():
    H = np.diag([1.0, 0.0, 4.0])
    found = maximise(quadratic(H, np.array([3.0, 0.0, -2.0])), np.zeros(3), steps(3))
    np.testing.assert_allclose(found.x, [3.0, 0.0, -2.0], atol=1e-4)


def test_without_coordinates_there_is_one_evaluation():
    evaluate = counted(lambda x: (-4.0, np.zeros(0)))
    found = maximise(evaluate, np.zeros(0), np.zeros(0))
    assert (found.value, found.decrement, evaluate.count) == (-4.0, 0.0, 1)
    assert hessian(evaluate, np.zeros(0), np.zeros(0), 1e-4).shape == (0, 0)


def test_no_step_is_longer_than_allowed():
    points, allowed = [], np.array([0.5, 0.01])

    def evaluate(x):
        points.append(x)
        return quadratic(np.eye(2), np.array([4.0, 0.5]))(x)

    found = maximise(evaluate, np.zeros(2), allowed, tolerance=1e-12)
    np.testing.assert_allclose(found.x, [4.0, 0.5], atol=1e-5)
    jumps = np.abs(np.diff(points, axis=0))
    assert (jumps <= allowed * (1 + 1e-12)).all()


@pytest.mark.parametrize("noise", [1e-12, 1e-11, 1e-10])
def test_rounding_of_the_values_does_not_stop_it(noise):
    """A log likelihood of -1e3 is known to some 1e-10; its slopes still tell the way."""
    rng = np.random.default_rng(0)

    def evaluate(x):
        value, gradient = rosenbrock(x)
        return -1e3 + value + noise * rng.normal(), gradient

    found = maximise(evaluate, np.array([-1.2, 1.0]), steps(2), tolerance=1e-12)
    np.testing.assert_allclose(found.x, 1.0, atol=1e-4)
    assert found.evaluations < 300


def test_many_steps_end_at_all():
    """A slope that never ends, as of a coefficient at infinity."""
    evaluate = counted(lambda x: (-np.exp(-x[0]), np.exp(-x)))
    found = maximise(evaluate, np.zeros(1), steps(1), tolerance=0.0)
    assert evaluate.count < 6000
    assert found.x[0] > 10


# ---- the Hessian


def test_the_hessian_is_minus_the_second_derivative():
    x = np.array([0.3, -0.4, 0.8])

    def evaluate(x):
        return np.sum(np.sin(x)) + x[0] * x[1] * x[2], np.cos(x) + x[[1, 2, 0]] * x[[2, 0, 1]]

    exact = np.diag(np.sin(x)) - np.array([[0, x[2], x[1]], [x[2], 0, x[0]], [x[1], x[0], 0]])
    for step in (1e-3, 1e-4, 1e-5):
        found = hessian(evaluate, x, evaluate(x)[1], step)
        # To one side: half the third derivative, at most 1, times the step.
        np.testing.assert_allclose(found, exact, atol=step)
        np.testing.assert_array_equal(found, found.T)


def test_the_hessian_of_a_quadratic_is_exact():
    H, top = random_quadratic(5, 10.0)
    x = np.ones(5)
    found = hessian(quadratic(H, top), x, quadratic(H, top)(x)[1], 1e-4)
    np.testing.assert_allclose(found, H, rtol=1e-9, atol=1e-9)


# ---- the second optimiser


@pytest.mark.parametrize("start", [(-1.2, 1.0), (2.0, -3.0)])
def test_bounded_newton_climbs_the_valley(start):
    found = bounded_newton(rosenbrock, np.array(start), 1e-6)
    np.testing.assert_allclose(found, 1.0, atol=1e-3)


def test_bounded_newton_leaves_a_saddle():
    """-(x^2 - 1)^2 - y^2: quasi-Newton steps along x = 0 end at the saddle (0, 0)."""

    def evaluate(x):
        a, b = x
        return -((a * a - 1) ** 2) - b * b, np.array([-4 * a * (a * a - 1), -2 * b])

    saddle = maximise(evaluate, np.array([0.0, 2.0]), steps(2))
    np.testing.assert_allclose(saddle.x, 0.0, atol=1e-4)
    found = bounded_newton(evaluate, np.array([1e-3, 2.0]), 1e-6)
    assert abs(found[0]) == pytest.approx(1.0, abs=1e-4)
    assert found[1] == pytest.approx(0.0, abs=1e-4)


def test_bounded_newton_keeps_out_of_a_region_without_values():
    def evaluate(x):
        if x[0] <= 0:
            return -np.inf, np.zeros(1)
        return np.log(x[0]) - x[0], 1 / x - 1

    found = bounded_newton(evaluate, np.array([5.0]), 1e-6)
    assert found[0] == pytest.approx(1.0, abs=1e-4)
