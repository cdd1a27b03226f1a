"""Networks that predict α of real pairs of people they have not seen. Resumable.

    python benchmarks/predictor.py --work WORK --folds 0 1 2 3 4 ixi
    python benchmarks/predictor.py --work WORK --folds 0 1 2 3 4 ixi --architecture resnet3d
    python benchmarks/predictor.py --work WORK --folds final
    python benchmarks/predictor.py --work WORK --variant simulated --epochs 6

WORK is that of `predictor_labels.py` and `predictor_simulated.py`. In a fold the pairs within one
group of people are predicted by a network that was trained on the pairs of the other four; in
"ixi" those of IXI by one that was trained on OASIS. The people of one group are too few to stop
early by, so that the number of epochs is fixed and the weights are those of the last one. "final"
is the network to ship: all people but two, of one scanner each, are in its training.

Variants: "plain" trains on the labeled pairs; "augmented" changes their contrast and exchanges
source and target besides; "simulated" starts from the network of "plain" and trains on simulated
pairs, whose α is known, as well.
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
from fourierreg.learning.examples import read_dataset
from fourierreg.learning.novelty import features_of, novelty
from fourierreg.learning.scores import predict_log_alpha
from fourierreg.simulation.folder import HEADER as SIMULATION_HEADER
from fourierreg.simulation.folder import MANIFEST

PREDICTIONS = "predictor_predictions.csv"
VARIANTS = {
    "plain": {},
    "augmented": {"contrast": 0.2, "exchange": True},
    "simulated": {},
}
NETWORK = ("two-stream", "plain")  # architecture and variant of the network that is shipped
FOLDS = ("0", "1", "2", "3", "4", "ixi")
FINAL = ("1008", "IXI048")  # people whose pairs tell whether the final network is as good
LICENSE = (
    "Trained on MRI of the OASIS-1 study (CC BY-NC; 'MRI scans originating from the OASIS "
    "project') as distributed for the MICCAI 2012 Multi-Atlas Labeling challenge, and of the IXI "
    "study (CC BY-SA 3.0, brain-development.org). The model contains weights, no image; no label "
    "map was used in training. Check the terms of those images before commercial use."
)


def split_of(held_out):
    """Split of a pair by whether source and target are held out; None for one to leave out."""
    if all(held_out):
        return "validation"
    return None if any(held_out) else "train"


def is_held_out(fold, subject, group, scanner):
    """Whether a person is not in the training of a fold."""
    if fold == "final":
        return subject in FINAL
    return scanner == "ixi" if fold == "ixi" else group == fold


def fold_folders(options, fold):
    """Folders of labeled and simulated pairs of a fold, with splits.

    Returns
    -------
    folders : list of Path
    tests : list of dict
        Rows of the table of labels whose pairs are in the validation split.
    """
    work = Path(options.work)
    folder = work / f"fold-{fold}"
    folder.mkdir(exist_ok=True)
    with (work / "labels" / RUN_TABLE).open(newline="") as file:
        rows = {Path(row["source"]).name: row for row in csv.DictReader(file)}
    found, tests, people = [], [], {}
    for row in tables.read(LABELS):
        ends = [[row[f"{end}{x}"] for x in ("", "_group", "_set")] for end in ("source", "target")]
        people |= {subject: rest for subject, *rest in ends}
        split = split_of([is_held_out(fold, *end) for end in ends])
        own = rows[f"{int(row['number']):04d}-{row['repeat']}-source.nii.gz"]
        if split is None or row["converged"] != "True":
            continue
        found.append({**own, "split": split})
        if split == "validation":
            tests.append(row)
    (folder / HEADER).write_text((work / "labels" / HEADER).read_text())
    write_table(folder / RUN_TABLE, found)
    if options.variant != "simulated":
        return [folder], tests
    return [folder, simulated_folder(work, fold, people)], tests


def simulated_folder(work, fold, people):
    """Folder of the simulated pairs of a fold, with splits; `people` has group and set of each."""
    simulated = work / f"simulated-{fold}"
    simulated.mkdir(exist_ok=True)
    with (work / "simulated" / MANIFEST).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source_subject"] in people]
    for row in rows:
        name = row["source_subject"]
        row["split"] = split_of([is_held_out(fold, name, *people[name])])
    (simulated / SIMULATION_HEADER).write_text((work / "simulated" / SIMULATION_HEADER).read_text())
    write_table(simulated / MANIFEST, rows)
    return simulated


def run(options, fold):
    """Train the network of a fold, and add its predictions of people it has not seen."""
    key = {"architecture": options.architecture, "variant": options.variant, "fold": fold}
    if tables.has(PREDICTIONS, **key):
        return
    folders, tests = fold_folders(options, fold)
    name = "-".join((options.architecture, options.variant, fold))
    start = {}
    if options.variant == "simulated":
        first = Path(options.work) / f"{options.architecture}-plain-{fold}.keras"
        start = {"initial": first, "balanced": True}
    trained = fourierreg.train(
        folders,
        Path(options.work) / f"{name}.keras",
        architecture=options.architecture,
        filters=options.filters,
        batch_size=options.batch_size,
        epochs=options.epochs,
        decay_epochs=options.epochs,
        patience=options.epochs,
        learning_rate=options.learning_rate,
        keep="last",
        precision="float32",
        license=LICENSE,
        callback=lambda done, total: print(f"{name}: epoch {done} of {total}", flush=True),
        **VARIANTS[options.variant],
        **start,
    )
    tables.extend(PREDICTIONS, predictions(key, trained.path, folders[0], tests))
    print(name, trained.card["scores"]["validation"]["all"], flush=True)


def predictions(key, path, folder, tests):
    """Rows of the held-out labeled pairs of a fold: α, its prediction, and its novelty before it
    is divided by a threshold."""
    model = fourierreg.load_model(path)
    examples = [e for e in read_dataset(folder).examples if e.split == "validation"]
    found = predict_log_alpha(model.network, examples, model.shape, "log_alpha")
    unlike = {**model.card["novelty"], "threshold": 1.0}
    rows = zip(tests, found, features_of(model.network, examples, model.shape), strict=True)
    return [
        {
            **key,
            "number": row["number"],
            "repeat": row["repeat"],
            "alpha": row["alpha"],
            "predicted": f"{np.exp(value):.4g}",
            "constant": f"{np.exp(model.card['mean_log_alpha']['all']):.4g}",
            "novelty": f"{novelty(unlike, features):.4g}",
        }
        for row, value, features in rows
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="predictor-labels")
    parser.add_argument("--folds", nargs="+", default=list(FOLDS))
    parser.add_argument("--architecture", default="two-stream")
    parser.add_argument("--variant", default="plain", choices=VARIANTS)
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    options = parser.parse_args()
    for fold in options.folds:
        run(options, fold)


if __name__ == "__main__":
    main()
