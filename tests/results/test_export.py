"""The map of a run in the files of other programs, read by those or by an independent formula.

Source and target are oblique, anisotropic and on different grids, so that any mistaken axis, sign
or origin shows.
"""

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from fourierreg.cli import main
from fourierreg.cli.export import PROGRAMS
from fourierreg.data.affines import from_fsl, read_affine, write_affine
from fourierreg.image.geometry import Geometry
from fourierreg.results.export import FORMATS
from tests.brains import write_pair

SUFFIXES = {program: suffix for program, (suffix, _) in FORMATS.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder, source and target of a run, and the source moved by `apply`."""
    folder = tmp_path_factory.mktemp("export")
    source, target = write_pair(folder, same_grid=False)
    command = ["register", str(source), str(target), "--alpha", "2", "-o", str(folder / "run")]
    assert main([*command, "--modes", "6", "--quiet"]) in (0, 1)
    moved = folder / "moved.nii.gz"
    assert main(["apply", str(folder / "run"), str(source), "-o", str(moved), "--quiet"]) == 0
    return folder, source, target, nib.load(moved).get_fdata()


def exported(run, program, *options):
    """File of a map."""
    folder = run[0]
    path = folder / f"{program}{SUFFIXES[program]}"
    command = ["export", str(folder / "run"), "--to", program, "-o", str(path), "--quiet"]
    assert main([*command, *map(str, options)]) == 0
    return path


def sampled(image, voxels):
    """Linear interpolation, independent of the package's own."""
    return map_coordinates(image.get_fdata(), np.moveaxis(voxels, -1, 0), order=1, cval=0.0)


def transformed(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def by_fsl(path, source, target):
    """The definition of a relative warp of applywarp."""
    here = transformed(
        np.linalg.inv(from_fsl(target)), transformed(target.matrix, voxels_of(target))
    )
    there = here + nib.load(path).get_fdata()
    return transformed(np.linalg.inv(source.matrix) @ from_fsl(source), there)


def voxels_of(geometry):
    return np.moveaxis(np.indices(geometry.shape), 0, -1)


def by_scanner_positions(path, source, target):
    """Of MRtrix and SPM: where every voxel is, in mm."""
    points = nib.load(path).get_fdata().reshape(*target.shape, 3)
    return transformed(np.linalg.inv(source.matrix), points)


def by_x5(path, source, target):
    from nitransforms.nonlinear import DenseFieldTransform

    points = transformed(target.matrix, voxels_of(target)).reshape(-1, 3)
    mapped = DenseFieldTransform.from_filename(path, fmt="X5").map(points)
    return transformed(np.linalg.inv(source.matrix), mapped).reshape(*target.shape, 3)


def by_surfa(path, source, target):
    import surfa

    # Its reader takes np.fromstring for binary data, which NumPy has since removed.
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(np, "fromstring", lambda data, dtype: np.frombuffer(data, dtype).copy())
    try:
        warp = surfa.load_warp(str(path))
    finally:
        monkeypatch.undo()
    return voxels_of(target) + warp.convert(surfa.Warp.Format.disp_crs).data


READERS = {
    "fsl": by_fsl,
    "mrtrix": by_scanner_positions,
    "spm": by_scanner_positions,
    "bids-x5": by_x5,
    "freesurfer": by_surfa,
}


def error(run, found):
    """Largest difference to the source as moved by `apply`, relative."""
    expected = run[3]
    return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("program", list(READERS))
def test_another_reader_samples_the_same_voxels(run, program):
    _, source, target, _ = run
    path = exported(run, program)
    image = nib.load(source)
    voxels = READERS[program](path, Geometry.of(image), Geometry.of(nib.load(target)))
    assert error(run, sampled(image, voxels)) < 2e-3


@pytest.mark.parametrize("program", ["ants", "itk-h5"])
def test_ants_moves_the_same_image(run, program):
    ants = pytest.importorskip("ants")
    _, source, target, _ = run
    path = exported(run, program)
    moving, fixed = (ants.image_read(str(file)) for file in (source, target))
    found = ants.apply_transforms(fixed, moving, [str(path)]).numpy()
    assert error(run, found) < 2e-3


def test_simpleitk_reads_the_composite(run):
    sitk = pytest.importorskip("SimpleITK")
    _, source, target, _ = run
    transform = sitk.ReadTransform(str(exported(run, "itk-h5")))
    moving, fixed = (sitk.ReadImage(str(file), sitk.sitkFloat32) for file in (source, target))
    moved = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)
    assert error(run, sitk.GetArrayFromImage(moved).T) < 2e-3


def test_the_inverse_goes_back(run):
    """On the grid of the source."""
    folder, source, target, _ = run
    back = folder / "back.nii.gz"
    command = ["apply", str(folder / "run"), str(target), "--inverse", "-o", str(back), "--quiet"]
    assert main(command) == 0
    expected = nib.load(back).get_fdata()
    path = exported(run, "mrtrix", "--inverse")
    image = nib.load(target)
    voxels = by_scanner_positions(path, Geometry.of(image), Geometry.of(nib.load(source)))
    difference = np.abs(sampled(image, voxels) - expected) / np.abs(expected).max()
    assert difference.max() < 2e-3


@pytest.fixture(scope="module")
def affine():
    """Rotation, scaling and translation, from the run's space to that of a scan, RAS mm."""
    matrix = np.eye(4)
    angle = np.deg2rad(20)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, :3] *= [1.05, 0.95, 1.1]
    matrix[:3, 3] = [4, -7, 11]
    return matrix


@pytest.fixture(scope="module")
def scan(run, affine):
    """A scan that is the source moved by an affine: same voxels, another space."""
    folder, source, _, _ = run
    image = nib.load(source)
    grid, shape = np.diag([2.0, 1.5, 1.8, 1.0]), (48, 56, 44)
    center = transformed(affine @ image.affine, (np.array(image.shape) - 1) / 2)
    grid[:3, 3] = center - transformed(grid, np.array(shape) / 2)
    positions = transformed(grid, np.moveaxis(np.indices(shape), 0, -1))
    voxels = transformed(np.linalg.inv(image.affine) @ np.linalg.inv(affine), positions)
    data = sampled(image, voxels).astype(np.float32)
    path = folder / "scan.nii.gz"
    nib.save(nib.Nifti1Image(data, grid), path)
    return path


def flirt_matrix(affine, scan, source):
    """What ``flirt -in SCAN -ref SOURCE -omat`` would write, by nitransforms."""
    from nitransforms.io.fsl import FSLLinearTransform

    return FSLLinearTransform.from_ras(
        affine, moving=nib.load(scan), reference=nib.load(source)
    ).to_string()


@pytest.fixture(params=["itk", "fsl", "freesurfer"])
def affine_file(request, run, affine, scan):
    """The affine, in the file of a program."""
    folder, source, _, _ = run
    if request.param == "itk":
        path = folder / "affine.mat"
        write_affine(affine, path)
    elif request.param == "fsl":
        path = folder / "flirt.mat"
        path.write_text(flirt_matrix(affine, scan, source))
    else:
        from nitransforms.io.lta import FSLinearTransform

        path = folder / "affine.lta"
        struct = FSLinearTransform.from_ras(
            affine, moving=nib.load(scan), reference=nib.load(source)
        )
        path.write_text(struct.to_string())
    return path


def test_affines_of_all_programs_are_the_same(run, affine, affine_file, scan):
    _, source, _, _ = run
    ends = (Geometry.of(nib.load(path)) for path in (scan, source))
    np.testing.assert_allclose(read_affine(affine_file, *ends), affine, atol=2e-4)


def test_a_scan_moves_through_affine_and_warp_in_one_step(run, affine_file, scan):
    """`apply --affine`, and a file of both for ANTs."""
    folder, _, target, original = run
    moved = folder / "scan_moved.nii.gz"
    command = ["apply", str(folder / "run"), str(scan), "-o", str(moved), "--quiet"]
    assert main([*command, "--affine", str(affine_file)]) == 0
    ours = nib.load(moved).get_fdata()
    assert np.corrcoef(ours.ravel(), original.ravel())[0, 1] > 0.95
    path = exported(run, "ants", "--source", scan, "--affine", affine_file)
    ants = pytest.importorskip("ants")
    moving, fixed = (ants.image_read(str(file)) for file in (scan, target))
    theirs = ants.apply_transforms(fixed, moving, [str(path)]).numpy()
    np.testing.assert_allclose(theirs, ours, atol=3e-3 * np.abs(ours).max())


def test_the_command_offers_every_format():
    assert set(PROGRAMS) == set(FORMATS)


def test_bad_requests_are_one_line(run, affine_file, capsys):
    folder = run[0]
    common = ["export", str(folder / "run"), "--quiet"]
    for options, expected in (
        (["--to", "fsl", "-o", str(folder / "x.h5")], "expected a name ending in .nii.gz for fsl"),
        (
            ["--to", "ants", "-o", str(folder / "x.nii.gz"), "--affine", str(affine_file)],
            "--affine: expected --source too",
        ),
        (["--to", "ants", "-o", str(folder / "x.nii.gz"), "--source", "none.nii"], "none.nii"),
    ):
        assert main([*common, *options]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert expected in lines[0]
        assert not list(folder.glob("x.*"))
