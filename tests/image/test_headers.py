"""Headers that programs read differently are refused; outputs keep unit and codes."""

import nibabel as nib
import numpy as np
import pytest

from fourierreg.errors import InputError
from fourierreg.image.geometry import Geometry
from tests.brains import oblique_affine

SHAPE = (5, 6, 7)
AFFINE = oblique_affine((1.5, 1.2, 2.0))


def image(affine=AFFINE, qform=1, sform=1, unit=None):
    made = nib.Nifti1Image(np.zeros(SHAPE, np.float32), affine)
    made.set_qform(affine, qform)
    made.set_sform(affine, sform)
    if unit is not None:
        made.header.set_xyzt_units(unit)
    return made


@pytest.mark.parametrize("codes", [(1, 1), (0, 4), (3, 0), (4, 2)])
@pytest.mark.parametrize("unit", ["mm", "micron", "meter"])
def test_a_grid_is_in_mm_and_its_images_have_its_unit_and_codes(codes, unit):
    grid = Geometry.of(image(AFFINE, *codes, unit=unit))
    factor = {"mm": 1.0, "micron": 1e-3, "meter": 1e3}[unit]
    expected = np.diag([factor] * 3 + [1.0]) @ AFFINE
    np.testing.assert_allclose(grid.matrix, expected, rtol=1e-5, atol=1e-5 * factor)
    made = grid.image(np.zeros(SHAPE, np.uint8))
    np.testing.assert_allclose(made.affine, AFFINE, rtol=1e-5, atol=1e-5)
    header = made.header
    assert (header["qform_code"], header["sform_code"]) == codes
    assert header.get_xyzt_units()[0] == unit and made.get_data_dtype() == np.uint8
    assert Geometry.of(made).matches(grid)


def test_an_image_without_unit_is_in_mm():
    grid = Geometry.of(image())
    np.testing.assert_allclose(grid.matrix, AFFINE, atol=1e-5)
    assert grid.image(np.zeros(SHAPE)).header.get_xyzt_units()[0] == "mm"


def without_position():
    header = nib.Nifti1Header()
    header.set_data_shape(SHAPE)
    return nib.Nifti1Image(np.zeros(SHAPE, np.float32), None, header)


def differing(shift):
    made, other = image(), AFFINE.copy()
    other[1, 3] += shift
    made.set_qform(other, 1)
    return made


def sheared():
    affine = AFFINE.copy()
    affine[:3, 1] += 0.1 * affine[:3, 0]
    made = nib.Nifti1Image(np.zeros(SHAPE, np.float32), affine)
    return made


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (without_position(), "does not say where the image is"),
        (differing(9.0), "has a qform and an sform that differ"),
        (sheared(), "axes that are not at right angles"),
    ],
)
def test_what_programs_read_differently_is_refused_in_one_line(made, message):
    with pytest.raises(InputError, match=f"target: the header of the image .*{message}") as caught:
        Geometry.of(made, "target")
    assert "\n" not in str(caught.value)


def test_rounding_of_a_quaternion_is_no_difference():
    Geometry.of(differing(0.01))


def test_other_formats_have_one_affine():
    other = nib.MGHImage(np.zeros(SHAPE, np.float32), AFFINE)
    np.testing.assert_allclose(Geometry.of(other).matrix, AFFINE, atol=1e-5)


@pytest.mark.parametrize("unit", ["mm", "micron", "meter"])
def test_itk_reads_the_position_in_mm(tmp_path, unit):
    sitk = pytest.importorskip("SimpleITK")
    path = str(tmp_path / "image.nii.gz")
    nib.save(image(unit=unit), path)
    read, grid = sitk.ReadImage(path), Geometry.of(nib.load(path))
    flip = np.array([-1.0, -1.0, 1.0])
    np.testing.assert_allclose(read.GetSpacing(), grid.spacing, rtol=1e-5)
    np.testing.assert_allclose(read.GetOrigin(), flip * grid.matrix[:3, 3], rtol=1e-4)


@pytest.mark.parametrize("code", [5, 2 + 56, 1 + 8])
def test_codes_of_units_that_nibabel_does_not_know(code):
    made = image(unit="mm")
    made.header["xyzt_units"] = code
    assert Geometry.of(made).unit == {5: "unknown", 58: "mm", 9: "meter"}[code]


def test_two_axes_are_refused():
    with pytest.raises(InputError, match="mask: expected an image with three axes"):
        Geometry.of(nib.Nifti1Image(np.zeros((4, 5), np.float32), np.eye(4)), "mask")
