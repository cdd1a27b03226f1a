"""Networks that predict α of real pairs of people they have not seen. Resumable.

    python benchmarks/predictor.py --work WORK --folds 0 1 2 3 4 ixi final
    python benchmarks/predictor.py --work WORK --folds 0 1 --variant short --architecture resnet3d
    python benchmarks/predictor.py --work WORK --folds 0 ixi --variant clean
    python benchmarks/predictor.py --work WORK --folds 0 ixi --variant both
    python benchmarks/predictor.py --work WORK --folds 0 --variant tuned

WORK is that of `predictor_labels.py` and `predictor_simulated.py`. In a fold the pairs within one
group of people are predicted by a network that was trained on the pairs of the other four; in
"ixi" those of IXI by one that was trained on OASIS. The people of one group are too few to stop
early by, so that the number of epochs is fixed and the weights are those of the last one. "final"
is the network to ship: all people but two, of one scanner each, are in its training.

Variants: "plain" trains on the labeled pairs; "short" does so for fewer epochs, as those of
3D-ResNet and VGG take long; "augmented" changes their contrast and exchanges source and target
besides. They read α from how the images look more than from how they differ. "clean" trains on
simulated pairs as they are, whose α is known; "tuned" starts from its network and trains on the
labeled pairs, "both" on them and on simulated pairs under conditions. From the network of "plain"
the latter were not learned within 9 epochs.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import tables
from predictor_labels import TABLE as LABELS
from predictor_simulated import BARE

import fourierreg
from fourierreg.atomic import write_table
from fourierreg.labelling.folder import HEADER
from fourierreg.labelling.folder import TABLE as RUN_TABLE
from fourierreg.learning.appearance import statistics_of, unlikeness
from fourierreg.learning.examples import read_dataset, read_example
from fourierreg.learning.novelty import features_of, novelty
from fourierreg.learning.scores import predict_log_alpha
from fourierreg.simulation.folder import HEADER as SIMULATION_HEADER
from fourierreg.simulation.folder import MANIFEST

PREDICTIONS = "predictor_predictions.csv"
VARIANTS = {
    "plain": {"epochs": 30, "batch_size": 8, "learning_rate": 1e-3},
    "augmented": {
        **{"epochs": 30, "batch_size": 8, "learning_rate": 1e-3},
        **{"contrast": 0.2, "exchange": True},
    },
    "clean": {"epochs": 14, "batch_size": 4, "learning_rate": 5e-4},
    "both": {"epochs": 8, "batch_size": 4, "learning_rate": 5e-4, "balanced": True},
    "tuned": {"epochs": 8, "batch_size": 8, "learning_rate": 5e-4},
    "short": {"epochs": 8, "batch_size": 8, "learning_rate": 1e-3},
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


def labeled_folder(work, fold):
    """Folder of the labeled pairs of a fold, with splits.

    Returns
    -------
    folder : Path
    tests : list of dict
        Rows of the table of labels whose pairs are in the validation split.
    """
    folder = work / f"fold-{fold}"
    folder.mkdir(exist_ok=True)
    with (work / "labels" / RUN_TABLE).open(newline="") as file:
        rows = {Path(row["source"]).name: row for row in csv.DictReader(file)}
    found, tests = [], []
    for row in tables.read(LABELS):
        ends = [[row[f"{end}{x}"] for x in ("", "_group", "_set")] for end in ("source", "target")]
        split = split_of([is_held_out(fold, *end) for end in ends])
        own = rows[f"{int(row['number']):04d}-{row['repeat']}-source.nii.gz"]
        if split is None or row["converged"] != "True":
            continue
        found.append({**own, "split": split})
        if split == "validation":
            tests.append(row)
    (folder / HEADER).write_text((work / "labels" / HEADER).read_text())
    write_table(folder / RUN_TABLE, found)
    return folder, tests


def simulated_folder(work, fold, name="simulated"):
    """Folder of the simulated pairs of a fold, with splits."""
    people = {
        row[end]: [row[f"{end}_group"], row[f"{end}_set"]]
        for row in tables.read(LABELS)
        for end in ("source", "target")
    }
    folder = work / f"{name}-{fold}"
    folder.mkdir(exist_ok=True)
    with (work / name / MANIFEST).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source_subject"] in people]
    for row in rows:
        subject = row["source_subject"]
        row["split"] = split_of([is_held_out(fold, subject, *people[subject])])
        for end in ("source", "target"):
            row[end] = str((work / name / row[end]).resolve())
            row[f"{end}_labels"] = ""
    (folder / SIMULATION_HEADER).write_text((work / name / SIMULATION_HEADER).read_text())
    write_table(folder / MANIFEST, rows)
    return folder


def run(options, fold):
    """Train the network of a fold, and add its predictions of people it has not seen."""
    key = {"architecture": options.architecture, "variant": options.variant, "fold": fold}
    if tables.has(PREDICTIONS, **key):
        return
    work, name = Path(options.work), "-".join(key.values())
    labeled, tests = labeled_folder(work, fold)
    datasets, settings = [labeled], dict(VARIANTS[options.variant])
    if options.variant == "clean":
        datasets = [simulated_folder(work, fold, BARE)]
    elif options.variant == "both":
        datasets.append(simulated_folder(work, fold))
    if options.variant in ("both", "tuned"):
        settings["initial"] = work / f"{options.architecture}-clean-{fold}.keras"
    epochs = options.epochs or settings.pop("epochs")
    trained = fourierreg.train(
        datasets,
        work / f"{name}.keras",
        architecture=options.architecture,
        filters=options.filters,
        keep="last",
        precision="float32",
        license=LICENSE,
        callback=lambda done, total: print(f"{name}: epoch {done} of {total}", flush=True),
        **{**settings, "epochs": epochs, "decay_epochs": epochs, "patience": epochs},
    )
    tables.extend(PREDICTIONS, predictions(key, trained.path, labeled, tests))
    print(name, trained.card["scores"]["validation"], flush=True)


def predictions(key, path, folder, tests):
    """Rows of the held-out labeled pairs of a fold: α, its prediction, the novelty of its features
    before it is divided by a threshold, and that of how it looks."""
    model = fourierreg.load_model(path)
    examples = [e for e in read_dataset(folder).examples if e.split == "validation"]
    found = predict_log_alpha(model.network, examples, model.shape, "log_alpha")
    unlike = {**model.card["novelty"], "threshold": 1.0}
    features = features_of(model.network, examples, model.shape)
    looks = [statistics_of(*read_example(example, model.shape)) for example in examples]
    return [
        {
            **key,
            "number": row["number"],
            "repeat": row["repeat"],
            "alpha": row["alpha"],
            "predicted": f"{np.exp(value):.4g}",
            "constant": f"{np.exp(model.card['mean_log_alpha']['all']):.4g}",
            "novelty": f"{novelty(unlike, own):.4g}",
            "appearance": f"{unlikeness(model.card['appearance'], look)[0]:.4g}",
        }
        for row, value, own, look in zip(tests, found, features, looks, strict=True)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="predictor-labels")
    parser.add_argument("--folds", nargs="+", default=list(FOLDS))
    parser.add_argument("--architecture", default="two-stream")
    parser.add_argument("--variant", default="plain", choices=VARIANTS)
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--epochs", type=int, help="by default those of the variant")
    options = parser.parse_args()
    for fold in options.folds:
        run(options, fold)


if __name__ == "__main__":
    main()
