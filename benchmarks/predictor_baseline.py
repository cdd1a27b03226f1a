"""What a regression on a few image statistics predicts of α, for a network to beat.

    python benchmarks/predictor_baseline.py --work WORK

WORK is that of `predictor_labels.py`, whose table this reads. Statistics are the mean square of the
difference of the images and of the gradients of each at four scales, the autocorrelation of the
difference, the correlation of the images, and their means and deviations. A ridge regression on
them and their squares is trained on the pairs of four groups of people and predicts those within
the fifth, in turn; then it is trained on OASIS only and predicts IXI.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import tables
from predictor_labels import NUM_GROUPS
from predictor_labels import TABLE as LABELS
from scipy.ndimage import gaussian_filter

from fourierreg.image.foreground import foreground_scale
from fourierreg.learning.scores import error_statistics

TABLE, SCALES, RIDGE = "predictor_baseline.csv", (0.0, 1.0, 2.0, 4.0), 5.0  # voxels


def statistics(folder, row):
    """Statistics of the images of a labeled pair."""
    stem = f"{int(row['number']):04d}-{row['repeat']}"
    source, target = (
        nib.load(folder / f"{stem}-{end}.nii.gz").get_fdata(dtype=np.float32)
        for end in ("source", "target")
    )
    source, target = source / foreground_scale(source), target / foreground_scale(target)
    inside = (source > 0) | (target > 0)
    found = []
    for scale in SCALES:
        a, b = (gaussian_filter(x, scale) if scale else x for x in (source, target))
        found.append(np.log(np.mean((a - b)[inside] ** 2)))
        found += [np.log(np.mean(sum(g**2 for g in np.gradient(x))[inside])) for x in (a, b)]
    difference = source - target
    power = np.mean(difference[inside] ** 2)
    lags = [np.mean((np.roll(difference, 1, axis) * difference)[inside]) for axis in range(3)]
    found += [np.mean(lags) / power, np.corrcoef(source[inside], target[inside])[0, 1]]
    return [*found, *(f(x[inside]) for x in (source, target) for f in (np.mean, np.std))]


def predicted(design, values, train, test):
    """Predictions of a ridge regression, trained on some rows, for others."""
    mean, deviation = design[train].mean(axis=0), design[train].std(axis=0)
    scaled = (design - mean) / deviation
    scaled = np.hstack([scaled, scaled**2])
    a, constant = scaled[train], values[train].mean()
    weights = np.linalg.solve(
        a.T @ a + RIDGE * np.eye(a.shape[1]), a.T @ (values[train] - constant)
    )
    return scaled[test] @ weights + constant


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="predictor-labels")
    options = parser.parse_args()
    rows = [row for row in tables.read(LABELS) if row["converged"] == "True"]
    design = np.array([statistics(Path(options.work) / "images", row) for row in rows])
    values = np.log([float(row["alpha"]) for row in rows])
    groups = np.array([[int(row[f"{end}_group"]) for end in ("source", "target")] for row in rows])
    sets = np.array([[row[f"{end}_set"] for end in ("source", "target")] for row in rows])
    bare = np.array([row["source_condition"] == row["target_condition"] == "none" for row in rows])
    found, constant = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for group in range(NUM_GROUPS):
        train, test = np.all(groups != group, axis=1), np.all(groups == group, axis=1)
        found[test], constant[test] = predicted(design, values, train, test), values[train].mean()
    within = np.isfinite(found)
    scores = {"five folds by person": within, "as they are": within & bare}
    scores["of one scanner"] = within & (sets[:, 0] == sets[:, 1])
    results = {name: (found[c], values[c], constant[c]) for name, c in scores.items()}
    train, test = np.all(sets == "oasis", axis=1), np.all(sets == "ixi", axis=1)
    ixi = predicted(design, values, train, test)
    results["IXI, trained on OASIS"] = ixi, values[test], values[train].mean()
    table = []
    for name, (guess, truth, baseline) in results.items():
        statistics_of = error_statistics(guess, truth, baseline)
        table.append({"pairs of": name, **{k: f"{v:.4g}" for k, v in statistics_of.items()}})
        print(
            f"{name}: {len(truth)} pairs, R² {statistics_of['r_squared']:.2f}, Spearman "
            f"{statistics_of['spearman']:.2f}, median error of ln α "
            f"{statistics_of['median_absolute_error']:.3f}"
        )
    tables.replace(TABLE, table)


if __name__ == "__main__":
    main()
