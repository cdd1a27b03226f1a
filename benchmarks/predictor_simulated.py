"""Simulated pairs of known α under the conditions of the labeled ones. Resumable.

    python benchmarks/predictor_simulated.py --data OASIS IXI --work WORK --pairs 800
    python benchmarks/predictor_simulated.py --work WORK --check 40

The people and the conditions are those of `predictor_labels.py`. Pairs are simulated at 64³,
brought to 128³, put under a condition (`conditions.py`) and brought back. --check estimates α of
some: how far the labels of real pairs are from the truth.
"""

import argparse
import csv
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import tables
from predictor_labels import conditions_of, scans_of

import fourierreg
from fourierreg.atomic import temporary_path, write_table
from fourierreg.data.manifest import Pair
from fourierreg.data.nifti import resized
from fourierreg.data.scans import Scan
from fourierreg.simulation.folder import HEADER, MANIFEST

TABLE, ENDS = "predictor_simulated.csv", ("source", "target")

ALPHAS, SIGMA = (3.0, 16.0), 0.01  # α of real pairs is mostly from 3.3 to 10
SIZE = 64
BARE, FOLDER = "simulated-as-they-are", "simulated"  # folders within WORK


def put_under(job):
    """Write one image under its condition where it is missing."""
    source, path, kind, level, seed = job
    if path.exists():
        return
    # Imported here, in a new process: the parent has run compiled kernels.
    from conditions import degraded

    image = nib.load(source)
    if kind != "none":
        image = resized(degraded(resized(image, 2 * SIZE), kind, level, seed), SIZE)
    with temporary_path(path) as name:
        nib.save(image, name)


def jobs_of(work, rows):
    """Images to write, and the rows of the manifest with them and their conditions."""
    jobs, table = [], []
    for number, row in enumerate(rows):
        conditions = conditions_of(np.random.default_rng([2027, number]))
        made = dict(row)
        for place, (end, (kind, level)) in enumerate(zip(ENDS, conditions, strict=True)):
            path = (work / FOLDER / f"{number:04d}-{end}.nii.gz").resolve()
            jobs.append((work / BARE / row[end], path, kind, level, [2027, number, place]))
            made |= {end: str(path), f"{end}_labels": "", f"{end}_condition": kind}
            made[f"{end}_level"] = f"{level:.4g}"
        table.append(made)
    return jobs, table


def check(work, count):
    """Estimate α of the first pairs, as real pairs are labeled, and compare it with the truth."""
    with (work / FOLDER / MANIFEST).open(newline="") as file:
        rows = list(csv.DictReader(file))[:count]
    pairs = [Pair(row["source"], row["target"]) for row in rows]
    labels = fourierreg.label_pairs(pairs, work / "simulated-labels", posterior="marginal")
    found = [
        {
            "number": number,
            **{f"{end}_{x}": row[f"{end}_{x}"] for end in ENDS for x in ("condition", "level")},
            "truth": f"{float(row['alpha']):.4g}",
            **{key: f"{label[key]:.4g}" for key in ("alpha", "alpha_low", "alpha_high")},
            "converged": label["converged"],
        }
        for number, (row, label) in enumerate(zip(rows, labels, strict=True))
        if label["state"] == "done"
    ]
    tables.replace(TABLE, found)
    error = np.log([float(row["alpha"]) / float(row["truth"]) for row in found])
    bare = np.array([row["source_condition"] == row["target_condition"] == "none" for row in found])
    for name, chosen in (("as they are", bare), ("under conditions", ~bare)):
        print(
            f"{name}: {chosen.sum()} pairs, median of ln(estimate / truth) "
            f"{np.median(error[chosen]):+.3f}, sd {error[chosen].std():.3f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", help="folders of brains, a set each")
    parser.add_argument("--work", default="predictor-labels")
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--check", type=int, help="number of pairs to estimate α of")
    options = parser.parse_args()
    work = Path(options.work)
    if options.check:
        check(work, options.check)
        return
    people = scans_of(options.data)
    scans = [Scan(name, "", image, "") for name, (image, *_) in sorted(people.items())]
    fourierreg.simulate_pairs(
        scans,
        work / BARE,
        options.pairs,
        alphas=ALPHAS,
        sigma=SIGMA,
        size=SIZE,
        workers=options.workers,
        callback=lambda done, total: done % 20 or print(f"{done}/{total}", flush=True),
    )
    (work / FOLDER).mkdir(exist_ok=True)
    with (work / BARE / MANIFEST).open(newline="") as file:
        jobs, table = jobs_of(work, list(csv.DictReader(file)))
    with ProcessPoolExecutor(options.workers) as pool:
        list(pool.map(put_under, jobs))
    (work / FOLDER / HEADER).write_text((work / BARE / HEADER).read_text())
    write_table(work / FOLDER / MANIFEST, table)


if __name__ == "__main__":
    main()
