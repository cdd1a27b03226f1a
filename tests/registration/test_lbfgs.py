"""L-BFGS on many functions at once: directions, ends, and rows that do not feel each other."""

import numpy as np
import pytest

from fourierreg.backend import to_numpy
from fourierreg.registration import lbfgs
from fourierreg.registration.lbfgs import MEMORY, Pairs, minimise_rows
from tests import laws

SIZE = 60
ENDS = {"enough": 1e-10, "window": 5, "max_iterations": 200}


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
        self.walls, self.xp, self.asked = walls, xp, []

    def __call__(self, x, rows):
        self.asked.append(rows.copy())
        off = to_numpy(x) - self.centres[rows]
        slope = np.einsum("rij,rj->ri", self.matrices[rows], off)
        value = 0.5 * np.sum(off * slope, axis=1)
        if self.walls is not None:
            beyond = np.linalg.norm(to_numpy(x), axis=1) > self.walls[rows]
            value[beyond], slope[beyond] = np.inf, 0.0
        return value, self.xp.asarray(slope)

    def of(self, row):
        """The same function as the only row."""
        alone = Quadratics(1, self.xp)
        alone.matrices, alone.centres = self.matrices[[row]], self.centres[[row]]
        alone.walls = None if self.walls is None else self.walls[[row]]
        return alone


def run(functions, xp, rows, pairs=None, **ends):
    inverse = xp.asarray(np.broadcast_to(np.linspace(0.5, 2.0, SIZE), (rows, SIZE)).copy())
    start = xp.zeros((rows, SIZE))
    gain = np.full(rows, 0.1)
    return minimise_rows(functions, start, inverse, gain, pairs or [None] * rows, **ENDS | ends)


def test_every_row_ends_at_its_minimum(xp):
    functions = Quadratics(3, xp)
    for row, end in enumerate(run(functions, xp, 3)):
        assert end.settled and not end.refused
        assert end.value < 1e-8
        laws.close(end.x, functions.centres[row], rtol=1e-4)


def test_rows_end_when_they_are_done(xp):
    functions = Quadratics(3, xp)
    ends = run(functions, xp, 3)
    assert ends[0].iterations < ends[2].iterations
    assert [2] in [list(rows) for rows in functions.asked]  # the last one goes on alone


def test_a_row_does_not_feel_its_company(xp):
    functions = Quadratics(3, xp, walls=np.array([50.0, 7.0, 50.0]))
    together = run(functions, xp, 3)
    for row, end in enumerate(together):
        (alone,) = run(functions.of(row), xp, 1)
        assert alone.iterations == end.iterations
        laws.close(end.x, alone.x, rtol=1e-6)


def test_values_fall(xp):
    functions, seen = Quadratics(2, xp), {0: [], 1: []}
    values = {}

    def objective(x, rows):
        value, slope = functions(x, rows)
        values.update(zip(rows.tolist(), value.tolist(), strict=True))
        return value, slope

    ends = run(objective, xp, 2, accept=lambda row, norm: seen[row].append((values[row], norm)))
    for row, end in enumerate(ends):
        totals = [value for value, _ in seen[row]]
        assert len(totals) == end.iterations and totals[-1] == end.value
        assert np.all(np.diff(totals) <= 0)
        assert seen[row][-1][1] < 1e-3 * seen[row][0][1]  # the gradient


def test_the_number_of_iterations_is_a_limit(xp):
    for end in run(Quadratics(2, xp), xp, 2, max_iterations=4):
        assert end.iterations == 4 and not end.settled


def test_points_without_a_value_are_never_taken(xp):
    functions = Quadratics(2, xp, walls=np.array([1e9, 3.0]))
    assert np.linalg.norm(functions.centres[1]) > 3
    free, walled = run(functions, xp, 2)
    assert free.value < 1e-8
    assert np.linalg.norm(to_numpy(walled.x)) <= 3 and walled.refused
    start = functions(xp.zeros((2, SIZE)), np.arange(2))[0][1]
    assert walled.value < 0.9 * start


def test_a_zero_gradient_is_an_end(xp):
    functions = Quadratics(2, xp)
    functions.centres[0] = 0.0
    done, other = run(functions, xp, 2)
    assert done.value == 0.0 and done.settled
    assert other.value < 1e-8


def test_what_was_learnt_saves_iterations(xp):
    functions = Quadratics(3, xp)
    before = run(functions, xp, 3, enough=1e-4)
    again = run(functions, xp, 3, enough=1e-4, pairs=[None, before[1].pairs, before[2].pairs])
    assert again[0].iterations == before[0].iterations
    for old, new in zip(before[1:], again[1:], strict=True):
        assert new.iterations < 0.85 * old.iterations
        assert old.pairs.steps.shape[0] == min(MEMORY, old.iterations)


def two_loops(g, pairs, inverse):
    """B g by the two loops of Nocedal (1980)."""
    q, shares = g.copy(), []
    for s, y in reversed(pairs):
        shares.append((s @ q) / (s @ y))
        q = q - shares[-1] * y
    s, y = pairs[-1]
    r = (s @ y) / (y @ (inverse * y)) * inverse * q
    for (s, y), share in zip(pairs, reversed(shares), strict=True):
        r = r + s * (share - (y @ r) / (s @ y))
    return r


@pytest.mark.parametrize("count", [1, 5, MEMORY, MEMORY + 7])
def test_direction_is_that_of_the_two_loops(xp, count):
    rng = np.random.default_rng(1)
    inverse = rng.uniform(0.5, 2.0, (2, SIZE))
    matrix = np.diag(np.geomspace(1, 30, SIZE))
    known = rng.standard_normal((3, SIZE))
    brought = Pairs(xp.asarray(known), xp.asarray(known @ matrix))
    memory = lbfgs._Memory(xp.asarray(inverse), np.ones(2), [None, brought], xp)
    pairs = [[], [(s, matrix @ s) for s in known]]
    for _ in range(count):
        s = rng.standard_normal((2, SIZE))
        memory.learn(xp.asarray(s), xp.asarray(s @ matrix))
        for row in (0, 1):
            pairs[row].append((s[row], matrix @ s[row]))
    g = rng.standard_normal((2, SIZE))
    found = to_numpy(memory.times(xp.asarray(g)))
    for row in (0, 1):
        laws.close(found[row], two_loops(g[row], pairs[row][-MEMORY:], inverse[row]), rtol=1e-6)
        kept = memory.pairs_of(row)
        laws.close(kept.steps, np.array([s for s, _ in pairs[row][-MEMORY:]]))


def test_a_pair_that_says_nothing_is_left_out(xp):
    memory = lbfgs._Memory(xp.ones((2, SIZE)), np.ones(2), [None, None], xp)
    s = np.random.default_rng(2).standard_normal((2, SIZE))
    y = s * np.array([[1.0], [-1.0]])  # the second row curves downwards
    memory.learn(xp.asarray(s), xp.asarray(y))
    assert memory.pairs_of(0).steps.shape[0] == 1
    assert memory.pairs_of(1).steps.shape[0] == 0
    g = xp.asarray(s)
    laws.close(memory.times(g)[1], g[1])


def test_a_lost_line_search_forgets_and_then_ends(xp):
    """A gradient of the wrong sign: no step along it ever lowers the value."""

    def objective(x, rows):
        host = to_numpy(x)
        return np.sum(host**2, axis=1) + 1.0, xp.asarray(-2.0 * host - 1.0)

    known = np.random.default_rng(3).standard_normal((2, SIZE))
    pairs = [Pairs(xp.asarray(known), xp.asarray(known)), None]
    asked = []

    def counting(x, rows):
        asked.extend(rows.tolist())
        return objective(x, rows)

    for end in run(counting, xp, 2, pairs=pairs):
        assert end.iterations == 0 and end.settled and end.value == 1.0
    assert asked.count(1) == lbfgs.MAX_TRIALS + 1
    assert asked.count(0) == 2 * lbfgs.MAX_TRIALS + 1
