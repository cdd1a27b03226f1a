"""Doubtful registrations come first, and the page says why."""

import numpy as np
import pytest

from fourierreg.results.match_figures import checkerboard
from fourierreg.results.ranking import MIN_GROUP, rank_by_doubt


def rows(count=12):
    """Registrations that are much alike."""
    rng = np.random.default_rng(0)
    return [
        {
            "alpha": 4 * np.exp(0.1 * rng.standard_normal()),
            "alpha_low": 3.5,
            "alpha_high": 4.6 + 0.1 * rng.uniform(),
            "min_jacobian": 0.3 + 0.05 * rng.standard_normal(),
            "rms_displacement_mm": 3 + 0.2 * rng.standard_normal(),
            "folds": 0,
            "converged": True,
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"alpha": 40.0}, "α unlike the others"),
        ({"alpha": 0.4}, "α unlike the others"),
        ({"alpha_high": 400.0}, "wide interval"),
        ({"rms_displacement_mm": 30.0}, "large displacements"),
        ({"min_jacobian": 0.01}, "smallest Jacobian determinant"),
        ({"folds": 3}, "3 voxels fold"),
        ({"converged": False, "status": "The search had not settled."}, "had not settled"),
    ],
)
def test_what_is_unusual_comes_first_with_its_reason(change, reason):
    group = rows()
    group[7] |= change
    first, second = rank_by_doubt(group)[:2]
    assert first.row == 7 and reason in " ".join(first.reasons)
    assert first.score > second.score
    # As text, in which tables hold them.
    texts = [{name: str(value) for name, value in row.items()} for row in group]
    assert [d.row for d in rank_by_doubt(texts)] == [d.row for d in rank_by_doubt(group)]


def test_a_warning_of_one_that_converged_is_a_doubt_too():
    group = rows()
    group[4] |= {"warnings": 1, "status": "Held-out voxels contradict this alpha."}
    first = rank_by_doubt(group)[0]
    assert first.row == 4 and first.reasons == ("Held-out voxels contradict this alpha.",)


def test_warnings_come_before_what_is_merely_unusual():
    group = rows()
    group[2] |= {"alpha": 400.0}
    group[5] |= {"converged": "False", "status": "a warning"}
    assert [doubt.row for doubt in rank_by_doubt(group)][:2] == [5, 2]


def test_a_small_distance_in_the_good_direction_is_no_doubt():
    group = rows()
    group[3] |= {"min_jacobian": 0.9, "rms_displacement_mm": 0.5, "alpha_high": 3.6}
    found = {doubt.row: doubt for doubt in rank_by_doubt(group)}
    assert found[3].reasons == ()


def test_in_a_small_group_only_warnings_count():
    group = rows(MIN_GROUP - 1)
    group[1] |= {"alpha": 400.0}
    assert all(doubt.score == 0 and not doubt.reasons for doubt in rank_by_doubt(group))


def test_a_checkerboard_has_half_of_each_image():
    zeros, ones = np.zeros((32, 40, 24)), np.ones((32, 40, 24))
    board = checkerboard(zeros, ones)
    assert set(np.unique(board)) == {0.0, 1.0}
    assert abs(board.mean() - 0.5) < 0.1
    np.testing.assert_array_equal(board, 1 - checkerboard(ones, zeros))
