"""Preparation: a scan that was moved, turned and shaded comes back, labels whole."""

import json

import nibabel as nib
import numpy as np
import pytest

from fourierreg.checks import InputError
from fourierreg.cli import main
from fourierreg.image.geometry import Geometry, resample_onto
from fourierreg.preparation.brain import (
    FLIP,
    prepare_brain,
    read_affine,
    to_itk,
    without_bias_field,
    write_affine,
)
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
    """Template points to scan points: turned, stretched, sheared and moved."""
    matrix = np.eye(4)
    turn = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]])
    matrix[:3, :3] = turn @ np.array([[1.1, 0.05, 0], [0, 0.95, 0.04], [0, 0, 1.05]])
    matrix[:3, 3] = (20, -15, 30)
    return matrix


@pytest.fixture(scope="module")
def scan(template, truth):
    """The template as a scanner with another view of it gives it: oblique, LAS, shaded."""
    image, labels = template
    shape, affine = (50, 46, 48), oblique_affine((2.0, 2.2, 1.9), tilt=0.1)
    inside = np.array([*((np.array(SHAPE) - 1) / 2), 1])
    centre = truth @ image.affine @ inside
    affine[:3, 3] += (centre - affine @ [*((np.array(shape) - 1) / 2), 1])[:3]
    grid = geometry_of(affine, shape)
    there = Geometry.of(image).seen_through(np.linalg.inv(truth))
    data = resample_onto(image.get_fdata(), there, grid)
    moved = resample_onto(labels.get_fdata(), there, grid, order=0).astype(np.uint16)
    shade = np.exp(0.3 * np.linspace(-1, 1, shape[0]))[:, None, None]
    return nib.Nifti1Image((data * shade).astype(np.float32), affine), nib.Nifti1Image(
        moved, affine
    )


@pytest.fixture(scope="module")
def prepared(scan, template):
    image, labels = scan
    return prepare_brain(image, labels=labels, template=template[0], size=40, spacing=3.0)


def test_the_affine_is_found(prepared, template, truth):
    """Points of the head go where they should, to a voxel."""
    data = template[0].get_fdata()
    points = nib.affines.apply_affine(template[0].affine, np.argwhere(data > 100))
    gap = nib.affines.apply_affine(prepared.transform, points)
    gap -= nib.affines.apply_affine(truth, points)
    assert np.sqrt((gap**2).sum(axis=1).mean()) < 2.0


def test_the_image_is_on_the_cube(prepared):
    data = prepared.image.get_fdata(dtype=np.float32)
    assert data.shape == (40, 40, 40) and nib.aff2axcodes(prepared.image.affine) == ("R", "A", "S")
    assert prepared.image.header.get_zooms() == (3.0, 3.0, 3.0)
    assert data.min() == 0 and data.max() == 1
    assert 0.04 < (data > 0).mean() < 0.2
    for axis in range(3):  # background on every side
        assert not np.take(data, [0, -1], axis).any()
    assert not [text for text in prepared.warnings if "face" in text]


def test_labels_follow_with_their_values_and_dtype(prepared, template):
    """uint16 labels above 255 stay; they lie where the template's do."""
    labels = np.asanyarray(prepared.labels.dataobj)
    assert labels.dtype == np.uint16 and set(np.unique(labels)) == {0, 300, 600, 900}
    cube = Geometry.of(prepared.labels)
    truth = np.asanyarray(template[1].dataobj).astype(float)
    expected = resample_onto(truth, Geometry.of(template[1]), cube, order=0)
    both = (labels > 0) & (expected > 0)
    assert 2 * both.sum() / ((labels > 0).sum() + (expected > 0).sum()) > 0.93


def test_n4_finds_the_shade():
    """On a head of two tissues, what it divides by is the shade, but for a factor."""
    affine = oblique_affine((4.0, 4.0, 4.0))
    inside = head(SHAPE, SPACING) > 200
    tissue = np.where(head(SHAPE, SPACING, seed=1) > 500, 700.0, 450.0)
    noise = 10 * np.random.default_rng(0).standard_normal(SHAPE)
    shade = 0.3 * np.linspace(-1, 1, SHAPE[2]) * np.ones(SHAPE)
    data = (inside * (tissue + noise) * np.exp(shade)).astype(np.float32)
    corrected = without_bias_field(data, inside, geometry_of(affine, SHAPE))
    found = np.log(data[inside] / corrected[inside])
    assert np.corrcoef(found, shade[inside])[0, 1] > 0.95
    assert abs(found.std() / shade[inside].std() - 1) < 0.3


def test_without_an_affine_it_is_resampled_only(template):
    image, _ = template
    done = prepare_brain(
        image, template=image, size=40, spacing=3.0, bias_correction=False, affine=False
    )
    np.testing.assert_array_equal(done.transform, np.eye(4))
    expected = resample_onto(image.get_fdata(), Geometry.of(image), Geometry.of(done.image))
    data, inside = done.image.get_fdata(), done.image.get_fdata() > 0
    assert np.corrcoef(data[inside], expected[inside])[0, 1] > 0.97


def test_an_affine_is_written_as_itk_means_it(truth, tmp_path):
    import SimpleITK

    for ending in ("mat", "tfm"):
        path = tmp_path / f"affine.{ending}"
        write_affine(truth, path)
        np.testing.assert_allclose(read_affine(path), truth, atol=1e-6)
        transform = SimpleITK.ReadTransform(str(path))
        point = np.array([3.0, -7.0, 11.0, 1.0])
        expected = FLIP @ truth @ FLIP @ point
        np.testing.assert_allclose(transform.TransformPoint(point[:3].tolist()), expected[:3])
    (tmp_path / "text.mat").write_text("this is no transform\n")
    with pytest.raises(ValueError, match="holds no affine"):
        read_affine(tmp_path / "text.mat")


def test_voxels_are_where_itk_puts_them(scan):
    image = scan[0]
    found = to_itk(np.asarray(image.dataobj), Geometry.of(image))
    index = (5, 17, 30)
    point = FLIP @ image.affine @ [*index, 1]
    np.testing.assert_allclose(found.TransformIndexToPhysicalPoint(index), point[:3], atol=1e-4)
    assert found[index] == np.asarray(image.dataobj)[index]


def test_a_head_with_its_skull_is_warned_about(template):
    image, _ = template
    full = nib.Nifti1Image(image.get_fdata() + 50, image.affine)
    how = {"template": image, "size": 40, "spacing": 3.0, "bias_correction": False}
    done = prepare_brain(full, affine=False, **how)
    assert any("skull-stripped" in text for text in done.warnings)
    mask = nib.Nifti1Image((image.get_fdata() > 0).astype(np.uint8), image.affine)
    assert not prepare_brain(full, mask=mask, affine=False, **how).warnings


def test_a_cube_that_is_too_small_is_warned_about(template):
    image, _ = template
    how = {"affine": False, "bias_correction": False}
    done = prepare_brain(image, template=image, size=24, spacing=2.5, **how)
    assert any("of the cube's face" in text for text in done.warnings)


def test_bad_scans_are_refused(template):
    image, _ = template
    nothing = nib.Nifti1Image(np.zeros(SHAPE, np.float32), image.affine)
    with pytest.raises(ValueError, match=r"^scan: no voxel above zero"):
        prepare_brain(nothing, template=image, size=40)
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


def test_the_command(tmp_path, template, scan, capsys):
    """Two scans of which one is broken: the other is done, exit code 1; a second run does nothing;
    `apply` brings labels back to the scan's own space through registration and affine."""
    save_all(tmp_path, template, scan)
    (tmp_path / "bad.nii.gz").write_bytes(b"no image")
    out = tmp_path / "out"
    scans = [str(tmp_path / "sub-1.nii.gz"), str(tmp_path / "bad.nii.gz")]
    labels = [str(tmp_path / "sub-1_labels.nii.gz")] * 2
    options = ["--template", str(tmp_path / "template.nii.gz"), "--size", "40", "--spacing", "3"]
    command = ["prepare", *scans, "-o", str(out), "--labels", *labels, *options]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert "failed" in said and "1 of 2 scans" in said
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
    # The native labels of the source, through its affine and the warp at once, are those of the
    # prepared source warped.
    affine = ["--affine", str(out / "sub-1_affine.mat"), "--labels"]
    assert main(["apply", run, labels[0], "-o", str(tmp_path / "a.nii.gz"), *affine]) == 0
    prepared = str(out / "sub-1_labels.nii.gz")
    assert main(["apply", run, prepared, "-o", str(tmp_path / "b.nii.gz"), "--labels"]) == 0
    assert overlap(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz") > 0.93
    # And back: what lies in the target's space, on the grid of the scan itself.
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


def test_bad_arguments_of_the_command(tmp_path, template, scan, capsys):
    save_all(tmp_path, template, scan)
    image = str(tmp_path / "sub-1.nii.gz")
    assert main(["prepare", image, image, "-o", str(tmp_path / "out")]) == 2
    assert "several scans are called sub-1" in capsys.readouterr().err
    assert main(["prepare", image, "-o", str(tmp_path / "out"), "--labels", image, image]) == 2
    assert "--labels: expected one per image" in capsys.readouterr().err
