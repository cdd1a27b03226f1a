"""Preparation recovers a brain and its labels from a transformed scan with a bias field."""

import json

import nibabel as nib
import numpy as np
import pytest

from fourierreg.cli import main
from fourierreg.data.affines import RAS_TO_LPS, read_affine, write_affine
from fourierreg.errors import InputError
from fourierreg.image.geometry import Geometry, resample_onto
from fourierreg.preparation.affine import to_itk
from fourierreg.preparation.bias_field import correct_bias_field
from fourierreg.preparation.brain import prepare_brain
from fourierreg.preparation.files import prepare_files
from tests.brains import head, oblique_affine

SHAPE, SPACING = (44, 48, 40), (2.0, 2.0, 2.0)


def geometry_of(affine, shape):
    return Geometry(shape, tuple(map(tuple, affine)))


@pytest.fixture(scope="module")
def template():
    """A head on a regular grid, with labels."""
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-43, -50, -38)
    data = head(SHAPE, SPACING, shift=3.0)
    labels = (np.digitize(data, (120, 400, 600)) * 300).astype(np.uint16)
    return nib.Nifti1Image(data, affine), nib.Nifti1Image(labels, affine)


@pytest.fixture(scope="module")
def truth():
    """Affine from template to scan: rotation, scaling, shear and translation."""
    matrix = np.eye(4)
    rotation = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]])
    matrix[:3, :3] = rotation @ np.array([[1.1, 0.05, 0], [0, 0.95, 0.04], [0, 0, 1.05]])
    matrix[:3, 3] = (20, -15, 30)
    return matrix


@pytest.fixture(scope="module")
def scan(template, truth):
    """The template transformed to an oblique LAS grid, with a bias field."""
    image, labels = template
    shape, affine = (50, 46, 48), oblique_affine((2.0, 2.2, 1.9), tilt=0.1)
    inside = np.array([*((np.array(SHAPE) - 1) / 2), 1])
    center = truth @ image.affine @ inside
    affine[:3, 3] += (center - affine @ [*((np.array(shape) - 1) / 2), 1])[:3]
    grid = geometry_of(affine, shape)
    there = Geometry.of(image).aligned_by(np.linalg.inv(truth))
    data = resample_onto(image.get_fdata(), there, grid)
    moved = resample_onto(labels.get_fdata(), there, grid, order=0).astype(np.uint16)
    bias = np.exp(0.3 * np.linspace(-1, 1, shape[0]))[:, None, None]
    return nib.Nifti1Image((data * bias).astype(np.float32), affine), nib.Nifti1Image(moved, affine)


@pytest.fixture(scope="module")
def prepared(scan, template):
    image, labels = scan
    return prepare_brain(image, labels=labels, template=template[0], size=40, spacing=3.0)


def test_the_affine_is_recovered(prepared, template, truth):
    """The rms error of points of the head is below a voxel."""
    data = template[0].get_fdata()
    points = nib.affines.apply_affine(template[0].affine, np.argwhere(data > 100))
    gap = nib.affines.apply_affine(prepared.transform, points)
    gap -= nib.affines.apply_affine(truth, points)
    assert np.sqrt((gap**2).sum(axis=1).mean()) < 2.0


def test_a_second_preparation_is_the_same_to_the_bit(prepared, scan, template):
    image, labels = scan
    again = prepare_brain(image, labels=labels, template=template[0], size=40, spacing=3.0)
    np.testing.assert_array_equal(again.transform, prepared.transform)
    np.testing.assert_array_equal(again.image.get_fdata(), prepared.image.get_fdata())


def test_the_image_is_normalized_on_the_cube(prepared):
    data = prepared.image.get_fdata(dtype=np.float32)
    assert data.shape == (40, 40, 40) and nib.aff2axcodes(prepared.image.affine) == ("R", "A", "S")
    assert prepared.image.header.get_zooms() == (3.0, 3.0, 3.0)
    assert data.min() == 0 and data.max() == 1
    assert 0.04 < (data > 0).mean() < 0.2
    for axis in range(3):  # background on every side
        assert not np.take(data, [0, -1], axis).any()
    assert not [text for text in prepared.warnings if "face" in text]


def test_labels_are_resampled_with_their_values_and_dtype(prepared, template):
    """uint16 labels above 255 are preserved and overlap those of the template."""
    labels = np.asanyarray(prepared.labels.dataobj)
    assert labels.dtype == np.uint16 and set(np.unique(labels)) == {0, 300, 600, 900}
    cube = Geometry.of(prepared.labels)
    truth = np.asanyarray(template[1].dataobj).astype(float)
    expected = resample_onto(truth, Geometry.of(template[1]), cube, order=0)
    both = (labels > 0) & (expected > 0)
    assert 2 * both.sum() / ((labels > 0).sum() + (expected > 0).sum()) > 0.93


def test_the_bias_field_is_recovered_up_to_a_factor():
    """On a head of two tissues."""
    affine = oblique_affine((4.0, 4.0, 4.0))
    inside = head(SHAPE, SPACING) > 200
    tissue = np.where(head(SHAPE, SPACING, seed=1) > 500, 700.0, 450.0)
    noise = 10 * np.random.default_rng(0).standard_normal(SHAPE)
    log_bias = 0.3 * np.linspace(-1, 1, SHAPE[2]) * np.ones(SHAPE)
    data = (inside * (tissue + noise) * np.exp(log_bias)).astype(np.float32)
    corrected = correct_bias_field(data, inside, geometry_of(affine, SHAPE))
    found = np.log(data[inside] / corrected[inside])
    assert np.corrcoef(found, log_bias[inside])[0, 1] > 0.95
    assert abs(found.std() / log_bias[inside].std() - 1) < 0.3


def test_without_affine_registration_a_scan_is_only_resampled(template):
    image, _ = template
    result = prepare_brain(
        image, template=image, size=40, spacing=3.0, bias_correction=False, affine=False
    )
    np.testing.assert_array_equal(result.transform, np.eye(4))
    expected = resample_onto(image.get_fdata(), Geometry.of(image), Geometry.of(result.image))
    data, inside = result.image.get_fdata(), result.image.get_fdata() > 0
    assert np.corrcoef(data[inside], expected[inside])[0, 1] > 0.97


def test_a_written_affine_maps_points_in_itk_as_the_matrix_does(truth, tmp_path):
    import SimpleITK

    for ending in ("mat", "tfm"):
        path = tmp_path / f"affine.{ending}"
        write_affine(truth, path)
        np.testing.assert_allclose(read_affine(path), truth, atol=1e-6)
        transform = SimpleITK.ReadTransform(str(path))
        point = np.array([3.0, -7.0, 11.0, 1.0])
        expected = RAS_TO_LPS @ truth @ RAS_TO_LPS @ point
        np.testing.assert_allclose(transform.TransformPoint(point[:3].tolist()), expected[:3])
    (tmp_path / "text.mat").write_text("not a transform\n")
    with pytest.raises(ValueError, match="is not an affine transform"):
        read_affine(tmp_path / "text.mat")


def test_voxels_have_the_same_position_in_itk(scan):
    image = scan[0]
    found = to_itk(np.asarray(image.dataobj), Geometry.of(image))
    index = (5, 17, 30)
    point = RAS_TO_LPS @ image.affine @ [*index, 1]
    np.testing.assert_allclose(found.TransformIndexToPhysicalPoint(index), point[:3], atol=1e-4)
    assert found[index] == np.asarray(image.dataobj)[index]


def test_a_scan_that_is_not_skull_stripped_gives_a_warning(template):
    image, _ = template
    full = nib.Nifti1Image(image.get_fdata() + 50, image.affine)
    options = {"template": image, "size": 40, "spacing": 3.0, "bias_correction": False}
    result = prepare_brain(full, affine=False, **options)
    assert any("skull-stripped" in text for text in result.warnings)
    mask = nib.Nifti1Image((image.get_fdata() > 0).astype(np.uint8), image.affine)
    assert not prepare_brain(full, mask=mask, affine=False, **options).warnings


def test_a_cube_that_is_too_small_gives_a_warning(template):
    image, _ = template
    options = {"affine": False, "bias_correction": False}
    result = prepare_brain(image, template=image, size=24, spacing=2.5, **options)
    assert any("of a face of the cube" in text for text in result.warnings)


def test_invalid_scans_are_refused(template):
    image, _ = template
    empty = nib.Nifti1Image(np.zeros(SHAPE, np.float32), image.affine)
    with pytest.raises(ValueError, match=r"^scan: no voxel above zero"):
        prepare_brain(empty, template=image, size=40)
    small = nib.Nifti1Image(np.ones((5, 5, 5), np.uint8), image.affine)
    with pytest.raises(ValueError, match=r"^mask: expected the grid"):
        prepare_brain(image, mask=small, template=image, size=40)
    sheared = image.affine.copy()
    sheared[0, 1] = 0.5
    with pytest.raises(ValueError, match="not at right angles"):
        prepare_brain(nib.Nifti1Image(image.get_fdata(), sheared), template=image, size=40)


def save_all(folder, template, scan):
    for name, image in zip(("template", "template_labels"), template, strict=True):
        nib.save(image, folder / f"{name}.nii.gz")
    for name, image in zip(("sub-1", "sub-1_labels"), scan, strict=True):
        nib.save(image, folder / f"{name}.nii.gz")


def test_the_command_resumes_and_its_affine_is_applied(tmp_path, template, scan, capsys):
    """If one of two scans is corrupt, the other is prepared and the exit code is 1; a second run
    writes nothing; `apply` maps labels to the scan's space through registration and affine."""
    save_all(tmp_path, template, scan)
    (tmp_path / "bad.nii.gz").write_bytes(b"not an image")
    out = tmp_path / "out"
    scans = [str(tmp_path / "sub-1.nii.gz"), str(tmp_path / "bad.nii.gz")]
    labels = [str(tmp_path / "sub-1_labels.nii.gz")] * 2
    options = ["--template", str(tmp_path / "template.nii.gz"), "--size", "40", "--spacing", "3"]
    command = ["prepare", *scans, "-o", str(out), "--labels", *labels, *options]
    assert main(command) == 1
    said = capsys.readouterr()
    assert "failed" in said.err and "1 of 2 scans" in said.out
    files = {p.name: p.stat().st_mtime_ns for p in out.iterdir()}
    assert set(files) == {
        "sub-1.nii.gz", "sub-1_labels.nii.gz", "sub-1_affine.mat", "sub-1.json",
    }  # fmt: skip
    report = json.loads((out / "sub-1.json").read_text())
    assert report["inputs"]["image"]["sha256"] and report["parameters"]["size"] == 40
    main(command)
    assert {p.name: p.stat().st_mtime_ns for p in out.iterdir()} == files
    with pytest.raises(InputError, match="made from other parameters"):
        prepare_files(scans[:1], out, labels=labels, template=options[1], size=41)

    moved = nib.load(out / "sub-1.nii.gz").get_fdata(dtype=np.float32)
    target = np.roll(moved, 2, axis=1)
    nib.save(nib.Nifti1Image(target, nib.load(out / "sub-1.nii.gz").affine), out / "target.nii.gz")
    pair = [str(out / "sub-1.nii.gz"), str(out / "target.nii.gz")]
    run = str(tmp_path / "run")
    main(["register", *pair, "--alpha", "2", "--modes", "8", "-o", run, "--quiet"])
    # Labels of the scan, mapped by affine and warp in one interpolation, overlap the warped labels
    # of the prepared source.
    affine = ["--affine", str(out / "sub-1_affine.mat"), "--labels"]
    assert main(["apply", run, labels[0], "-o", str(tmp_path / "a.nii.gz"), *affine]) == 0
    prepared = str(out / "sub-1_labels.nii.gz")
    assert main(["apply", run, prepared, "-o", str(tmp_path / "b.nii.gz"), "--labels"]) == 0
    assert overlap(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz") > 0.93
    # The inverse maps labels in target space to the grid of the scan.
    back = ["--inverse", "--labels", "--reference", scans[0]]
    back += ["--reference-affine", str(out / "sub-1_affine.mat")]
    assert (
        main(["apply", run, str(tmp_path / "b.nii.gz"), "-o", str(tmp_path / "c.nii.gz"), *back])
        == 0
    )
    assert overlap(tmp_path / "c.nii.gz", labels[0]) > 0.9
    assert nib.load(tmp_path / "c.nii.gz").shape == scan[0].shape


def overlap(first, second):
    a, b = (np.asanyarray(nib.load(path).dataobj) > 0 for path in (first, second))
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_invalid_arguments_of_the_command_are_refused(tmp_path, template, scan, capsys):
    save_all(tmp_path, template, scan)
    image = str(tmp_path / "sub-1.nii.gz")
    assert main(["prepare", image, image, "-o", str(tmp_path / "out")]) == 2
    assert "several scans are called sub-1" in capsys.readouterr().err
    assert main(["prepare", image, "-o", str(tmp_path / "out"), "--labels", image, image]) == 2
    assert "--labels: expected one per image" in capsys.readouterr().err
