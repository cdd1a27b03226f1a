"""The 3D network: labels, simulated pairs, training, a control, cross-validation. Resumable.

    python benchmarks/brain_network.py --data FOLDER --work WORK
    python benchmarks/brain_network.py --data FOLDER --work WORK --control
    python benchmarks/brain_network.py --data FOLDER --work WORK --folds
    python benchmarks/brain_network.py --data FOLDER --work WORK --ship

FOLDER holds brains on one cube. Subjects are split once; the ordered pairs of different people of
one split are labelled at the network's size, and simulated pairs are made from each split's own
people. The control is the same training with the velocities of its simulated pairs shuffled, which
is to say their α: it may learn nothing but the mean. The folds train on the real pairs of twelve
people and predict those of three.

The network is trained on the images as they are, then goes on with half of the pairs smoothed:
without that it takes a smoother brain than its own, a template, for a pair of two people.
"""

import argparse
import csv
import math
import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import tables
from labels import short

import fourierreg
from fourierreg.atomic import write_table
from fourierreg.data.manifest import find_scans, make_pairs, split_subjects
from fourierreg.data.template import FIELD_OF_VIEW, template_brain
from fourierreg.labelling.folder import HEADER, TABLE
from fourierreg.learning.card import save_with_card
from fourierreg.learning.examples import combine, read_folder
from fourierreg.learning.scores import errors, predicted_logs
from fourierreg.simulation.folder import MANIFEST
from fourierreg.simulation.pair import simulate_carried_pair
from fourierreg.spectral.metric import Metric

SCORES, FOLDS, PREDICTIONS = "brain_network.csv", "brain_folds.csv", "brain_predictions.csv"
LABELS = "brain_labels.csv"
NAME = "brain-3d"
ALPHAS = (3.0, 12.0)
SIGMA = 0.03
SMOOTHING = 1.2  # voxels: other brains are smoother (a template) or less so
NUM_FOLDS = 5
NUM_TEMPLATE = 40
LICENCE = (
    "Trained on MRI of the OASIS-1 study (CC BY-NC; 'MRI scans originating from the OASIS "
    "project') as distributed for the MICCAI 2012 Multi-Atlas Labeling challenge. The model holds "
    "weights, no image; no label map was used in training. Who uses it commercially should look "
    "at the terms of those images first."
)


def label(options, pairs, name):
    """Rows of labelled pairs."""
    return fourierreg.label_pairs(
        pairs,
        Path(options.work) / name,
        size=options.size,
        structures="neuromorphometrics",
        callback=lambda done, total, row: (
            done % 10 or print(f"{name}: {done} of {total}", flush=True)
        ),
    )


def across(scans, homes):
    """Ordered pairs of people of different splits: of use to the folds only."""
    return [
        pair
        for pair in make_pairs(scans)
        if homes[pair.source_subject] != homes[pair.target_subject]
    ]


def with_splits(options, rows, homes, name):
    """A folder of labels that has only pairs within a split of `homes`, with that split."""
    folder = Path(options.work) / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(options.work) / "labels" / HEADER, folder / HEADER)
    write_table(
        folder / TABLE,
        [
            {**row, "split": homes[row["source_subject"]]}
            for row in rows
            if homes[row["source_subject"]] == homes[row["target_subject"]]
        ],
    )
    return folder


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
    write_table(out / MANIFEST, rows)
    return out


def train(options, datasets, name, epochs, **more):
    """A network, and its scores."""
    return fourierreg.train(
        datasets,
        Path(options.work) / f"{name}.keras",
        epochs=epochs,
        decay_epochs=epochs,
        patience=options.patience,
        balanced=True,
        licence=LICENCE,
        callback=lambda done, total: print(f"{name}: epoch {done} of {total}", flush=True),
        **{"filters": options.filters, "batch_size": options.batch_size, **more},
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


def predict_tests(name, folders, path):
    """α and prediction of every pair of the test split."""
    examples, conditions = combine(read_folder(folder) for folder in folders)
    tests = [example for example in examples if example.split == "test"]
    found = np.exp(
        predicted_logs(fourierreg.load_model(path).network, tests, conditions.shape, "log_alpha")
    )
    others = [row for row in tables.read(PREDICTIONS) if row["model"] != name]
    mine = [
        {
            "model": name,
            "kind": example.origin,
            "alpha": f"{example.alpha:.4f}",
            "predicted": f"{alpha:.4f}",
        }
        for example, alpha in zip(tests, found, strict=True)
    ]
    tables.replace(PREDICTIONS, others + mine)


def score_strangers(options, model):
    """Scores on the real pairs of people of whom the network saw nothing, of both other splits."""
    seen = set(model.card["data"]["train"]["subjects"])
    sources = [read_folder(Path(options.work) / name) for name in ("labels", "labels-across")]
    examples = [
        example._replace(split="unseen")
        for source in sources
        for example in source.examples
        if not seen & set(example.subjects)
    ]
    found = predicted_logs(model.network, examples, model.shape, "log_alpha")
    truth = np.log([example.alpha for example in examples])
    return errors(found, truth, model.card["mean_log_alpha"]["labels"])


def score_template(model):
    """Scores on simulated pairs of a brain that is no one's: the ICBM template."""
    size, logs, found = model.shape[0], [], []
    image, _ = template_brain(size)
    for index in range(NUM_TEMPLATE):
        rng = np.random.default_rng([1, index])
        alpha = float(np.exp(rng.uniform(*np.log(ALPHAS))))
        spacing = (FIELD_OF_VIEW / size,) * 3
        metric = Metric.create(model.shape, spacing=spacing, alpha=alpha)
        pair = simulate_carried_pair(image, metric, carrier_alpha=ALPHAS[1], sigma=SIGMA, seed=rng)
        predicted = fourierreg.predict_alpha(model, pair.source, pair.target, spacing=spacing)
        logs.append(math.log(alpha))
        found.append(math.log(predicted.alpha))
    return errors(np.array(found), np.array(logs), model.card["mean_log_alpha"]["simulated"])


def ship(options):
    """The model into the package; its card says also how it does on real pairs."""
    model = fourierreg.load_model(Path(options.work) / f"{NAME}.keras")
    strangers = score_strangers(options, model)
    template = score_template(model)
    keep(NAME, {"scores": {"validation and test": {"labels, unseen people": strangers}}})
    keep(NAME, {"scores": {"template": {"simulated": template}}})
    rows = tables.read(FOLDS)
    found, truth, constant = (
        np.log([float(row[key]) for row in rows]) for key in ("predicted", "alpha", "constant")
    )
    scores = errors(found, truth, constant)
    note = (
        "It does not tell how α differs between real pairs of unseen people: there it is no better "
        "than the mean. Refine its predictions."
        if scores["r_squared"] <= 0
        else "It tells some of how α differs between real pairs of unseen people."
    )
    folds = {
        "what": f"real pairs only, {NUM_FOLDS} folds over subjects",
        **scores,
        "sd_of_labels": float(np.sqrt(np.mean([float(row["sd"]) ** 2 for row in rows]))),
        "sd_among_pairs": float(truth.std()),
        "note": note,
    }
    print(folds, strangers, template, sep="\n")
    out = resources.files("fourierreg.learning") / "models" / f"{NAME}.keras"
    out.parent.mkdir(exist_ok=True)
    card = {
        **model.card,
        "real_pairs_of_unseen_people": strangers,
        "template": template,
        "cross_validation": folds,
    }
    save_with_card(model.network, out, {**card, "licence": LICENCE})


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
        pairs = [fourierreg.data.manifest.Pair(r["source"], r["target"]) for r in tests]
        for row, found in zip(tests, fourierreg.predict_pairs(model, pairs), strict=True):
            made.append(
                {
                    "fold": fold,
                    "source": row["source_subject"],
                    "target": row["target_subject"],
                    "alpha": f"{float(row['alpha']):.4f}",
                    "sd": f"{float(row['alpha_sd']):.4f}",
                    "predicted": f"{found.alpha:.4f}",
                    "constant": f"{np.exp(model.card['mean_log_alpha']['all']):.4f}",
                }
            )
        tables.extend(FOLDS, made)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", default="brain-network", help="where data and model are kept")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=1500, help="simulated pairs")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--last-epochs", type=int, default=3, help="on smoothed images too")
    parser.add_argument("--fold-epochs", type=int, default=16)
    parser.add_argument("--patience", type=int, default=10)
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--data-only", action="store_true", help="label and simulate, no training")
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--folds", action="store_true")
    parser.add_argument("--ship", action="store_true", help="into the package, after --folds")
    options = parser.parse_args()
    if options.ship:
        ship(options)
        return
    scans = find_scans(options.data)
    homes = split_subjects(scan.subject for scan in scans)
    rows = label(options, make_pairs(scans, splits=homes), "labels")
    pairs = simulate(options, scans, homes)
    if options.data_only:
        return
    if options.folds:
        rows += label(options, across(scans, homes), "labels-across")
        rows = [row for row in rows if row["state"] == "done"]
        tables.replace(LABELS, [short(row) for row in rows])
        cross_validate(options, rows)
    elif options.control:
        trained = train(options, shuffled(pairs), "control", options.epochs)
        keep("control", trained.card)
        predict_tests("control", [pairs], trained.path)
    else:
        folders = [Path(options.work) / "labels", pairs]
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
        keep(NAME, trained.card)
        predict_tests(NAME, folders, trained.path)


if __name__ == "__main__":
    main()
