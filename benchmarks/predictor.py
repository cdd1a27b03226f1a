"""Networks that predict α of real pairs of people they have not seen. Resumable.

    python benchmarks/predictor.py --work WORK --folds 0 1 2 3 4
    python benchmarks/predictor.py --work WORK --folds ixi --architecture resnet3d

WORK is that of `predictor_labels.py`. In a fold the pairs within one group of people are predicted
by a network that was trained on the pairs of the other four; in "ixi" those of IXI by one that was
trained on OASIS. The people of one group are too few to stop early by, so that the number of epochs
is fixed and the errors are those of the last one. The validation split is the test pairs, so that
the best epoch, whose R² stands beside, is chosen on them: it is too good.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import tables
from predictor_labels import TABLE as LABELS

import fourierreg
from fourierreg.atomic import write_table
from fourierreg.labelling.folder import HEADER
from fourierreg.labelling.folder import TABLE as RUN_TABLE

TABLE = "predictor.csv"


def split_of(row, fold):
    """Split of a labeled pair in a fold, or None for one that it leaves out."""
    if fold == "ixi":
        held_out = [row[f"{end}_set"] == "ixi" for end in ("source", "target")]
    else:
        held_out = [row[f"{end}_group"] == fold for end in ("source", "target")]
    if all(held_out):
        return "validation"
    return None if any(held_out) else "train"


def fold_folder(options, fold):
    """Folder of a label run with the pairs of a fold and their splits."""
    labels = Path(options.work) / "labels"
    with (labels / RUN_TABLE).open(newline="") as file:
        rows = {row["source"]: row for row in csv.DictReader(file)}
    found = []
    for row in tables.read(LABELS):
        split = split_of(row, fold)
        stem = f"{int(row['number']):04d}-{row['repeat']}-source.nii.gz"
        own = rows.get(str((Path(options.work) / "images" / stem).resolve()))
        if split is not None and own is not None:
            found.append({**own, "split": split})
    folder = Path(options.work) / f"fold-{fold}"
    folder.mkdir(exist_ok=True)
    (folder / HEADER).write_text((labels / HEADER).read_text())
    write_table(folder / RUN_TABLE, found)
    return folder


def run(options, fold):
    """Train the network of a fold, and add its scores to the table."""
    key = {"architecture": options.architecture, "fold": fold}
    if tables.has(TABLE, **key):
        return
    folder = fold_folder(options, fold)
    trained = fourierreg.train(
        folder,
        Path(options.work) / f"{options.architecture}-{fold}.keras",
        architecture=options.architecture,
        filters=options.filters,
        batch_size=options.batch_size,
        epochs=options.epochs,
        decay_epochs=options.epochs,
        patience=options.epochs,
        learning_rate=options.learning_rate,
        callback=lambda done, total: print(f"{fold}: epoch {done} of {total}", flush=True),
    )
    # The last epoch, not the one with the smallest error on the test pairs.
    last = trained.log[-1]
    truth = np.log([float(r["alpha"]) for r in tables_of(folder) if r["split"] == "validation"])
    variance = float(np.var(truth))
    row = {
        **key,
        "pairs": len(truth),
        "epochs": len(trained.log),
        "mse_last_epoch": f"{last['val_mse']:.4f}",
        "r_squared_last_epoch": f"{1 - last['val_mse'] / variance:.3f}",
        "r_squared_best_epoch": f"{trained.card['scores']['validation']['all']['r_squared']:.3f}",
    }
    tables.append(TABLE, row)
    print(row)


def tables_of(folder):
    """Rows of a label run that converged."""
    with (folder / RUN_TABLE).open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["converged"] == "True"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="predictor-labels")
    parser.add_argument("--folds", nargs="+", default=["0", "1", "2", "3", "4", "ixi"])
    parser.add_argument("--architecture", default="two-stream")
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    options = parser.parse_args()
    for fold in options.folds:
        run(options, fold)


if __name__ == "__main__":
    main()
