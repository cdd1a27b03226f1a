"""Error statistics of predictions."""

import numpy as np
import pytest

from fourierreg.learning.examples import Example
from fourierreg.learning.scores import error_statistics, mean_log_alphas


def test_statistics_of_a_constant_error():
    truth = np.log([1.0, 2.0, 4.0, 8.0])
    found = error_statistics(truth + 0.1, truth, constant=0.0)
    assert found["mse"] == pytest.approx(0.01) and found["bias"] == pytest.approx(0.1)
    assert found["median_absolute_error"] == pytest.approx(0.1)
    assert found["absolute_error_95"] == pytest.approx(0.1)
    assert found["mse_of_constant"] == pytest.approx(np.mean(truth**2))
    assert found["r_squared"] == pytest.approx(1 - 0.01 / np.var(truth))
    assert found["spearman"] == pytest.approx(1.0)


def test_correlations_are_undefined_for_a_single_alpha():
    found = error_statistics(np.log([1.0, 2.0, 4.0, 8.0]), np.zeros(4), constant=0.0)
    assert found["r_squared"] is None and found["spearman"] is None


def test_baselines_are_the_mean_log_alpha_of_all_pairs_and_of_each_kind():
    pairs = [("labels", 2.0), ("labels", 8.0), ("simulated", 1.0), ("simulated", 1.0)]
    examples = [Example("", "", alpha, "train", (), kind) for kind, alpha in pairs]
    assert mean_log_alphas(examples) == pytest.approx(
        {"all": np.log(2.0), "labels": np.log(4.0), "simulated": 0.0}
    )
