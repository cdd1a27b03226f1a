"""ANTs reproduces `deformed.nii.gz` from `1Warp.nii.gz` on an oblique, anisotropic pair."""

import json

import nibabel as nib
import numpy as np
import pytest

from fourierreg.cli import main
from tests.brains import head, oblique_affine, write_pair

ants = pytest.importorskip("ants")


@pytest.mark.parametrize("same_grid", [True, False])
def test_ants_reproduces_the_deformed_images(same_grid, tmp_path):
    source, target = write_pair(tmp_path, same_grid=same_grid)
    out = tmp_path / "run"
    command = ["register", str(source), str(target), "--alpha", "2", "-o", str(out)]
    assert main([*command, "--modes", "6", "--quiet"]) in (0, 1)

    def applied(moving, fixed, warp):
        return ants.apply_transforms(
            ants.image_read(str(fixed)), ants.image_read(str(moving)), [str(out / warp)]
        ).numpy()

    scale = np.percentile(nib.load(source).get_fdata()[nib.load(source).get_fdata() != 0], 99.5)
    theirs = applied(source, target, "1Warp.nii.gz") / scale
    ours = nib.load(out / "deformed.nii.gz").get_fdata()
    assert np.abs(ours).max() > 0.5
    np.testing.assert_allclose(theirs, ours, atol=2e-3)

    # On a grid that extends beyond that of the warp, where ITK takes a displacement of zero.
    wide = tmp_path / "wide.nii.gz"
    grid = nib.load(target)
    affine = grid.affine @ np.array([[1, 0, 0, -5], [0, 1, 0, -4], [0, 0, 1, -3], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.zeros([n + 9 for n in grid.shape], np.float32), affine), wide)
    ours_wide = tmp_path / "ours.nii.gz"
    apply = ["apply", str(out), str(source), "-o", str(ours_wide), "--reference", str(wide)]
    assert main([*apply, "--quiet"]) == 0
    theirs = applied(source, wide, "1Warp.nii.gz") / scale
    np.testing.assert_allclose(theirs, nib.load(ours_wide).get_fdata() / scale, atol=5e-3)

    # The inverse warp brings the target closer to the source than it was.
    if same_grid:
        back = applied(target, source, "1InverseWarp.nii.gz")
        original = nib.load(source).get_fdata()
        before = nib.load(target).get_fdata() - original
        assert np.std(back - original) < 0.8 * np.std(before)


def written(folder, name, data, affine, unit, codes):
    """A file whose header has a unit and codes."""
    image = nib.Nifti1Image(data, affine)
    image.set_qform(affine if codes[0] else None, codes[0])
    image.set_sform(affine if codes[1] else None, codes[1])
    image.header.set_xyzt_units(unit)
    nib.save(image, folder / f"{name}.nii.gz")
    return str(folder / f"{name}.nii.gz")


@pytest.mark.parametrize(
    ("unit", "codes", "slab"),
    [
        ("mm", (4, 4), False),
        ("mm", (0, 4), False),
        ("mm", (1, 0), False),
        ("micron", (1, 1), False),
        ("meter", (0, 1), False),
        ("mm", (1, 1), True),
    ],
)
def test_ants_and_simpleitk_agree_on_every_header_and_to_the_faces(tmp_path, unit, codes, slab):
    """Over the whole grid, and on a slab of 8 slices that cuts the object."""
    sitk = pytest.importorskip("SimpleITK")
    shape, spacing = (30, 36, 24), (1.5, 1.2, 2.0)
    slices = slice(8, 16) if slab else slice(None)
    factor = {"mm": 1.0, "micron": 1e3, "meter": 1e-3}[unit]
    affine = np.diag([factor] * 3 + [1.0]) @ oblique_affine(spacing)
    files = [
        written(tmp_path, name, head(shape, spacing, shift)[..., slices], affine, unit, codes)
        for name, shift in (("source", 2.5), ("target", 0.0))
    ]
    out = tmp_path / "run"
    command = ["register", *files, "--alpha", "2", "-o", str(out), "--modes", "6", "--quiet"]
    assert main(command) in (0, 1)
    result = nib.load(out / "deformed.nii.gz")
    header = result.header
    assert (header["qform_code"], header["sform_code"]) == codes
    assert header.get_xyzt_units()[0] == unit
    np.testing.assert_allclose(result.affine, nib.load(files[1]).affine, rtol=1e-5)
    report = json.loads((out / "result.json").read_text())
    ours = result.get_fdata() * report["inputs"]["source"]["divided_by"]
    tolerance = 1e-3 * np.abs(ours).max()
    warp = str(out / "1Warp.nii.gz")
    moving, fixed = (ants.image_read(file) for file in files)
    theirs = ants.apply_transforms(fixed, moving, [warp]).numpy()
    np.testing.assert_allclose(theirs, ours, atol=tolerance)
    if slab:
        assert np.abs(ours[..., [0, -1]]).max() > 0.5 * np.abs(ours).max()
    source, target = (sitk.ReadImage(file) for file in files)
    field = sitk.DisplacementFieldTransform(sitk.ReadImage(warp, sitk.sitkVectorFloat64))
    moved = sitk.Resample(source, target, field, sitk.sitkLinear, 0.0)
    np.testing.assert_allclose(sitk.GetArrayFromImage(moved).T, ours, atol=tolerance)
