"""Sparse Cholesky factors: the truth is dense algebra, SuperLU and columns of the inverse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.linalg import splu

from glmm_bayes.engine.algebra.cholesky import Factor, Symbolic, analyse


def lower(A: sparse.csc_array, symbolic: Symbolic) -> np.ndarray:
    """A's entries in the order of the pattern, zero where A has none."""
    column = np.repeat(np.arange(symbolic.n), np.diff(symbolic.indptr))
    return np.asarray(A[symbolic.indices, column]).ravel()


def factorise(A: sparse.csc_array) -> Factor:
    symbolic = analyse(A)
    return symbolic.factor(lower(A, symbolic))


def dominant(edges: sparse.sparray, rng: np.random.Generator) -> sparse.csc_array:
    """A positive definite matrix with these edges, off its diagonal, of both signs."""
    edges = sparse.coo_array(sparse.tril(edges, -1))
    edges.data = rng.normal(size=edges.data.size)
    A = sparse.csc_array(edges + edges.T)
    return sparse.csc_array(
        A + sparse.diags_array(abs(A).sum(axis=0) + rng.uniform(0.01, 1, A.shape[0]))
    )


def random_pattern(n: int, density: float, seed: int) -> sparse.csc_array:
    rng = np.random.default_rng(seed)
    return dominant(sparse.random_array((n, n), density=density, rng=rng), rng)


def cycle(n: int) -> sparse.csc_array:
    """A ring, whose fill decays so fast that it is not seen in numbers."""
    edge = sparse.coo_array((np.ones(n), (np.arange(n), (np.arange(n) + 1) % n)), shape=(n, n))
    return dominant(edge + edge.T, np.random.default_rng(5))


SMALL = {
    "one": sparse.csc_array(np.array([[4.0]])),
    "two": sparse.csc_array(np.array([[2.0, -1.0], [-1.0, 1.0]])),
    "diagonal": sparse.csc_array(sparse.diags_array(np.arange(1.0, 8.0))),
    "dense": dominant(sparse.csc_array(np.ones((30, 30))), np.random.default_rng(1)),
    "arrow": dominant(
        sparse.csc_array(np.arange(25)[:, None] * np.arange(25)[None] == 0),
        np.random.default_rng(2),
    ),
    "chain": dominant(sparse.diags_array(np.ones(39), offsets=-1), np.random.default_rng(3)),
    "ring": cycle(60),
    "sparse": random_pattern(80, 0.01, 4),
    "denser": random_pattern(60, 0.1, 5),
    "disconnected": sparse.csc_array(
        sparse.block_diag([random_pattern(20, 0.1, 6), [[3.0]], random_pattern(15, 0.3, 7)])
    ),
}


@pytest.fixture(params=list(SMALL))
def matrix(request: pytest.FixtureRequest) -> sparse.csc_array:
    return SMALL[request.param]


def check_against_dense(A: sparse.csc_array) -> None:
    dense = A.toarray()
    n = dense.shape[0]
    symbolic = analyse(A)
    factor = symbolic.factor(lower(A, symbolic))
    inverse = np.linalg.inv(dense)
    close = {"rtol": 1e-9, "atol": 1e-9 * abs(inverse).max()}
    np.testing.assert_allclose(factor.log_determinant, np.linalg.slogdet(dense)[1], atol=1e-9)
    b = np.random.default_rng(n).normal(size=(n, 3))
    np.testing.assert_allclose(factor.solve(b), np.linalg.solve(dense, b), **close)
    np.testing.assert_allclose(factor.solve(b[:, 0]), np.linalg.solve(dense, b[:, 0]), **close)
    root = factor.solve_root(np.eye(n))
    np.testing.assert_allclose(root @ root.T, inverse, **close)
    np.testing.assert_allclose(factor.solve_root(b), root @ b, **close)
    np.testing.assert_allclose(factor.solve_root(b[:, 1]), root @ b[:, 1], **close)
    column = np.repeat(np.arange(n), np.diff(symbolic.indptr))
    np.testing.assert_allclose(
        factor.selected_inverse(), inverse[symbolic.indices, column], **close
    )


def test_everything_agrees_with_dense_algebra(matrix):
    check_against_dense(matrix)


@pytest.mark.parametrize("part", [sparse.tril, sparse.triu, lambda A: sparse.tril(A, -1)])
def test_a_triangle_says_as_much_as_the_whole_pattern(matrix, part):
    whole, triangle = analyse(matrix), analyse(part(matrix))
    np.testing.assert_array_equal(triangle.indptr, whole.indptr)
    np.testing.assert_array_equal(triangle.indices, whole.indices)


def test_the_pattern_is_the_lower_triangle_by_columns(matrix):
    symbolic = analyse(matrix)
    expected = sparse.csc_array(sparse.tril(matrix))
    expected.sort_indices()
    np.testing.assert_array_equal(symbolic.indptr, expected.indptr)
    np.testing.assert_array_equal(symbolic.indices, expected.indices)


def test_stored_zeros_are_part_of_the_pattern():
    A = sparse.csc_array((np.array([2.0, 0.0, 0.0, 5.0]), ([0, 1, 0, 1], [0, 0, 1, 1])))
    assert analyse(A).indices.tolist() == [0, 1, 1]
    check_against_dense(A)


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_entries_that_cancel_are_no_harm(turn):
    # Whichever row is eliminated first, in one of the turns L has a zero in its pattern.
    A = np.array([[1.0, 1.0, 1.0], [1.0, 3.0, 1.0], [1.0, 1.0, 4.0]])
    check_against_dense(sparse.csc_array(np.roll(A, turn, axis=(0, 1))))


def test_one_analysis_serves_many_matrices_and_leaves_its_input_alone():
    A = SMALL["denser"]
    symbolic = analyse(A)
    first = symbolic.factor(lower(A, symbolic))
    data, b = 3.0 * lower(A, symbolic), np.ones(symbolic.n)
    second = symbolic.factor(data)
    np.testing.assert_allclose(first.solve(b), 3.0 * second.solve(b), rtol=1e-12)
    np.testing.assert_array_equal(data, 3.0 * lower(A, symbolic))
    np.testing.assert_array_equal(b, np.ones(symbolic.n))


@pytest.mark.parametrize(
    "dense",
    [
        [[0.0]],
        [[-1.0]],
        [[1.0, 2.0], [2.0, 1.0]],
        [[1.0, -1.0], [-1.0, 1.0]],
        [[0.1, 0.3], [0.3, 0.9]],
        [[np.nan, 0.1], [0.1, 1.0]],
        [[1.0, np.nan], [np.nan, 1.0]],
        [[np.inf, 0.1], [0.1, 1.0]],
    ],
)
def test_what_is_not_positive_definite_raises(dense):
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        factorise(sparse.csc_array(np.array(dense)))


def test_a_matrix_raises_once_its_smallest_eigenvalue_is_below_zero(matrix):
    smallest = np.linalg.eigvalsh(matrix.toarray())[0]
    identity = sparse.eye_array(matrix.shape[0])
    factorise(sparse.csc_array(matrix - (smallest - 1e-6) * identity))
    with pytest.raises(np.linalg.LinAlgError):
        factorise(sparse.csc_array(matrix - (smallest + 1e-6) * identity))


@pytest.mark.parametrize("solve", [Factor.solve, Factor.solve_root])
@pytest.mark.parametrize("b", [np.ones(1), np.ones(3), np.ones((1, 2)), np.float64(1.0)])
def test_right_hand_sides_of_another_size_raise(solve, b):
    with pytest.raises(ValueError, match="2 rows, but b has shape"):
        solve(factorise(SMALL["two"]), b)


def test_data_of_another_pattern_raise():
    with pytest.raises(ValueError, match="3 entries, but data has shape"):
        analyse(SMALL["two"]).factor(np.ones(2))


def test_a_pattern_that_is_not_square_raises():
    with pytest.raises(ValueError, match="square"):
        analyse(sparse.csc_array(np.ones((2, 3))))


def tree_precision(size: int) -> sparse.csc_array:
    """Increments along the branches of a random tree, its root N(0, 1), and half the nodes seen."""
    rng = np.random.default_rng(8)
    child = np.arange(1, size)
    parent = (rng.uniform(size=size - 1) ** 0.5 * child).astype(int)
    relabel = rng.permutation(size)
    child, parent, weight = relabel[child], relabel[parent], 1 / rng.exponential(0.1, size - 1)
    Q = sparse.csc_array(
        (
            np.r_[weight, weight, -weight, -weight],
            (np.r_[child, parent, child, parent], np.r_[child, parent, parent, child]),
        ),
        shape=(size, size),
    )
    own = np.zeros(size)
    own[np.setdiff1d(np.arange(size), parent)] = 4.0
    own[relabel[0]] += 1.0
    return sparse.csc_array(Q + sparse.diags_array(own))


def grid_precision(side: int) -> sparse.csc_array:
    """The Laplacian of a square grid, and the identity."""
    path = sparse.diags_array([-np.ones(side - 1), -np.ones(side - 1)], offsets=[-1, 1])
    A = sparse.kron(path, sparse.eye_array(side)) + sparse.kron(sparse.eye_array(side), path)
    return sparse.csc_array(A + sparse.diags_array(1.0 - A.sum(axis=0)))


def crossed_information(rows: int, *levels: int) -> sparse.csc_array:
    """Z'Z + I of random crossed factors."""
    rng = np.random.default_rng(9)
    Z = sparse.hstack(
        [
            sparse.csr_array(
                (np.ones(rows), (np.arange(rows), rng.integers(k, size=rows))), (rows, k)
            )
            for k in levels
        ]
    )
    return sparse.csc_array(Z.T @ Z + sparse.eye_array(sum(levels)))


@pytest.mark.parametrize(
    "A",
    [tree_precision(4000), grid_precision(100), crossed_information(3000, 500, 300, 20)],
    ids=["tree", "grid", "crossed"],
)
def test_large_matrices_agree_with_superlu_and_columns_of_the_inverse(A):
    n = A.shape[0]
    symbolic = analyse(A)
    factor = symbolic.factor(lower(A, symbolic))
    other = splu(A)
    log_determinant = np.log(abs(other.U.diagonal())).sum()
    np.testing.assert_allclose(factor.log_determinant, log_determinant, rtol=1e-11)
    b = np.random.default_rng(10).normal(size=(n, 2))
    np.testing.assert_allclose(factor.solve(b), other.solve(b), rtol=1e-8, atol=1e-10)
    inverse = factor.selected_inverse()
    for j in [0, 1, n // 3, n // 2, n - 1]:
        entries = slice(symbolic.indptr[j], symbolic.indptr[j + 1])
        exact = other.solve((np.arange(n) == j).astype(float))[symbolic.indices[entries]]
        np.testing.assert_allclose(inverse[entries], exact, rtol=1e-8)


def test_minimum_degree_leaves_a_tree_without_fill():
    symbolic = analyse(tree_precision(4000))
    assert symbolic.L_indices.size == symbolic.indices.size


def test_the_ordering_keeps_the_fill_of_a_grid_low():
    # A band of 100 would have a million entries; published minimum degrees have about a fifth.
    assert analyse(grid_precision(100)).L_indices.size < 250_000


@st.composite
def matrices(draw: st.DrawFn) -> sparse.csc_array:
    n = draw(st.integers(1, 12))
    pairs = draw(st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40))
    dense = np.zeros((n, n))
    for i, j in pairs:
        dense[i, j] = 1.0
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return dominant(sparse.csc_array(dense + dense.T), rng)


@settings(max_examples=200, deadline=None)
@given(matrices())
def test_small_patterns_agree_with_dense_algebra(A):
    check_against_dense(A)


@settings(max_examples=100, deadline=None)
@given(matrices())
def test_the_pattern_holds_the_dense_factor_and_no_more(A):
    symbolic = analyse(A)
    # All of one sign off the diagonal: nothing cancels, and every entry of the pattern shows.
    M = -abs(A) + 2.0 * sparse.diags_array(A.diagonal())
    permuted = M.toarray()[np.ix_(symbolic.order, symbolic.order)]
    shown = sparse.csc_array(np.linalg.cholesky(permuted))
    np.testing.assert_array_equal(shown.indptr, symbolic.L_indptr)
    np.testing.assert_array_equal(shown.indices, symbolic.L_indices)
