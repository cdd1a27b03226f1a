"""Scores of the networks of `brain_network.py`, on test pairs, unseen subjects and a template."""

import math
from pathlib import Path

import numpy as np
import tables
from network_data import ALPHAS, SIGMA

import fourierreg
from fourierreg.data.template import FIELD_OF_VIEW, template_brain
from fourierreg.learning.examples import read_dataset
from fourierreg.learning.scores import error_statistics, predict_log_alpha
from fourierreg.learning.splits import combine
from fourierreg.simulation.pair import simulate_matched_pair
from fourierreg.spectral.metric import Metric

SCORES, FOLDS, PREDICTIONS = "brain_network.csv", "brain_folds.csv", "brain_predictions.csv"
NUM_FOLDS = 5
NUM_TEMPLATE_PAIRS = 40


def write_scores(name, scores):
    """Add a row per split and kind of pair to the table of scores."""
    for split, kinds in scores.items():
        for kind, statistics in kinds.items():
            if not tables.has(SCORES, model=name, split=split, kind=kind):
                rounded = {
                    k: v if v is None or k == "pairs" else f"{v:.4g}" for k, v in statistics.items()
                }
                tables.append(SCORES, {"model": name, "split": split, "kind": kind, **rounded})


def write_test_predictions(name, folders, path):
    """Replace the rows of a network in the table of predictions of test pairs."""
    examples, conditions = combine(read_dataset(folder) for folder in folders)
    tests = [example for example in examples if example.split == "test"]
    network = fourierreg.load_model(path).network
    predicted = np.exp(predict_log_alpha(network, tests, conditions.shape, "log_alpha"))
    other_rows = [row for row in tables.read(PREDICTIONS) if row["model"] != name]
    rows = [
        {
            "model": name,
            "kind": example.origin,
            "alpha": f"{example.alpha:.4f}",
            "predicted": f"{alpha:.4f}",
        }
        for example, alpha in zip(tests, predicted, strict=True)
    ]
    tables.replace(PREDICTIONS, other_rows + rows)


def score_unseen_subjects(work, model):
    """Statistics on real pairs of subjects outside the training split, across splits too."""
    seen = set(model.card["data"]["train"]["subjects"])
    datasets = [read_dataset(Path(work) / name) for name in ("labels", "labels-across")]
    examples = [
        example._replace(split="unseen")
        for dataset in datasets
        for example in dataset.examples
        if not seen & set(example.subjects)
    ]
    predicted = predict_log_alpha(model.network, examples, model.shape, "log_alpha")
    truth = np.log([example.alpha for example in examples])
    return error_statistics(predicted, truth, model.card["mean_log_alpha"]["labels"])


def score_template(model):
    """Statistics on simulated pairs of the ICBM template, which is no subject's brain."""
    size, truth, predicted = model.shape[0], [], []
    image, _ = template_brain(size)
    for index in range(NUM_TEMPLATE_PAIRS):
        rng = np.random.default_rng([1, index])
        alpha = float(np.exp(rng.uniform(*np.log(ALPHAS))))
        spacing = (FIELD_OF_VIEW / size,) * 3
        metric = Metric.create(model.shape, spacing=spacing, alpha=alpha)
        pair = simulate_matched_pair(image, metric, common_alpha=ALPHAS[1], sigma=SIGMA, seed=rng)
        prediction = fourierreg.predict_alpha(model, pair.source, pair.target, spacing=spacing)
        truth.append(math.log(alpha))
        predicted.append(math.log(prediction.alpha))
    baseline = model.card["mean_log_alpha"]["simulated"]
    return error_statistics(np.array(predicted), np.array(truth), baseline)


def cross_validation_record():
    """Statistics of the cross-validation, with a sentence, for the model card."""
    rows = tables.read(FOLDS)
    predicted, truth, constant = (
        np.log([float(row[key]) for row in rows]) for key in ("predicted", "alpha", "constant")
    )
    statistics = error_statistics(predicted, truth, constant)
    note = (
        "It does not predict how α differs between real pairs of unseen people: there it is no "
        "better than the mean. Refine its predictions."
        if statistics["r_squared"] <= 0
        else "It predicts some of how α differs between real pairs of unseen people."
    )
    return {
        "what": f"real pairs only, {NUM_FOLDS} folds over subjects",
        **statistics,
        "sd_of_labels": float(np.sqrt(np.mean([float(row["sd"]) ** 2 for row in rows]))),
        "sd_among_pairs": float(truth.std()),
        "note": note,
    }
