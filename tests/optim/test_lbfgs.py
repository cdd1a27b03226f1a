"""L-BFGS on many functions at once: directions, convergence, independence of the rows."""

import itertools

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.optim.lbfgs import MAX_TRIALS, Starts, minimization, minimize
from fourierreg.optim.limited_memory import CAPACITY, LimitedMemory
from fourierreg.optim.vectors import CurvaturePairs, Vectors
from tests import laws

SIZE = 60
STOPPING = {"min_decrease": 1e-10, "max_iterations": 200}
WINDOW = 5


class Quadratics:
    """½ (x - c)ᵀ A (x - c) of every row, with spectra of different width."""

    def __init__(self, rows, xp, walls=None):
        rng = np.random.default_rng(0)
        bases = [np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0] for _ in range(rows)]
        widths = np.logspace(0.5, 3, rows)
        spectra = [np.geomspace(1, width, SIZE) for width in widths]
        both = zip(bases, spectra, strict=True)
        self.matrices = np.array([(q * s) @ q.T for q, s in both])
        self.centres = rng.standard_normal((rows, SIZE))
        self.walls, self.xp, self.batches = walls, xp, []

    def __call__(self, rows):
        self.batches.append(rows)
        matrices, centres = (self.xp.asarray(a[rows]) for a in (self.matrices, self.centres))

        def function(x):
            off = x - centres
            slope = self.xp.sum(matrices * off[:, None], axis=2)
            value = 0.5 * self.xp.sum(off * slope, axis=1)
            return self.xp.stack([value, self.xp.sum(x * x, axis=1)], axis=1), slope

        return function

    def values(self, scalars, rows):
        """Infinite beyond the walls."""
        value, square = scalars.T
        if self.walls is None:
            return value
        return np.where(square > self.walls[rows] ** 2, np.inf, value)

    def first(self, x, rows=None):
        """Values and gradients at a start."""
        rows = np.arange(x.shape[0]) if rows is None else rows
        scalars, slope = self(rows)(x)
        return self.values(to_numpy(scalars), rows), slope

    def of(self, row):
        """The same function as the only row."""
        single = Quadratics(1, self.xp)
        single.matrices, single.centres = self.matrices[[row]], self.centres[[row]]
        single.walls = None if self.walls is None else self.walls[[row]]
        return single


def run(functions, xp, rows, pairs=None, callback=None, more=None, **stopping):
    begin = starts(functions, xp, np.arange(rows), pairs, **stopping)
    options = {"window": WINDOW, "callback": callback}
    if more is None:
        return minimize(functions, functions.values, begin, **options)
    found = {}
    options |= {"finished": found.update, "more": more}
    for _ in minimization(functions, functions.values, begin, **options):
        run(Quadratics(2, xp), xp, 2)  # other work in between
    return [found[row] for row in sorted(found)]


def starts(functions, xp, rows, pairs=None, **stopping):
    """`Starts` of some rows at zero."""
    count = len(rows)
    inverse = xp.asarray(np.broadcast_to(np.linspace(0.5, 2.0, SIZE), (count, SIZE)).copy())
    start = xp.zeros((count, SIZE))
    gamma, pairs = np.full(count, 0.1), pairs or [None] * count
    rules = STOPPING | stopping
    return Starts(start, *functions.first(start, rows), inverse, gamma, pairs, *rules.values())


def test_every_row_reaches_its_minimum(xp):
    functions = Quadratics(3, xp)
    for row, end in enumerate(run(functions, xp, 3)):
        assert end.converged and not end.refused
        assert end.value < 1e-8
        laws.close(end.x, functions.centres[row], rtol=1e-4)


def test_converged_rows_leave_the_batch(xp):
    functions = Quadratics(3, xp)
    ends = run(functions, xp, 3)
    assert ends[0].iterations < ends[2].iterations
    assert [2] in [list(rows) for rows in functions.batches]  # the last row by itself


def test_a_row_does_not_depend_on_the_others(xp):
    functions = Quadratics(3, xp, walls=np.array([50.0, 7.0, 50.0]))
    batch = run(functions, xp, 3)
    for row, end in enumerate(batch):
        (single,) = run(functions.of(row), xp, 1)
        assert single.iterations == end.iterations
        laws.close(end.x, single.x, rtol=1e-6)


def test_finished_rows_stay_in_a_captured_graph_until_a_quarter_is_done(xp):
    walls = np.array([50.0, 7.0, 50.0, 50.0, 9.0, 50.0, 50.0])
    functions = Quadratics(7, xp, walls=walls)
    ends = run(functions, xp, 7)
    for row, end in enumerate(ends):
        (single,) = run(functions.of(row), xp, 1)
        assert single.iterations == end.iterations
        laws.close(end.x, single.x, rtol=1e-6)
        assert end.pairs.steps.shape == single.pairs.steps.shape
    kept = [len(rows) for rows in functions.batches[1:]]  # after `first`
    assert kept[0] == 7 and kept[-1] == 1
    if xp is not np:
        assert all(after <= 0.75 * before for before, after in itertools.pairwise(kept))


def test_rows_that_join_later_do_as_well_as_alone(xp):
    functions, waiting, kept = Quadratics(6, xp), [[3, 4], [5]], []

    def more(rows):
        kept.append(rows.tolist())
        limits = {"max_iterations": 7 if len(waiting) == 1 else 200}
        return starts(functions, xp, np.array(waiting.pop(0)), **limits) if waiting else None

    ends = run(functions, xp, 3, more=more)
    assert len(ends) == 6 and ends[5].iterations == 7 and not ends[5].converged
    for row, end in enumerate(ends[:5]):
        (single,) = run(functions.of(row), xp, 1)
        assert single.iterations == end.iterations
        laws.close(end.x, single.x, rtol=1e-6)
    assert 0 not in kept[0] and len(kept[0]) < 3  # the first to end makes room
    assert any(len(rows) > 2 and 3 in rows for rows in functions.batches)  # and they step together


def test_no_rows_at_all(xp):
    assert run(Quadratics(1, xp), xp, 0) == []


def test_values_fall(xp):
    functions, seen, values = Quadratics(2, xp), {0: [], 1: []}, {}

    class Watched(Quadratics):
        def values(self, scalars, rows):
            found = super().values(scalars, rows)
            values.update(zip(rows.tolist(), found.tolist(), strict=True))
            return found

    watched = Watched(2, xp)
    ends = run(watched, xp, 2, callback=lambda row, norm: seen[row].append((values[row], norm)))
    for row, end in enumerate(ends):
        totals = [value for value, _ in seen[row]]
        assert len(totals) == end.iterations and totals[-1] == end.value
        assert np.all(np.diff(totals) <= 0)
        assert seen[row][-1][1] < 1e-3 * seen[row][0][1]  # the gradient
        slope = functions.matrices[row] @ (to_numpy(end.x) - functions.centres[row])
        assert seen[row][-1][1] == pytest.approx(np.linalg.norm(slope), rel=1e-3)


def test_the_number_of_iterations_is_a_limit(xp):
    for end in run(Quadratics(2, xp), xp, 2, max_iterations=4):
        assert end.iterations == 4 and not end.converged


def test_points_without_a_value_are_never_accepted(xp):
    functions = Quadratics(2, xp, walls=np.array([1e9, 3.0]))
    assert np.linalg.norm(functions.centres[1]) > 3
    free, walled = run(functions, xp, 2)
    assert free.value < 1e-8
    assert np.linalg.norm(to_numpy(walled.x)) <= 3 and walled.refused
    start = functions.first(xp.zeros((2, SIZE)))[0][1]
    assert walled.value < 0.9 * start


def test_a_zero_gradient_converges_at_once(xp):
    functions = Quadratics(2, xp)
    functions.centres[0] = 0.0
    done, other = run(functions, xp, 2)
    assert done.value == 0.0 and done.converged
    assert other.value < 1e-8


def test_initial_pairs_save_iterations(xp):
    functions = Quadratics(3, xp)
    before = run(functions, xp, 3, min_decrease=1e-4)
    again = run(functions, xp, 3, min_decrease=1e-4, pairs=[None, before[1].pairs, before[2].pairs])
    assert again[0].iterations == before[0].iterations
    for old, new in zip(before[1:], again[1:], strict=True):
        assert new.iterations < 0.85 * old.iterations
        assert old.pairs.steps.shape[0] == min(CAPACITY, old.iterations)


def two_loops(g, pairs, inverse):
    """B g by the two loops of Nocedal (1980)."""
    q, coefficients = g.copy(), []
    for s, y in reversed(pairs):
        coefficients.append((s @ q) / (s @ y))
        q = q - coefficients[-1] * y
    s, y = pairs[-1]
    r = (s @ y) / (y @ (inverse * y)) * inverse * q
    for (s, y), share in zip(pairs, reversed(coefficients), strict=True):
        r = r + s * (share - (y @ r) / (s @ y))
    return r


class Learner:
    """The vectors and the memory of two rows, driven by hand."""

    def __init__(self, inverse, gamma, pairs, xp):
        self.xp, rows = xp, inverse.shape[0]
        zeros = xp.zeros(inverse.shape)
        self.vectors = Vectors(zeros, zeros, xp.asarray(inverse), pairs)
        counts = [0 if known is None else known.steps.shape[0] for known in pairs]
        products = self.vectors.pair_products()
        self.memory = LimitedMemory(
            np.full(rows, gamma), counts, *products, to_numpy(self.vectors.products())
        )

    def accept(self, s, y, needs_direction=False):
        """Accept a step along which the gradient changes by y; returns the slots of the pairs."""
        self.vectors.step[...] = self.xp.asarray(s)
        self.vectors.trial_gradient[...] = self.vectors.gradient + self.xp.asarray(y)
        slots = self.memory.update(to_numpy(self.vectors.products()), np.ones(len(s), dtype=bool))
        coefficients, gamma, self.slope = self.memory.direction()
        self.vectors.write_control(True, slots, needs_direction, gamma, 0.0, coefficients)
        self.vectors.advance()
        return slots

    def direction(self, g):
        """B g of every row."""
        self.accept(np.zeros(g.shape), g - to_numpy(self.vectors.gradient), needs_direction=True)
        return -to_numpy(self.vectors.direction)


@pytest.mark.parametrize("count", [1, 5, CAPACITY, CAPACITY + 7])
def test_direction_is_that_of_the_two_loop_recursion(xp, count):
    rng = np.random.default_rng(1)
    inverse = rng.uniform(0.5, 2.0, (2, SIZE))
    matrix = np.diag(np.geomspace(1, 30, SIZE))
    known = rng.standard_normal((3, SIZE))
    initial = CurvaturePairs(xp.asarray(known), xp.asarray(known @ matrix))
    learner = Learner(inverse, 1.0, [None, initial], xp)
    pairs = [[], [(s, matrix @ s) for s in known]]
    for _ in range(count):
        s = rng.standard_normal((2, SIZE))
        learner.accept(s, s @ matrix)
        for row in (0, 1):
            pairs[row].append((s[row], matrix @ s[row]))
    g = rng.standard_normal((2, SIZE))
    found = learner.direction(g)
    laws.close(learner.slope, -np.sum(found * g, axis=1), rtol=1e-6)
    for row in (0, 1):
        laws.close(found[row], two_loops(g[row], pairs[row][-CAPACITY:], inverse[row]), rtol=1e-6)
        kept = learner.vectors.pairs(row, learner.memory.slots(row))
        laws.close(kept.steps, np.array([s for s, _ in pairs[row][-CAPACITY:]]))


def test_a_pair_of_negative_curvature_is_left_out(xp):
    learner = Learner(np.ones((2, SIZE)), 1.0, [None, None], xp)
    s = np.random.default_rng(2).standard_normal((2, SIZE))
    y = s * np.array([[1.0], [-1.0]])  # the second row curves downwards
    assert learner.accept(s, y).tolist() == [0, -1]
    assert [len(learner.memory.slots(row)) for row in (0, 1)] == [1, 0]
    laws.close(learner.direction(s)[1], s[1])


def test_reset_pairs_have_no_part_in_the_direction(xp):
    rng, matrix = np.random.default_rng(4), np.diag(np.geomspace(1, 30, SIZE))
    learner = Learner(np.ones((2, SIZE)), 1.0, [None, None], xp)
    for _ in range(3):
        s = rng.standard_normal((2, SIZE))
        learner.accept(s, s @ matrix)
    assert learner.memory.reset(np.array([True, False])).tolist() == [True, False]
    s, g = rng.standard_normal((2, 2, SIZE))
    learner.accept(s, s @ matrix)
    expected = two_loops(g[0], [(s[0], matrix @ s[0])], np.ones(SIZE))
    laws.close(learner.direction(g)[0], expected, rtol=1e-6)


class Misleading:
    """Σ x² + 1 with a gradient of the wrong sign: no step along it ever lowers the value."""

    def __init__(self, xp):
        self.xp, self.batches = xp, []

    def __call__(self, rows):
        return lambda x: (self.xp.sum(x * x, axis=1)[:, None] + 1.0, -2.0 * x - 1.0)

    def values(self, scalars, rows):
        self.batches.append(rows.tolist())
        return scalars[:, 0]

    def first(self, x, rows):
        return np.ones(x.shape[0]), -2.0 * x - 1.0


def test_a_failed_line_search_resets_the_memory_and_then_ends(xp):
    known = np.random.default_rng(3).standard_normal((2, SIZE))
    pairs = [CurvaturePairs(xp.asarray(known), xp.asarray(known)), None]
    misleading = Misleading(xp)
    for end in run(misleading, xp, 2, pairs=pairs):
        assert end.iterations == 0 and end.converged and end.value == 1.0
    assert misleading.batches == [[0, 1]] * MAX_TRIALS + [[0]] * MAX_TRIALS
