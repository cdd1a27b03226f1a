"""What the functions take for images and masks, and what they refuse in one line."""

import nibabel as nib
import numpy as np
import pytest

import fourierreg
from fourierreg.errors import InputError
from fourierreg.model.model import Model
from fourierreg.registration.inputs import read_inputs
from tests.brains import head, oblique_affine

SHAPE, SPACING = (20, 22, 18), (1.5, 1.2, 2.0)
AFFINE = oblique_affine(SPACING)


def nifti(data, affine=AFFINE):
    return nib.Nifti1Image(data, affine)


def images():
    return nifti(head(SHAPE, SPACING, shift=2.0)), nifti(head(SHAPE, SPACING))


def read(source, target, **options):
    return read_inputs(source, target, Model(modes=6), alpha=3.0, **options)


def test_a_mask_may_be_a_nibabel_image():
    source, target = images()
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[4:16, 5:18, 4:14] = 1
    by_image = read(source, target, mask=nifti(voxels))
    by_array = read(source, target, mask=voxels.astype(bool))
    np.testing.assert_array_equal(by_image.problem.mask, by_array.problem.mask)
    elsewhere = AFFINE.copy()
    elsewhere[0, 3] += 3
    with pytest.raises(InputError, match="mask: expected an image on the grid of the target"):
        read(source, target, mask=nifti(voxels, elsewhere))
    arrays = [image.get_fdata() / 800 for image in images()]
    with pytest.raises(InputError, match="mask: expected an image on the grid of the target"):
        read(*arrays, mask=nifti(voxels))


@pytest.mark.parametrize("value", [np.nan, 0.4])
def test_a_mask_with_fractions_or_nan_is_refused(value):
    with pytest.raises(InputError, match="mask: expected True and False, or integers"):
        read(*images(), mask=np.full(SHAPE, value))


def test_images_of_other_packages_are_refused_with_the_conversion():
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(np.zeros(SHAPE, np.float32))
    with pytest.raises(InputError, match=r"source: .* SimpleITK: use nibabel.load its file, or "):
        fourierreg.map_alpha(image, image)
    with pytest.raises(InputError, match=r"source: .* SimpleITK"):
        read(image, images()[1])
    ants = pytest.importorskip("ants")
    image = ants.from_numpy(np.zeros(SHAPE, np.float32))
    with pytest.raises(InputError, match=r"source: .* ants: use ants.to_nibabel_nifti\(image\)"):
        fourierreg.register(image, image, alpha=3.0)
    assert hasattr(ants, "to_nibabel_nifti")


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_are_not_slices(channels):
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, channels), np.uint8)
    with pytest.raises(InputError, match=r"source: expected one channel; got .* looks like RGB"):
        fourierreg.map_alpha(picture, picture)


@pytest.mark.parametrize("shape", [(20, 22, 1), (20, 22, 18, 5)])
def test_slices_and_series_are_no_volumes(shape):
    image = nifti(np.random.default_rng(0).random(shape).astype(np.float32))
    with pytest.raises(InputError, match="source: expected a volume with three axes; got shape"):
        read(image, images()[1])


def test_a_fourth_axis_of_one_volume_is_taken():
    source, target = images()
    wrapped = nifti(source.get_fdata(dtype=np.float32)[..., None])
    mask = nifti(np.ones((*SHAPE, 1), np.uint8))
    found, expected = read(wrapped, target, mask=mask), read(source, target)
    np.testing.assert_array_equal(found.problem.source, expected.problem.source)
