"""α of real pairs of two scanners under many conditions, for a network to learn. Resumable.

    python benchmarks/predictor_labels.py --data OASIS IXI --work WORK --pairs 600
    python benchmarks/predictor_labels.py --summary
    python benchmarks/predictor_labels.py --data AFIDS --work OTHER --pairs 30 --of-other-studies

Each folder of --data has brains on one cube, `{id}_t1.nii.gz`. People are put into five groups;
half of the pairs lie within a group, so that each group can be left out of a training and tested.
A fifth of the pairs are as they are; in half both images are under one condition
(`conditions.py`), in the rest each under its own. Some pairs are labeled twice with other noise:
the estimate's own repeat error. Pairs of other studies, which no network is trained on, have a
table of their own; the first, all ordered pairs, are as they are, and none is labeled twice. Names
of files must not begin alike up to an underscore (TRT0101_t1.nii.gz, not OAS1_0101_t1.nii.gz).
"""

import argparse
from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
import tables
from conditions import KINDS, degraded, draw
from scipy.stats import spearmanr

import fourierreg
from fourierreg.atomic import temporary_path
from fourierreg.data.manifest import Pair
from fourierreg.data.nifti import resized
from fourierreg.data.scans import find_scans

TABLE, OTHER_TABLE = "predictor_labels.csv", "predictor_labels_other.csv"
NUM_GROUPS, REPEATS = 5, 24
COLUMNS = ("alpha", "alpha_low", "alpha_high", "converged", "sigma", "decimation")
COLUMNS += ("rms_displacement_mm", "max_displacement_mm", "min_jacobian")


def scans_of(folders):
    """Scan, set and group of every person: {subject: (path, set, group)}."""
    found = {}
    for folder in folders:
        scans = sorted(find_scans(folder), key=lambda scan: scan.subject)
        order = np.random.default_rng(0).permutation(len(scans))
        for place, index in enumerate(order):
            scan = scans[index]
            found[scan.subject] = (scan.image, Path(folder).name, place % NUM_GROUPS)
    return found


def conditions_of(rng):
    """Conditions of source and target: (kind, level) each."""
    none = ("none", 1.0)
    chance = rng.uniform()
    if chance < 0.2:
        return none, none
    first = draw(rng)
    if chance < 0.7:
        return first, first
    return (first, draw(rng)) if rng.uniform() < 0.7 else (first, none)


def plan(people, count):
    """Rows of the pairs to label, seeded by their number: more of them never change the others."""
    names, rows = sorted(people), []
    for number in range(count):
        rng = np.random.default_rng([2026, number])
        while True:
            source, target = map(str, rng.choice(names, 2, replace=False))
            same_group = people[source][2] == people[target][2]
            if same_group == (number % 2 == 0):
                break
        conditions = conditions_of(rng)
        if number < REPEATS:
            conditions = (("noise", float(np.exp(rng.uniform(*np.log(KINDS["noise"]))))),) * 2
        rows += [
            row_of(people, number, repeat, (source, target), conditions)
            for repeat in range(2 if number < REPEATS else 1)
        ]
    return rows


def row_of(people, number, repeat, subjects, conditions):
    """Row of one pair: who, which group and set, and under which conditions."""
    row = {"number": number, "repeat": repeat}
    for end, subject, (kind, level) in zip(("source", "target"), subjects, conditions, strict=True):
        row |= {
            end: subject,
            f"{end}_set": people[subject][1],
            f"{end}_group": people[subject][2],
            f"{end}_condition": kind,
            f"{end}_level": f"{level:.4g}",
        }
    return row


def plan_of_others(people, count):
    """Rows of pairs of other studies: all ordered pairs as they are, then under conditions."""
    pairs = list(permutations(sorted(people), 2))
    rows = []
    for number in range(count):
        conditions = (("none", 1.0),) * 2
        if number >= len(pairs):
            conditions = conditions_of(np.random.default_rng([2028, number]))
        rows.append(row_of(people, number, 0, pairs[number % len(pairs)], conditions))
    return rows


def make_images(people, row, folder, size):
    """Write both images of a pair where they are missing; return the `Pair`."""
    paths = []
    for place, end in enumerate(("source", "target")):
        path = folder / f"{row['number']:04d}-{row['repeat']}-{end}.nii.gz"
        paths.append(str(path))
        if path.exists():
            continue
        image = nib.load(people[row[end]][0])
        seed = [row["number"], row["repeat"], place]
        level = float(row[f"{end}_level"])
        made = resized(degraded(image, row[f"{end}_condition"], level, seed), size)
        with temporary_path(path) as name:
            nib.save(made, name)
    return Pair(*paths, source_subject=row["source"], target_subject=row["target"])


def label(options):
    """Label all pairs, and replace the table."""
    people = scans_of(options.data)
    rows = (plan_of_others if options.of_other_studies else plan)(people, options.pairs)
    images = Path(options.work) / "images"
    images.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(rows), options.chunk):  # so that a table is there early
        chosen = rows[: start + options.chunk]
        pairs = [make_images(people, row, images, options.size) for row in chosen]
        labels = fourierreg.label_pairs(
            pairs,
            Path(options.work) / "labels",
            posterior="marginal",
            callback=lambda done, total, row: print(
                f"{done}/{total}: α {row.get('alpha', 'failed')}, {row['seconds']} s", flush=True
            ),
        )
        done = [
            {**row, **{name: _rounded(found[name]) for name in COLUMNS}}
            for row, found in zip(chosen, labels, strict=True)
            if found["state"] == "done"
        ]
        tables.replace(OTHER_TABLE if options.of_other_studies else TABLE, done)


def _rounded(value):
    return f"{value:.4g}" if isinstance(value, float) else value


def summary():
    """Print the spread of α over the conditions, the repeat error, and a regression."""
    every = tables.read(TABLE)
    rows = [r for r in every if r["converged"] == "True"]
    log_alpha = np.log([float(r["alpha"]) for r in rows])
    print(f"{len(every)} labels, {len(rows)} of which converged")
    print(f"ln α {log_alpha.mean():.3f}, sd {log_alpha.std():.3f}")
    twice = {}
    for r, value in zip(rows, log_alpha, strict=True):
        twice.setdefault(r["number"], []).append(value)
    differences = np.array([a[0] - a[1] for a in twice.values() if len(a) == 2])
    if differences.size:
        median = np.median(np.abs(differences))
        print(
            f"repeat error over {differences.size} pairs: sd {differences.std() / np.sqrt(2):.3f}, "
            f"median difference {median:.3f}"
        )
    for kind in KINDS:
        chosen = [r["source_condition"] == kind and r["target_condition"] == kind for r in rows]
        values = log_alpha[chosen]
        if values.size < 3:
            continue
        levels = [float(r["source_level"]) for r, c in zip(rows, chosen, strict=True) if c]
        rho = spearmanr(values, levels).statistic if len(set(levels)) > 1 else float("nan")
        print(
            f"  {kind:7s} both: {values.size} pairs, median α {np.exp(np.median(values)):.2f}, sd "
            f"of ln α {values.std():.3f}, Spearman correlation with the level {rho:+.2f}"
        )
    regression(rows, log_alpha)


def regression(rows, log_alpha):
    """Print a linear regression of ln α on the levels of the conditions and the deformation."""
    names = [f"{end} {kind}" for end in ("source", "target") for kind in list(KINDS)[1:]]
    columns = [
        [
            float(r[f"{end}_level"]) / KINDS[kind][1] if r[f"{end}_condition"] == kind else 0.0
            for r in rows
        ]
        for end in ("source", "target")
        for kind in list(KINDS)[1:]
    ]
    for name, value in (
        ("ln rms displacement", [np.log(float(r["rms_displacement_mm"])) for r in rows]),
        ("one image of IXI", [float(r["source_set"] != r["target_set"]) for r in rows]),
        ("both of IXI", [float(r["source_set"] == r["target_set"] == "ixi") for r in rows]),
    ):
        names.append(name)
        columns.append(value)
    design = np.column_stack([np.ones(len(rows)), *columns])
    found, *_ = np.linalg.lstsq(design, log_alpha, rcond=None)
    residual = log_alpha - design @ found
    degrees = len(rows) - design.shape[1]
    if degrees < 1:
        return
    errors = np.sqrt((residual @ residual) / degrees * np.diag(np.linalg.pinv(design.T @ design)))
    print(f"regression of ln α: R² {1 - residual.var() / log_alpha.var():.2f}")
    for name, value, error in zip(["constant", *names], found, errors, strict=True):
        print(f"  {name:22s} {value:+.3f} ± {error:.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", help="folders of brains, a set each")
    parser.add_argument("--work", default="predictor-labels", help="folder of images and labels")
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument(
        "--chunk", type=int, default=50, help="pairs between two writes of the table"
    )
    parser.add_argument(
        "--of-other-studies", action="store_true", help="to test only, in a table of their own"
    )
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        label(options)
    if not options.of_other_studies:
        summary()


if __name__ == "__main__":
    main()
