"""Registrations of real pairs at the estimated and at the predicted α, and by SyN. Resumable.

    python benchmarks/predictor_registrations.py --work WORK --data OASIS
    python benchmarks/predictor_registrations.py --work OTHER --data AFIDS --of-other-studies
    python benchmarks/predictor_registrations.py --summary

The predictions are those of `predictor.py` for people its network has not seen; those of pairs of
other studies are of the shipped network. Pairs are registered on the grid of their labels (64³) in
the model and with the noise of the estimate ("estimate", "prediction"), in the default quality, as
`fourierreg register --alpha` does ("default, estimate" and "default, prediction"), and by ANTs' SyN
(antspyx, mean squares, identity start). Overlap is measured on the grid of the label maps.
"""

import argparse
import csv
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tables
from predictor import NETWORK, PREDICTIONS
from predictor_labels import OTHER_TABLE
from predictor_labels import TABLE as LABELS
from rivals import MIN_VOXELS, ants_syn

import fourierreg
from fourierreg.data.nifti import read_image, read_labels
from fourierreg.data.structures import NEUROMORPHOMETRICS
from fourierreg.image.foreground import foreground_scale
from fourierreg.image.geometry import Geometry
from fourierreg.image.metrics import resampled_dice
from fourierreg.image.points import move_points

TABLE, OTHER_RESULTS = "predictor_registrations.csv", "predictor_registrations_other.csv"
ENDS = ("source", "target")
METHODS = ("affine", "estimate", "prediction", "default, estimate", "default, prediction", "syn")
SYN = ants_syn((40, 20, 0))


def chosen_pairs(count):
    """Rows of labels of pairs of OASIS, as many of each fold, with the prediction; two people as
    they are only once."""
    labels = {(row["number"], row["repeat"]): row for row in tables.read(LABELS)}
    folds, seen = {}, set()
    for row in tables.read(PREDICTIONS):
        label = labels[row["number"], row["repeat"]]
        own = (row["architecture"], row["variant"]) == NETWORK and row["fold"].isdigit()
        if own and label["repeat"] == "0" and label["source_set"] == label["target_set"] == "oasis":
            images = tuple(label[f"{e}{x}"] for e in ENDS for x in ("", "_condition", "_level"))
            if images not in seen:
                folds.setdefault(row["fold"], []).append({**label, "predicted": row["predicted"]})
            seen.add(images)
    return [row for fold in sorted(folds) for row in folds[fold][: count // len(folds)]]


def other_pairs(work):
    """Rows of labels of pairs of other studies, with the prediction of the shipped network."""
    rows = [r for r in tables.read(OTHER_TABLE) if r["converged"] == "True"]
    model = fourierreg.load_model("brain-3d")
    for row in rows:
        row["predicted"] = fourierreg.predict_alpha(model, *images_of(work, row)).alpha
    return rows


def images_of(work, row):
    """Images of a labeled pair, under its conditions."""
    stem = f"{int(row['number']):04d}-{row['repeat']}"
    return [read_image(Path(work) / "images" / f"{stem}-{end}.nii.gz", end) for end in ENDS]


def points_of(folder, subject):
    """Landmarks of a person by name, RAS in mm; none without a file."""
    path = Path(folder) / f"{subject}_afids.csv"
    if not path.exists():
        return {}
    with path.open() as file:
        return {r["name"]: [float(r[axis]) for axis in "xyz"] for r in csv.DictReader(file)}


def landmark_error(ends, field, grid):
    """Mean distance from the source's landmarks to those of the target, moved by a field."""
    source, target = ends
    names = sorted(set(source) & set(target))
    if not names:
        return ""
    moved = np.array([target[name] for name in names])
    if field is not None:
        moved = move_points(moved, field, grid)
    distance = np.linalg.norm(moved - np.array([source[name] for name in names]), axis=1)
    return f"{distance.mean():.4f}"


def fields_of(images, row):
    """Displacement of every method."""
    grid = Geometry.of(images[1])
    noise = {"sigma": float(row["sigma"]), "decimation": float(row["decimation"])}
    model = fourierreg.Model(integrator="rk4")
    fields = {"affine": None}
    for name, key in (("estimate", "alpha"), ("prediction", "predicted")):
        alpha = float(row[key])
        result = fourierreg.register(*images, alpha=alpha, model=model, **noise)
        fields[name] = result.displacement
        fields[f"default, {name}"] = fourierreg.register(*images, alpha=alpha).displacement
    arrays = (np.asarray(image.dataobj, dtype=np.float32) for image in images)
    fields["syn"], _ = SYN(*(a / foreground_scale(a) for a in arrays), grid.spacing)
    return fields, grid


def measure(job):
    """Rows of one pair."""
    work, data, row = job
    subjects = [row[end] for end in ENDS]
    labels = [read_labels(Path(data) / f"{s}_label.nii.gz", s) for s in subjects]
    points = [points_of(data, s) for s in subjects]
    fields, grid = fields_of(images_of(work, row), row)
    large = [
        int(value)
        for value, count in zip(*np.unique(labels[1].dataobj, return_counts=True), strict=True)
        if count > MIN_VOXELS and value
    ]
    rows = []
    for method in METHODS:
        warp = () if fields[method] is None else (fields[method], grid)
        every = resampled_dice(*labels, None, *warp)
        made = {name: row[name] for name in ("number", "source", "target", "source_condition")}
        made |= {"target_condition": row["target_condition"], "method": method}
        made["alpha"] = ""
        if "," in method or method in ("estimate", "prediction"):
            made["alpha"] = f"{float(row['predicted' if 'prediction' in method else 'alpha']):.4g}"
        made["landmarks_mm"] = landmark_error(points, fields[method], grid)
        made["mean"] = f"{np.mean([every.get(value, 0.0) for value in large]):.4f}"
        if row.get("source_set") == "oasis":
            merged = resampled_dice(*labels, NEUROMORPHOMETRICS, *warp)
            made |= {name: f"{merged[name]:.4f}" for name in NEUROMORPHOMETRICS}
        rows.append(made)
    return rows


def summary():
    """Print mean overlap of every method, and how far the prediction is from the estimate."""
    for table in (TABLE, OTHER_RESULTS):
        rows = tables.read(table)
        if not rows:
            continue
        names = ["mean", *(name for name in NEUROMORPHOMETRICS if name in rows[0])]
        if rows[0]["landmarks_mm"]:
            names.append("landmarks_mm")
        found = {
            method: {
                name: np.mean([float(r[name]) for r in rows if r["method"] == method])
                for name in names
            }
            for method in METHODS
        }
        print(f"{table}: {len(rows) // len(METHODS)} pairs")
        for name in names:
            print(f"  {name:12s}", *(f"{m} {found[m][name]:.4f} " for m in METHODS))
        for estimate, prediction in (METHODS[1:3], METHODS[3:5]):
            gaps = {n: found[prediction][n] - found[estimate][n] for n in names}
            largest = max((n for n in names if n != "landmarks_mm"), key=lambda n: abs(gaps[n]))
            print(f"  {prediction} less {estimate}: {gaps[largest]:+.4f} at most ({largest})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="predictor-labels")
    parser.add_argument("--data", help="folder of label maps, and of landmarks")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--of-other-studies", action="store_true")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        table = OTHER_RESULTS if options.of_other_studies else TABLE
        rows = (
            other_pairs(options.work) if options.of_other_studies else chosen_pairs(options.pairs)
        )
        jobs = [
            (options.work, options.data, row)
            for row in rows
            if not tables.has(table, number=row["number"])
        ]
        with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
            for made in pool.map(measure, jobs):
                tables.extend(table, made)
                print(made[0]["number"], flush=True)
    summary()


if __name__ == "__main__":
    main()
