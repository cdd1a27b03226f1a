"""Pairs of real brains for the benchmarks, from a folder of the user.

The folder holds `{id}_t1.nii.gz` and `{id}_label.nii.gz`, all on one grid, and may hold landmarks,
`{id}_afids.csv` with columns name, x, y, z (RAS mm). It is given by --data or the environment
variable FOURIERREG_DATA. The package distributes no brain images.
"""

import csv
import os
from pathlib import Path

import nibabel as nib
import numpy as np

from fourierreg.image.foreground import foreground_scale


def add_arguments(parser):
    """Add --data and --pairs to a parser."""
    parser.add_argument(
        "--data", default=os.environ.get("FOURIERREG_DATA"), help="folder of brain images"
    )
    parser.add_argument("--pairs", nargs="+", default=["1000-1001"], help="ids SOURCE-TARGET")


def load(folder, name):
    """Normalized image, labels and spacing of one brain."""
    if folder is None:
        raise SystemExit("give --data FOLDER or set FOURIERREG_DATA")
    image = nib.load(Path(folder) / f"{name}_t1.nii.gz")
    data = np.ascontiguousarray(image.get_fdata(dtype=np.float32))
    labels = np.ascontiguousarray(nib.load(Path(folder) / f"{name}_label.nii.gz").dataobj)
    spacing = tuple(float(h) for h in image.header.get_zooms()[:3])
    return data / np.float32(foreground_scale(data)), labels, spacing


def pairs(options):
    """Yield (name, source, target) of every pair in --pairs; images as returned by `load`."""
    for name in options.pairs:
        first, second = name.split("-")
        yield name, load(options.data, first), load(options.data, second)


def landmarks(folder, name):
    """Landmarks of one brain by name, in mm along the axes of its grid; none without a file."""
    path = Path(folder) / f"{name}_afids.csv"
    if not path.exists():
        return {}
    image = nib.load(Path(folder) / f"{name}_t1.nii.gz")
    to_voxels, spacing = np.linalg.inv(image.affine), image.header.get_zooms()[:3]
    with path.open() as file:
        points = {r["name"]: [float(r[axis]) for axis in "xyz"] for r in csv.DictReader(file)}
    return {key: (to_voxels @ [*point, 1.0])[:3] * spacing for key, point in points.items()}
