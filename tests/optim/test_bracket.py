"""The minimum of a sum of losses over ln α."""

import math

import numpy as np
import pytest

from fourierreg.optim.batching import run
from fourierreg.optim.bracket import STEP, find_minimum
from fourierreg.optim.root import NO_OPTIMUM, NOT_CONVERGED


def search(losses, start, lower=-20.0, upper=20.0, **options):
    """The root, and where losses were asked for."""
    asked = []

    def losses_at(positions):
        asked.extend(positions)
        return [losses(x) for x in positions]
        yield  # a coroutine that requests nothing

    def coroutine():
        return (yield from find_minimum(losses_at, start, lower=lower, upper=upper, **options))

    return run(coroutine()), asked


@pytest.mark.parametrize("start", [-3.0, 0.9, 1.2, 4.0])
def test_the_minimum_of_a_parabola_is_exact(start):
    root, asked = search(lambda x: np.array([2.0, 3.0]) * (x - 1.1) ** 2, start)
    assert root.found and root.log_alpha == pytest.approx(1.1)
    assert root.sd == pytest.approx(0.0, abs=1e-9)
    assert len(asked) == len(set(asked)) <= 10
    steps = (np.array(asked) - start) / STEP
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)


def test_the_standard_error_is_that_of_independent_parts():
    """Parts whose minima scatter by τ: the minimum of n of them has a standard error of τ/√n."""
    rng, spread, parts = np.random.default_rng(0), 0.2, 16
    errors, reported = [], []
    for _ in range(400):
        centers = rng.normal(0.3, spread, parts)
        root, _ = search(lambda x, centers=centers: (x - centers) ** 2, 0.0)
        errors.append(root.log_alpha - 0.3)
        reported.append(root.sd)
    assert np.std(errors) == pytest.approx(spread / math.sqrt(parts), rel=0.1)
    # Student's t for 15 degrees of freedom is 9 % wider than the normal distribution.
    assert np.sqrt(np.mean(np.square(reported))) == pytest.approx(1.09 * np.std(errors), rel=0.1)
    covered = np.abs(errors) < 1.96 * np.array(reported)
    assert 0.92 < covered.mean() < 0.98


def test_no_minimum_within_the_limits():
    root, _ = search(lambda x: np.array([x, x]), 0.0, lower=-2.0)
    assert root.ending == NO_OPTIMUM and math.isnan(root.sd) and -2.0 <= root.log_alpha < -1.0


def test_too_far_away():
    root, asked = search(lambda x: np.array([(x - 15.0) ** 2]), 0.0, max_values=4)
    assert root.ending == NOT_CONVERGED and len(asked) == 4


def test_a_single_part_has_no_standard_error():
    root, _ = search(lambda x: np.array([(x - 0.2) ** 2]), 0.0)
    assert root.found and root.log_alpha == pytest.approx(0.2) and math.isnan(root.sd)
