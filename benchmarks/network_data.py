"""Data sets of `brain_network.py`: labeled pairs, simulated pairs, shuffled simulated pairs."""

import csv
import shutil
from pathlib import Path

import numpy as np

import fourierreg
from fourierreg.atomic import write_table
from fourierreg.data.pairing import make_pairs
from fourierreg.labelling.folder import HEADER, TABLE
from fourierreg.simulation.folder import MANIFEST

ALPHAS = (3.0, 12.0)
SIGMA = 0.03


def label(options, pairs, name):
    """Label pairs in a subfolder of the work folder and return their rows."""
    return fourierreg.label_pairs(
        pairs,
        Path(options.work) / name,
        size=options.size,
        structures="neuromorphometrics",
        callback=lambda done, total, row: (
            done % 10 or print(f"{name}: {done} of {total}", flush=True)
        ),
    )


def pairs_across_splits(scans, splits):
    """Ordered pairs of subjects of different splits, which only cross-validation uses."""
    return [
        pair
        for pair in make_pairs(scans)
        if splits[pair.source_subject] != splits[pair.target_subject]
    ]


def label_run_with_splits(options, rows, splits, name):
    """Write a label run with only those pairs whose subjects have the same split."""
    folder = Path(options.work) / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(options.work) / "labels" / HEADER, folder / HEADER)
    write_table(
        folder / TABLE,
        [
            {**row, "split": splits[row["source_subject"]]}
            for row in rows
            if splits[row["source_subject"]] == splits[row["target_subject"]]
        ],
    )
    return folder


def simulate(options, scans, splits):
    """Simulate pairs of the same subjects, in the same splits."""
    folder = Path(options.work) / "simulated"
    fourierreg.simulate_pairs(
        scans,
        folder,
        options.pairs,
        alphas=ALPHAS,
        sigma=SIGMA,
        size=options.size,
        splits=splits,
        callback=lambda done, total: done % 50 or print(f"simulated {done}/{total}", flush=True),
    )
    return folder


def shuffle_alphas(folder):
    """Copy the manifest of simulated pairs with α permuted within each split."""
    out = folder.with_name("shuffled")
    out.mkdir(exist_ok=True)
    with (folder / MANIFEST).open() as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(0)
    for split in sorted({row["split"] for row in rows}):
        chosen = [row for row in rows if row["split"] == split]
        values = [row["alpha"] for row in chosen]
        for row, index in zip(chosen, rng.permutation(len(chosen)), strict=True):
            row["alpha"] = values[index]
    for row in rows:
        for name in ("source", "target"):
            row[name] = str((folder / row[name]).resolve())
    write_table(out / MANIFEST, rows)
    return out
