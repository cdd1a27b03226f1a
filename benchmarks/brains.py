"""Real pairs for the benchmarks: a folder of `{id}_t1.nii.gz` and `{id}_label.nii.gz` on one grid.

The folder is given by --data or the environment variable FOURIERREG_DATA; nothing is shipped.
"""

import os
from pathlib import Path

import nibabel as nib
import numpy as np

from fourierreg.image.geometry import foreground_scale


def add_arguments(parser):
    """--data and --pairs."""
    parser.add_argument(
        "--data", default=os.environ.get("FOURIERREG_DATA"), help="folder of brains"
    )
    parser.add_argument("--pairs", nargs="+", default=["1000-1001"], help="source-target ids")


def load(folder, name):
    """Image in about [0, 1], labels and spacing of one brain."""
    if folder is None:
        raise SystemExit("give --data FOLDER or set FOURIERREG_DATA")
    image = nib.load(Path(folder) / f"{name}_t1.nii.gz")
    data = np.ascontiguousarray(image.get_fdata(dtype=np.float32))
    labels = np.ascontiguousarray(nib.load(Path(folder) / f"{name}_label.nii.gz").dataobj)
    spacing = tuple(float(h) for h in image.header.get_zooms()[:3])
    return data / np.float32(foreground_scale(data)), labels, spacing


def pairs(options):
    """(name, source, target) of every pair asked for, each (image, labels, spacing)."""
    for name in options.pairs:
        first, second = name.split("-")
        yield name, load(options.data, first), load(options.data, second)
