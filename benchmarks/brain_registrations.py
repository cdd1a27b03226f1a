"""Registrations of real pairs at the estimated and at the predicted α: Dice, images, SyN.

    python benchmarks/brain_registrations.py --work WORK
    python benchmarks/brain_registrations.py --summary

WORK is the work folder of `brain_network.py --folds`, whose cross-validation predicts α of pairs of
unseen subjects. Every pair is registered at the estimated and at the predicted α, with the noise of
its label, and by ANTs' SyN (antspyx, mean squares, identity start) on the same grid.
"""

import argparse
from pathlib import Path

import numpy as np
import tables
from rivals import ants_syn

import fourierreg
from fourierreg.data.nifti import read_image, read_labels, resized
from fourierreg.data.structures import NEUROMORPHOMETRICS
from fourierreg.image.foreground import foreground_scale
from fourierreg.image.geometry import Geometry
from fourierreg.image.metrics import resampled_dice
from fourierreg.labelling.folder import read_table

FOLDS, TABLE = "brain_folds.csv", "brain_registrations.csv"
METHODS = ("affine", "estimate", "prediction", "syn")
SYN = ants_syn((40, 20, 0))


def label_rows(work):
    """Rows of the label runs by (source, target) subject."""
    rows = {}
    for name in ("labels", "labels-across"):
        for row in read_table(Path(work) / name):
            rows[row["source_subject"], row["target_subject"]] = row
    return rows


def measure(row, predicted):
    """Register one pair by every method and return a row for each."""
    size = int(row["shape"].split("x")[0])
    images = [resized(read_image(row[name], name), size) for name in ("source", "target")]
    labels = [read_labels(row[f"{name}_labels"], name) for name in ("source", "target")]
    noise = {"sigma": float(row["sigma"]), "decimation": float(row["decimation"])}
    grid = Geometry.of(images[1])
    results = {
        name: fourierreg.register(*images, alpha=alpha, **noise)
        for name, alpha in (("estimate", float(row["alpha"])), ("prediction", predicted))
    }
    fields = {name: result.displacement for name, result in results.items()}
    arrays = (np.asarray(image.dataobj, dtype=np.float32) for image in images)
    field, _ = SYN(*(a / foreground_scale(a) for a in arrays), grid.spacing)
    fields |= {"affine": None, "syn": field}
    inside = results["estimate"].deformed != 0
    difference = (results["prediction"].deformed - results["estimate"].deformed)[inside]
    distance = ((fields["prediction"] - fields["estimate"]) ** 2).sum(axis=0)[inside]
    rows = []
    for method in METHODS:
        warp = () if fields[method] is None else (fields[method], grid)
        dice = resampled_dice(*labels, NEUROMORPHOMETRICS, *warp)
        rows.append(
            {
                "source": row["source_subject"],
                "target": row["target_subject"],
                "method": method,
                "alpha": {
                    "estimate": f"{float(row['alpha']):.4f}",
                    "prediction": f"{predicted:.4f}",
                }.get(method, ""),
                "image_mse": f"{np.mean(difference**2):.3e}" if method == "prediction" else "",
                "apart_mm": f"{np.sqrt(np.mean(distance)):.4f}" if method == "prediction" else "",
                **{name: f"{dice[name]:.4f}" for name in NEUROMORPHOMETRICS},
            }
        )
    return rows


def summary():
    """Print the mean Dice per structure and method, and the distance of the two registrations."""
    rows = tables.read(TABLE)
    mean = {
        method: {
            name: np.mean([float(r[name]) for r in rows if r["method"] == method])
            for name in NEUROMORPHOMETRICS
        }
        for method in METHODS
    }
    print(f"{len(rows) // len(METHODS)} pairs; mean Dice")
    for name in NEUROMORPHOMETRICS:
        values = "  ".join(f"{method} {mean[method][name]:.4f}" for method in METHODS)
        print(f"  {name:12s} {values}")
    largest = max(abs(mean["prediction"][n] - mean["estimate"][n]) for n in NEUROMORPHOMETRICS)
    pairs = [r for r in rows if r["method"] == "prediction"]
    for name in ("image_mse", "apart_mm"):
        print(f"median {name}: {np.median([float(r[name]) for r in pairs]):.2e}")
    print(f"largest difference of prediction and estimate: {largest:.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="brain-network")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        labels = label_rows(options.work)
        for fold in tables.read(FOLDS):
            subjects = {name: fold[name] for name in ("source", "target")}
            if tables.has(TABLE, **subjects):
                continue
            tables.extend(
                TABLE, measure(labels[tuple(subjects.values())], float(fold["predicted"]))
            )
            print(*subjects.values(), flush=True)
    summary()


if __name__ == "__main__":
    main()
