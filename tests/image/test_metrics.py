"""Measures of the quality of a registration, on cases with known results."""

import math
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from fourierreg.backend import asarray
from fourierreg.data.structures import NEUROMORPHOMETRICS, resolve_structures
from fourierreg.image.deformation import invert
from fourierreg.image.geometry import Geometry
from fourierreg.image.metrics import (
    dice_before_and_after,
    inverse_consistency,
    merge_labels,
    structure_dice,
)


def test_dice_of_merged_structures():
    first = np.array([36, 37, 0, 57, 114, 0, 4])
    second = np.array([37, 36, 37, 0, 115, 114, 4])
    overlaps = structure_dice(first, second, NEUROMORPHOMETRICS)
    assert overlaps["caudate"] == 2 * 2 / (2 + 3)  # hemispheres are one structure
    assert overlaps["putamen"] == 0
    assert overlaps["cuneus"] == overlaps["cortex"] == 2 / 3  # the cuneus is part of the cortex
    assert math.isnan(overlaps["hippocampus"])  # neither image has it


def test_the_cortex_consists_of_all_cortical_labels():
    cortex = merge_labels(np.arange(256), NEUROMORPHOMETRICS)["cortex"]
    assert list(np.flatnonzero(cortex)) == list(range(100, 208))
    assert len(NEUROMORPHOMETRICS) == 9


def test_structures_are_read_from_a_table(tmp_path):
    path = tmp_path / "structures.csv"
    path.write_text("value,structure\n3,left\n4,left\n9,right\n")
    assert resolve_structures(path) == {"left": (3, 4), "right": (9,)}
    assert resolve_structures("neuromorphometrics") is NEUROMORPHOMETRICS


def test_inverse_consistency_is_small_only_for_an_inverse(backend):
    """The negative of a displacement is its inverse for a shift, but not for a wave."""
    spacing = (1.0, 2.0)
    shift = np.ones((2, 20, 20), np.float32) * np.reshape([3.0, -2.0], (2, 1, 1)).astype(np.float32)
    measures = inverse_consistency(asarray(shift), asarray(-shift), spacing)
    assert measures["max"] < 1e-5
    wave = np.zeros((2, 20, 20), np.float32)
    wave[0] = np.sin(2 * np.pi * np.arange(20) / 20)[:, None]  # along its own axis
    u = asarray(wave)
    good = inverse_consistency(u, invert(u, spacing, tolerance=1e-5), spacing)
    bad = inverse_consistency(u, -u, spacing)
    assert good["rms"] < 0.02 < bad["rms"] <= bad["max"]


def test_inverse_consistency_excludes_points_that_leave_the_grid():
    """A magnification and its inverse map some points to outside the grid."""
    x = np.stack(np.meshgrid(np.arange(20.0), np.arange(16.0), indexing="ij")).astype(np.float32)
    about = np.reshape([9.5, 7.5], (2, 1, 1)).astype(np.float32)
    measures = inverse_consistency(0.25 * (x - about), (1 / 1.25 - 1) * (x - about), (1.0, 1.0))
    assert measures["max"] < 1e-5


def test_dice_is_nan_for_a_label_that_is_in_neither_image():
    """A label that leaves the field of view has no overlap after, and is not in the mean."""
    a, b = np.zeros((8, 8, 8), np.int16), np.zeros((8, 8, 8), np.int16)
    a[2:5, 2:5, 2:5], b[2:5, 2:5, 3:6], a[6, 6, 7] = 1, 1, 7
    u = np.zeros((3, 8, 8, 8), np.float32)
    u[2] = -1.0  # label 1 onto itself, label 7 out of the field of view
    result = SimpleNamespace(
        displacement=u, geometry=Geometry((8, 8, 8), tuple(map(tuple, np.eye(4))))
    )
    overlaps = dice_before_and_after(result, *(nib.Nifti1Image(x, np.eye(4)) for x in (a, b)))
    assert overlaps["1"] == [pytest.approx(2 / 3), 1.0] == overlaps["mean"]
    assert overlaps["7"][0] == 0.0 and math.isnan(overlaps["7"][1])
