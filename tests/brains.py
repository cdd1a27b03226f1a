"""Small pairs of NIfTI images with oblique, anisotropic grids, as real ones have."""

import nibabel as nib
import numpy as np
from scipy import ndimage


def oblique_affine(spacing, tilt=0.2, flip=True):
    """Voxel-to-RAS affine: anisotropic, rotated about two axes, first axis from right to left."""
    c, s = np.cos(tilt), np.sin(tilt)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    signs = np.diag([-1.0 if flip else 1.0, 1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ signs @ np.diag(spacing)
    affine[:3, 3] = (11.0, -7.0, 5.0)
    return affine


def head(shape, spacing, shift=0.0, seed=0):
    """An ellipsoid with texture inside and zeros outside, of intensities up to about 800."""
    axes = [(np.arange(n) - (n - 1) / 2) * h for n, h in zip(shape, spacing, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    extent = [n * h for n, h in zip(shape, spacing, strict=True)]
    bend = shift * np.sin(2 * np.pi * y / extent[1])
    radius = np.sqrt(
        ((x - bend) / (0.30 * extent[0])) ** 2
        + (y / (0.33 * extent[1])) ** 2
        + (z / (0.31 * extent[2])) ** 2
    )
    inside = np.clip((1 - radius) * 6, 0, 1)
    waves = np.cos(2 * np.pi * (x - bend) / (0.2 * extent[0])) * np.cos(9 * y / extent[1])
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.0)
    return (800 * inside * (0.6 + 0.25 * waves + 0.1 * texture)).astype(np.float32)


def write_pair(folder, shape=(30, 36, 24), spacing=(1.5, 1.2, 2.0), same_grid=True):
    """Write source and target with labels to `folder`, on one grid or on two, and return the paths
    of the images."""
    affine = oblique_affine(spacing)
    target = head(shape, spacing)
    if same_grid:
        source, source_affine = head(shape, spacing, shift=2.5), affine
    else:
        other, fine = (40, 40, 36), (1.2, 1.1, 1.4)
        source, source_affine = head(other, fine, shift=2.5), oblique_affine(fine, 0.2, flip=False)
        center = affine @ [*((np.array(shape) - 1) / 2), 1]
        source_affine[:3, 3] += (center - source_affine @ [*((np.array(other) - 1) / 2), 1])[:3]
    for name, data, matrix in (("source", source, source_affine), ("target", target, affine)):
        nib.save(nib.Nifti1Image(data, matrix), folder / f"{name}.nii.gz")
        labels = (np.digitize(data, (120, 400, 600)) * 300).astype(np.uint16)
        nib.save(nib.Nifti1Image(labels, matrix), folder / f"{name}_labels.nii.gz")
    return folder / "source.nii.gz", folder / "target.nii.gz"
