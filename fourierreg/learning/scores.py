"""How well a network predicts the α of pairs it has not seen."""

import numpy as np
from scipy.stats import spearmanr

from fourierreg.learning.sequence import PairSequence

WHOLE = "all"


def predicted_logs(model, examples, shape, output, batch_size=4):
    """ln α of a list of examples as the network has it."""
    batches = PairSequence(examples, shape, batch_size=batch_size, output=output)
    values = np.asarray(model.predict(batches, verbose=0), dtype=np.float64)[:, 0]
    return values if output == "log_alpha" else np.log(np.maximum(values, 1e-6))


def constants_of(examples):
    """Mean ln α over all examples of a training split, and over those of each kind: the constants
    that predictions have to beat."""
    logs = np.log([example.alpha for example in examples])
    kinds = np.array([example.origin for example in examples])
    each = {str(kind): float(logs[kinds == kind].mean()) for kind in set(kinds)}
    return {WHOLE: float(logs.mean()), **each}


def scores_of(model, examples, shape, output, constants):
    """Errors in ln α over all examples of a split and, where there are several kinds, over each.

    Parameters
    ----------
    model : keras.Model
    examples : list of Example
    shape : tuple of int
    output : {"log_alpha", "alpha"}
        Of `build_network`.
    constants : dict
        Of `constants_of` the training pairs; that of all for a kind which was not among them.

    Returns
    -------
    dict
        Of "all" and every kind to `errors`.
    """
    found = predicted_logs(model, examples, shape, output)
    truth = np.log([example.alpha for example in examples])
    kinds = np.array([example.origin for example in examples])
    scores = {WHOLE: errors(found, truth, constants[WHOLE])}
    if len(set(kinds)) > 1:
        for kind in sorted(set(kinds)):
            mine = kinds == kind
            constant = constants.get(str(kind), constants[WHOLE])
            scores[str(kind)] = errors(found[mine], truth[mine], constant)
    return scores


def errors(found, truth, constant):
    """Mean squared, median and 95th percentile of the error in ln α, beside those of a constant.

    `r_squared` is against the mean of `truth` itself; it and `spearman` are None where `truth`
    does not vary.
    """
    off = found - truth
    spread = float(np.var(truth))
    varies = spread > 0 and len(truth) > 2
    return {
        "pairs": len(truth),
        "mse": float(np.mean(off**2)),
        "mse_of_constant": float(np.mean((constant - truth) ** 2)),
        "median_absolute_error": float(np.median(abs(off))),
        "absolute_error_95": float(np.percentile(abs(off), 95)),
        "bias": float(np.mean(off)),
        "r_squared": 1 - float(np.mean(off**2)) / spread if varies else None,
        "spearman": _rank_correlation(found, truth) if varies else None,
    }


def _rank_correlation(found, truth):
    if np.ptp(found) == 0:
        return 0.0
    return float(spearmanr(found, truth).statistic)
