"""The 3D network: labels, simulated pairs, training, a control, cross-validation. Resumable.

    python benchmarks/brain_network.py --data FOLDER --work WORK
    python benchmarks/brain_network.py --data FOLDER --work WORK --control
    python benchmarks/brain_network.py --data FOLDER --work WORK --folds

FOLDER holds brains on one cube. Every ordered pair of different people is labelled at the
network's size; subjects are split once, and simulated pairs are made from each split's own. The
control is the same training with the velocities of its simulated pairs shuffled, which is to say
their α: it may learn nothing but the mean. The folds train on the real pairs of twelve people and
predict those of three.
"""

import argparse
import csv
import shutil
from pathlib import Path

import numpy as np
import tables

import fourierreg
from fourierreg.data.label_folder import HEADER, TABLE
from fourierreg.data.pairs import find_scans, make_pairs, split_subjects
from fourierreg.data.simulated import MANIFEST

SCORES, FOLDS = "brain_network.csv", "brain_folds.csv"
NAME = "brain-3d"
ALPHAS = (3.0, 12.0)
SIGMA = 0.03
NUM_FOLDS = 5
LICENCE = (
    "Trained on MRI of the OASIS-1 study (CC BY-NC: 'MRI scans originating from the OASIS "
    "project') as distributed for the MICCAI 2012 Multi-Atlas Labeling challenge; no label map "
    "was used in training. Weights for non-commercial use."
)


def label(options, scans):
    """Rows of all ordered pairs, no split."""
    folder = Path(options.work) / "labels"
    return fourierreg.label_pairs(
        make_pairs(scans),
        folder,
        size=options.size,
        structures="neuromorphometrics",
        callback=lambda done, total, row: (
            done % 10 or print(f"labelled {done}/{total}", flush=True)
        ),
    )


def with_splits(options, rows, homes, name):
    """A folder of labels that has only pairs within a split of `homes`, with that split."""
    folder = Path(options.work) / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(options.work) / "labels" / HEADER, folder / HEADER)
    kept = [
        {**row, "split": homes[row["source_subject"]]}
        for row in rows
        if homes[row["source_subject"]] == homes[row["target_subject"]]
    ]
    write(folder / TABLE, kept)
    return folder


def write(path, rows):
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def simulate(options, scans, homes):
    """Simulated pairs of the same subjects, in the same splits."""
    folder = Path(options.work) / "simulated"
    fourierreg.simulate_pairs(
        scans,
        folder,
        options.pairs,
        alphas=ALPHAS,
        sigma=SIGMA,
        size=options.size,
        splits=homes,
        callback=lambda done, total: done % 50 or print(f"simulated {done}/{total}", flush=True),
    )
    return folder


def shuffled(folder):
    """The same simulated pairs, their α permuted within each split."""
    out = folder.with_name("shuffled")
    out.mkdir(exist_ok=True)
    with (folder / MANIFEST).open() as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(0)
    for split in sorted({row["split"] for row in rows}):
        mine = [row for row in rows if row["split"] == split]
        values = [row["alpha"] for row in mine]
        for row, place in zip(mine, rng.permutation(len(mine)), strict=True):
            row["alpha"] = values[place]
    for row in rows:
        for name in ("source", "target"):
            row[name] = str((folder / row[name]).resolve())
    write(out / MANIFEST, rows)
    return out


def train(options, datasets, name, epochs):
    """A network, and its scores."""
    return fourierreg.train(
        datasets,
        Path(options.work) / f"{name}.keras",
        epochs=epochs,
        decay_epochs=epochs,
        patience=options.patience,
        filters=options.filters,
        licence=LICENCE,
        callback=lambda done, total: print(f"{name}: epoch {done} of {total}", flush=True),
    )


def keep(name, card):
    """A row per split and kind of pair."""
    for split, kinds in card["scores"].items():
        for kind, found in kinds.items():
            if not tables.has(SCORES, model=name, split=split, kind=kind):
                numbers = {
                    k: v if v is None or k == "pairs" else f"{v:.4g}" for k, v in found.items()
                }
                tables.append(SCORES, {"model": name, "split": split, "kind": kind, **numbers})


def cross_validate(options, rows):
    """Real pairs only: train on those among twelve people, predict those among three others."""
    subjects = sorted({row["source_subject"] for row in rows})
    order = np.random.default_rng(0).permutation(len(subjects))
    for fold in range(NUM_FOLDS):
        if tables.has(FOLDS, fold=fold):
            continue
        held = {subjects[i] for i in order[fold::NUM_FOLDS]}
        rest = [s for s in subjects if s not in held]
        watched = set(rest[fold::6])  # two people to stop by
        homes = {
            s: "test" if s in held else "validation" if s in watched else "train" for s in subjects
        }
        folder = with_splits(options, rows, homes, f"fold-{fold}")
        trained = train(options, folder, f"fold-{fold}", options.fold_epochs)
        with (folder / TABLE).open() as file:
            tests = [r for r in csv.DictReader(file) if r["split"] == "test"]
        model, made = fourierreg.load_model(trained.path), []
        pairs = [fourierreg.data.pairs.Pair(r["source"], r["target"]) for r in tests]
        for row, found in zip(tests, fourierreg.predict_pairs(model, pairs), strict=True):
            made.append(
                {
                    "fold": fold,
                    "source": row["source_subject"],
                    "target": row["target_subject"],
                    "alpha": f"{float(row['alpha']):.4f}",
                    "sd": f"{float(row['alpha_sd']):.4f}",
                    "predicted": f"{found.alpha:.4f}",
                    "constant": f"{np.exp(model.card['network']['mean']):.4f}",
                }
            )
        tables.extend(FOLDS, made)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", default="brain-network", help="where data and model are kept")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=1500, help="simulated pairs")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--fold-epochs", type=int, default=8)
    parser.add_argument("--patience", type=int, default=10)
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--data-only", action="store_true", help="label and simulate, no training")
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--folds", action="store_true")
    options = parser.parse_args()
    scans = find_scans(options.data)
    homes = split_subjects(scan.subject for scan in scans)
    rows = label(options, scans)
    pairs = simulate(options, scans, homes)
    if options.data_only:
        return
    if options.folds:
        cross_validate(options, [row for row in rows if row["state"] == "done"])
    elif options.control:
        keep("control", train(options, shuffled(pairs), "control", options.epochs).card)
    else:
        labels = with_splits(options, rows, homes, "labels-split")
        keep(NAME, train(options, [labels, pairs], NAME, options.epochs).card)


if __name__ == "__main__":
    main()
