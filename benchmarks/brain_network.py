"""The 3D network: labels, simulated pairs, training, control, cross-validation. Resumable.

    python benchmarks/brain_network.py --data FOLDER --work WORK
    python benchmarks/brain_network.py --data FOLDER --work WORK --control
    python benchmarks/brain_network.py --data FOLDER --work WORK --folds
    python benchmarks/brain_network.py --data FOLDER --work WORK --ship

FOLDER has brains on one cube. Subjects are split once. Ordered pairs of different subjects of one
split are labeled at the network's size, and simulated pairs are made from the subjects of each
split. The control trains on the same simulated pairs with α permuted: it can learn nothing but the
mean. In cross-validation a network is trained on the real pairs of twelve subjects and predicts
those of three.

The network is first trained on the images as they are, then with half of the pairs smoothed.
Without smoothing, a brain that is smoother than the training images (a template) is predicted as if
its pair were of two subjects.
"""

import argparse
import csv
from importlib import resources
from pathlib import Path

import numpy as np
import tables
from labels import table_row
from network_data import (
    label,
    label_run_with_splits,
    pairs_across_splits,
    shuffle_alphas,
    simulate,
)
from network_scores import (
    FOLDS,
    NUM_FOLDS,
    cross_validation_record,
    score_template,
    score_unseen_subjects,
    write_scores,
    write_test_predictions,
)

import fourierreg
from fourierreg.data.manifest import Pair
from fourierreg.data.pairing import make_pairs
from fourierreg.data.scans import find_scans
from fourierreg.data.splits import split_subjects
from fourierreg.labelling.folder import TABLE
from fourierreg.learning.card import save_with_card

LABELS = "brain_labels.csv"
NAME = "brain-3d"
SMOOTHING = 1.2  # voxels; brains of other studies or templates may be smoother
LICENSE = (
    "Trained on MRI of the OASIS-1 study (CC BY-NC; 'MRI scans originating from the OASIS "
    "project') as distributed for the MICCAI 2012 Multi-Atlas Labeling challenge. The model "
    "contains weights, no image; no label map was used in training. Check the terms of those "
    "images before commercial use."
)


def train(options, datasets, name, epochs, **more):
    """Train a network; its file and checkpoints are in the work folder."""
    return fourierreg.train(
        datasets,
        Path(options.work) / f"{name}.keras",
        epochs=epochs,
        decay_epochs=epochs,
        patience=options.patience,
        balanced=True,
        license=LICENSE,
        callback=lambda done, total: print(f"{name}: epoch {done} of {total}", flush=True),
        **{"filters": options.filters, "batch_size": options.batch_size, **more},
    )


def train_network(options, labels, simulated):
    """Train on labeled and simulated pairs, then with smoothing."""
    folders = [labels, simulated]
    first = train(options, folders, "first", options.epochs)
    trained = train(
        options,
        folders,
        NAME,
        options.last_epochs,
        initial=first.path,
        learning_rate=2e-4,
        batch_size=2 * options.batch_size,
        smoothing=SMOOTHING,
    )
    write_scores(NAME, trained.card["scores"])
    write_test_predictions(NAME, folders, trained.path)


def train_control(options, simulated):
    """Train on simulated pairs with permuted α."""
    trained = train(options, shuffle_alphas(simulated), "control", options.epochs)
    write_scores("control", trained.card["scores"])
    write_test_predictions("control", [simulated], trained.path)


def cross_validate(options, rows):
    """Train on the real pairs of twelve subjects and predict those of the other three, in turn."""
    subjects = sorted({row["source_subject"] for row in rows})
    order = np.random.default_rng(0).permutation(len(subjects))
    for fold in range(NUM_FOLDS):
        if tables.has(FOLDS, fold=fold):
            continue
        test = {subjects[i] for i in order[fold::NUM_FOLDS]}
        rest = [s for s in subjects if s not in test]
        validation = set(rest[fold::6])  # two subjects, for early stopping
        splits = {
            s: "test" if s in test else "validation" if s in validation else "train"
            for s in subjects
        }
        folder = label_run_with_splits(options, rows, splits, f"fold-{fold}")
        trained = train(options, folder, f"fold-{fold}", options.fold_epochs)
        tables.extend(FOLDS, predict_fold(fold, folder, trained.path))


def predict_fold(fold, folder, path):
    """Rows of the test pairs of a fold."""
    with (folder / TABLE).open() as file:
        tests = [r for r in csv.DictReader(file) if r["split"] == "test"]
    model = fourierreg.load_model(path)
    pairs = [Pair(r["source"], r["target"]) for r in tests]
    return [
        {
            "fold": fold,
            "source": row["source_subject"],
            "target": row["target_subject"],
            "alpha": f"{float(row['alpha']):.4f}",
            "sd": f"{float(row['alpha_sd']):.4f}",
            "predicted": f"{prediction.alpha:.4f}",
            "constant": f"{np.exp(model.card['mean_log_alpha']['all']):.4f}",
        }
        for row, prediction in zip(tests, fourierreg.predict_pairs(model, pairs), strict=True)
    ]


def ship(options):
    """Write the model into the package, with its scores on real pairs in the card."""
    model = fourierreg.load_model(Path(options.work) / f"{NAME}.keras")
    unseen, template = score_unseen_subjects(options.work, model), score_template(model)
    write_scores(NAME, {"validation and test": {"labels, unseen people": unseen}})
    write_scores(NAME, {"template": {"simulated": template}})
    folds = cross_validation_record()
    print(folds, unseen, template, sep="\n")
    out = resources.files("fourierreg.learning") / "models" / f"{NAME}.keras"
    out.parent.mkdir(exist_ok=True)
    card = {
        **model.card,
        "real_pairs_of_unseen_people": unseen,
        "template": template,
        "cross_validation": folds,
        "licence": LICENSE,
    }
    save_with_card(model.network, out, card)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", default="brain-network", help="folder of data and models")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=1500, help="number of simulated pairs")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--last-epochs", type=int, default=3, help="epochs with smoothing")
    parser.add_argument("--fold-epochs", type=int, default=16)
    parser.add_argument("--patience", type=int, default=10)
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--data-only", action="store_true", help="label and simulate, no training")
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--folds", action="store_true")
    parser.add_argument("--ship", action="store_true", help="into the package, after --folds")
    return parser.parse_args()


def main():
    options = parse_options()
    if options.ship:
        ship(options)
        return
    scans = find_scans(options.data)
    splits = split_subjects(scan.subject for scan in scans)
    rows = label(options, make_pairs(scans, splits=splits), "labels")
    simulated = simulate(options, scans, splits)
    if options.data_only:
        return
    if options.folds:
        rows += label(options, pairs_across_splits(scans, splits), "labels-across")
        rows = [row for row in rows if row["state"] == "done"]
        tables.replace(LABELS, [table_row(row) for row in rows])
        cross_validate(options, rows)
    elif options.control:
        train_control(options, simulated)
    else:
        train_network(options, Path(options.work) / "labels", simulated)


if __name__ == "__main__":
    main()
