"""Dice between scans prepared by `prepare_brain` and by the authors of their data set.

    python benchmarks/native.py --native FOLDER --siblings FOLDER

The folder of --native holds the original ``{id}_SS.nii.gz`` and ``{id}_glm.nii.gz``; that of
--siblings ``{id}_label.nii.gz``, the labels on the template as prepared by the authors. Affine
transforms to one template by different programs do not agree exactly, which affects thin structures
such as the cortex most.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
import tables

from fourierreg.data.structures import NEUROMORPHOMETRICS
from fourierreg.image.geometry import Geometry, resample_onto
from fourierreg.image.metrics import structure_dice
from fourierreg.preparation.brain import prepare_brain

TABLE = "native.csv"


def run(scan, sibling):
    """Row of the table for one scan: warnings, and Dice per merged structure."""
    name = scan.name.removesuffix("_SS.nii.gz")
    labels = nib.load(scan.with_name(f"{name}_glm.nii.gz"))
    prepared = prepare_brain(nib.load(scan), labels=labels)
    truth = nib.load(sibling)
    resampled = resample_onto(
        np.asarray(prepared.labels.dataobj, dtype=np.float64),
        Geometry.of(prepared.labels),
        Geometry.of(truth),
        order=0,
    )
    found = structure_dice(resampled.astype(int), np.asarray(truth.dataobj), NEUROMORPHOMETRICS)
    return {
        "scan": name,
        "warnings": " ".join(prepared.warnings),
        **{structure: f"{value:.3f}" for structure, value in found.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--native", required=True, help="folder of the original scans")
    parser.add_argument("--siblings", required=True, help="folder of the prepared labels")
    options = parser.parse_args()
    rows = []
    for scan in sorted(Path(options.native).glob("*_SS.nii.gz")):
        sibling = Path(options.siblings) / scan.name.replace("_SS", "_label")
        rows.append(run(scan, sibling))
        print(rows[-1], flush=True)
    tables.replace(TABLE, rows)


if __name__ == "__main__":
    main()
