"""Native scans prepared, beside the same scans as their data set's makers prepared them: Dice.

    python benchmarks/native.py --native FOLDER --siblings FOLDER

NATIVE holds ``{id}_SS.nii.gz`` and ``{id}_glm.nii.gz`` as they came, SIBLINGS ``{id}_label.nii.gz``
on the template. Two affines to one template, made by different programs, never agree to the
voxel: cortex, a few voxels thick, shows it most.
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
    """One row: warnings, Dice per merged structure."""
    name = scan.name.removesuffix("_SS.nii.gz")
    labels = nib.load(scan.with_name(f"{name}_glm.nii.gz"))
    made = prepare_brain(nib.load(scan), labels=labels)
    truth = nib.load(sibling)
    mine = resample_onto(
        np.asarray(made.labels.dataobj, dtype=np.float64),
        Geometry.of(made.labels),
        Geometry.of(truth),
        order=0,
    )
    found = structure_dice(mine.astype(int), np.asarray(truth.dataobj), NEUROMORPHOMETRICS)
    return {
        "scan": name,
        "warnings": " ".join(made.warnings),
        **{structure: f"{value:.3f}" for structure, value in found.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--native", required=True)
    parser.add_argument("--siblings", required=True)
    options = parser.parse_args()
    rows = []
    for scan in sorted(Path(options.native).glob("*_SS.nii.gz")):
        sibling = Path(options.siblings) / scan.name.replace("_SS", "_label")
        rows.append(run(scan, sibling))
        print(rows[-1], flush=True)
    tables.replace(TABLE, rows)


if __name__ == "__main__":
    main()
