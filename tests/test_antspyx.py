"""ANTs reproduces `deformed.nii.gz` from `1Warp.nii.gz` on an oblique, anisotropic pair."""

import nibabel as nib
import numpy as np
import pytest

from fourierreg.cli import main
from tests.brains import write_pair

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
