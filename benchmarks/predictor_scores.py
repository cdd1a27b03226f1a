"""Errors of the networks of `predictor.py` on people they have not seen, with their intervals.

    python benchmarks/predictor_scores.py
    python benchmarks/predictor_scores.py --work WORK
    python benchmarks/predictor_scores.py --other OTHER

Predictions of five folds are pooled. The interval is conformal across folds: its half width is the
error that 95 % of the pairs of the other folds do not exceed, and tested on the pairs of the fold
itself; for IXI the errors are those of all five folds. A pair is said to be unlike the training if
its features are beyond the score that 1 % of the pairs of the other folds exceed, or if it looks
unusual. --work adds what the networks in WORK say of simulated pairs of people they have not seen,
whose α is known; --other what the shipped one says of the pairs of another study in OTHER
(`predictor_labels.py --of-other-studies`), with its own interval.
"""

import argparse
from pathlib import Path

import numpy as np
import tables
from predictor import FOLDS, NETWORK, PREDICTIONS, simulated_folder
from predictor_labels import NUM_GROUPS, OTHER_TABLE
from predictor_labels import TABLE as LABELS
from predictor_registrations import images_of

import fourierreg
from fourierreg.learning.examples import read_dataset
from fourierreg.learning.novelty import RATE
from fourierreg.learning.scores import conformal_half_width, error_statistics, predict_log_alpha

TABLE = "predictor.csv"
ONE_QUALITY = "of one scanner, as they are"
SIMULATED, SIMULATED_FIRST = "simulated, five folds", "simulated, first fold"
FIRST, FIRST_TWO = "people unseen, first fold", "people unseen, first two folds"
UNSEEN_SCANNER, OTHER_STUDY = "IXI, trained on OASIS", "OASIS-TRT, by the shipped network"


def held_out(architecture, variant):
    """Predictions of the folds and of IXI: columns as arrays, with the rows of the labels."""
    labels = {(r["number"], r["repeat"]): r for r in tables.read(LABELS)}
    rows = [
        row
        for row in tables.read(PREDICTIONS)
        if (row["architecture"], row["variant"]) == (architecture, variant)
        and row["fold"] != "final"
    ]
    numbers = ("alpha", "predicted", "constant", "novelty")
    columns = {name: np.array([float(row[name]) for row in rows]) for name in numbers}
    columns |= {name: np.log(columns[name]) for name in numbers[:3]}
    columns["appearance"] = np.array([float(row["appearance"] or "nan") for row in rows])
    columns["fold"] = np.array([row["fold"] for row in rows])
    return columns, [labels[row["number"], row["repeat"]] for row in rows]


def intervals(columns):
    """For each pair: half width of its interval and threshold of its novelty, from other folds."""
    folds = columns["fold"]
    errors = columns["predicted"] - columns["alpha"]
    widths, thresholds = np.full(len(folds), np.nan), np.full(len(folds), np.nan)
    for fold in set(folds):
        others = (folds != fold) & (folds != "ixi")
        if not np.any(others):
            continue
        widths[folds == fold] = conformal_half_width(errors[others])["half_width"]
        thresholds[folds == fold] = np.quantile(columns["novelty"][others], 1 - RATE)
    return widths, thresholds


def subsets(columns, labels):
    """Which pairs each row of the table is of."""
    pooled = columns["fold"] != "ixi"
    bare = np.array([r["source_condition"] == r["target_condition"] == "none" for r in labels])
    one = np.array([r["source_set"] == r["target_set"] for r in labels])
    return {
        "people unseen": pooled,
        "as they are": pooled & bare,
        "of one scanner": pooled & one,
        ONE_QUALITY: pooled & one & bare,
        UNSEEN_SCANNER: ~pooled,
        FIRST: columns["fold"] == "0",
        FIRST_TWO: np.isin(columns["fold"], ["0", "1"]),
    }


def scores(architecture, variant):
    """Rows of the table of one network."""
    columns, labels = held_out(architecture, variant)
    widths, thresholds = intervals(columns)
    count = len(set(columns["fold"]) - {"ixi"})
    inside = abs(columns["predicted"] - columns["alpha"]) <= widths
    complete, rows = count == NUM_GROUPS, []
    for name, chosen in subsets(columns, labels).items():
        partial = name in (FIRST, FIRST_TWO)
        known = complete or name in (FIRST, UNSEEN_SCANNER) or (name == FIRST_TWO and count > 1)
        if not known or not np.any(chosen):
            continue
        found = error_statistics(
            columns["predicted"][chosen], columns["alpha"][chosen], columns["constant"][chosen]
        )
        more = {}
        if complete and not partial:  # otherwise there are few errors of others
            more["interval_factor"] = f"{np.exp(np.mean(widths[chosen])):.3f}"
            more["coverage"] = f"{np.mean(inside[chosen]):.3f}"
        looks = columns["appearance"]
        if complete and not partial and np.all(np.isfinite(thresholds + looks)[chosen]):
            novel = (columns["novelty"] > thresholds) | (looks > 1)
            more["novel"] = f"{np.mean(novel[chosen]):.3f}"
        rows.append(row_of(architecture, variant, name, found, **more))
    return rows


def simulated_row(work, architecture, variant):
    """Row of the table on simulated pairs of unseen people: of all folds, or of the first one; None
    without a network of that."""
    paths = {
        fold: work / f"{architecture}-{variant}-{fold}.keras" for fold in FOLDS if fold.isdigit()
    }
    name = SIMULATED
    if not all(path.exists() for path in paths.values()):
        name, paths = SIMULATED_FIRST, {"0": paths["0"]}
    if not paths["0"].exists():
        return None
    predicted, truth, constant = [], [], []
    for fold, path in paths.items():
        model = fourierreg.load_model(path)
        examples = read_dataset(simulated_folder(work, fold)).examples
        examples = [example for example in examples if example.split == "validation"]
        predicted += predict_log_alpha(model.network, examples, model.shape, "log_alpha").tolist()
        truth += [np.log(example.alpha) for example in examples]
        constant += [model.card["mean_log_alpha"]["all"]] * len(examples)
    found = error_statistics(*map(np.array, (predicted, truth, constant)))
    return row_of(architecture, variant, name, found)


def other_row(work):
    """Row of the table on pairs of another study, by the shipped network."""
    model = fourierreg.load_model("brain-3d")
    labels = [row for row in tables.read(OTHER_TABLE) if row["converged"] == "True"]
    predictions = [fourierreg.predict_alpha(model, *images_of(work, row)) for row in labels]
    truth = np.log([float(row["alpha"]) for row in labels])
    predicted = np.log([prediction.alpha for prediction in predictions])
    found = error_statistics(predicted, truth, model.card["mean_log_alpha"]["all"])
    width = model.card["interval"]["half_width"]
    return row_of(
        *NETWORK,
        OTHER_STUDY,
        found,
        interval_factor=f"{np.exp(width):.3f}",
        coverage=f"{np.mean(abs(predicted - truth) <= width):.3f}",
        novel=f"{np.mean([prediction.novelty > 1 for prediction in predictions]):.3f}",
    )


def row_of(architecture, variant, name, found, **more):
    """Row of the table."""
    return {
        "architecture": architecture,
        "variant": variant,
        "pairs of": name,
        **{k: v if k == "pairs" or v is None else f"{v:.4g}" for k, v in found.items()},
        **{"interval_factor": "", "coverage": "", "novel": ""},
        **more,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder of the networks and simulated pairs")
    parser.add_argument("--other", type=Path, help="folder of pairs of another study")
    options = parser.parse_args()
    networks = {(row["architecture"], row["variant"]): None for row in tables.read(PREDICTIONS)}
    rows = [row for network in networks for row in scores(*network)]
    kept = () if options.work else (SIMULATED, SIMULATED_FIRST)
    kept += () if options.other else (OTHER_STUDY,)
    rows += [row for row in tables.read(TABLE) if row["pairs of"] in kept]
    if options.work:
        made = [simulated_row(options.work, *network) for network in networks]
        rows += [row for row in made if row is not None]
    if options.other:
        rows.append(other_row(options.other))
    tables.replace(TABLE, rows)
    for row in rows:
        text = (
            f"{row['architecture']}, {row['variant']}; {row['pairs of']}: {row['pairs']} pairs, R² "
            f"{row['r_squared']}, Spearman {row['spearman']}, median error "
            f"{row['median_absolute_error']}"
        )
        if row["coverage"]:
            text += f", interval × {row['interval_factor']} covers {row['coverage']}"
            text += f", said to be unlike {row['novel'] or 'unknown'}"
        print(text)


if __name__ == "__main__":
    main()
