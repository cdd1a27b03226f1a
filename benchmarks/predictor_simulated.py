"""Simulated pairs of known α under the conditions of the labeled ones. Resumable.

    python benchmarks/predictor_simulated.py --data OASIS IXI --work WORK --pairs 400

The people and the conditions are those of `predictor_labels.py`. Pairs are simulated at 64³,
brought to 128³, put under a condition (`conditions.py`) and brought back.
"""

import argparse
import csv
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
from predictor_labels import conditions_of, scans_of

import fourierreg
from fourierreg.atomic import temporary_path, write_table
from fourierreg.data.nifti import resized
from fourierreg.data.scans import Scan
from fourierreg.simulation.folder import HEADER, MANIFEST

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
        for place, (end, (kind, level)) in enumerate(
            zip(("source", "target"), conditions, strict=True)
        ):
            path = (work / FOLDER / f"{number:04d}-{end}.nii.gz").resolve()
            jobs.append((work / BARE / row[end], path, kind, level, [2027, number, place]))
            made |= {end: str(path), f"{end}_labels": "", f"{end}_condition": kind}
            made[f"{end}_level"] = f"{level:.4g}"
        table.append(made)
    return jobs, table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True, help="folders of brains, a set each")
    parser.add_argument("--work", default="predictor-labels")
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    work, people = Path(options.work), scans_of(options.data)
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
