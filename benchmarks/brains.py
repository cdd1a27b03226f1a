"""Pairs of real brains for the benchmarks, from a folder of the user.

The folder holds `{id}_t1.nii.gz` and `{id}_label.nii.gz`, all on one grid. It is given by --data or
the environment variable FOURIERREG_DATA. The package distributes no brain images.
"""

import os
from pathlib import Path

import nibabel as nib
import numpy as np

from fourierreg.image.geometry import foreground_scale


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
