"""`fourierreg apply`: maps of every kind, series, points, and what is outside an image."""

import csv

import nibabel as nib
import numpy as np
import pytest

from fourierreg import Registration
from fourierreg.cli import main
from fourierreg.image.geometry import Geometry
from fourierreg.image.points import move_points
from tests.brains import write_pair


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A registration of images on different grids."""
    folder = tmp_path_factory.mktemp("apply")
    source, target = write_pair(folder, same_grid=False)
    command = ["register", str(source), str(target), "--alpha", "2", "-o", str(folder / "run")]
    assert main([*command, "--modes", "6", "--quiet"]) in (0, 1)
    return folder


def save(folder, name, data, like="source"):
    path = folder / name
    nib.save(Geometry.of(nib.load(folder / f"{like}.nii.gz")).image(data), path)
    return str(path)


def applied(run, image, *options, out="out.nii.gz"):
    assert main(["apply", str(run / "run"), image, "-o", str(run / out), "--quiet", *options]) == 0
    return nib.load(run / out)


def shape_of(run, name):
    return nib.load(run / f"{name}.nii.gz").shape


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_constant_maps_are_maps_too(run, value):
    """Such as the lesions of a person without any, in a folder of such maps."""
    image = save(run, "constant.nii.gz", np.full(shape_of(run, "source"), value, np.float32))
    moved = applied(run, image).get_fdata()
    assert moved.shape == shape_of(run, "target") and moved.max() == value


@pytest.mark.parametrize("offset", [0, 2**31, 614454277, 2**40])
def test_floating_point_labels_keep_their_ids(run, offset):
    labels = np.asanyarray(nib.load(run / "source_labels.nii.gz").dataobj).astype(np.float64)
    image = save(run, "ids.nii.gz", np.where(labels > 0, labels + offset, 0))
    moved = np.asanyarray(applied(run, image, "--labels").dataobj)
    assert moved.dtype.kind == "i"
    assert set(np.unique(moved).tolist()) == {0, *(offset + k * 300 for k in (1, 2, 3))}


def test_labels_that_a_slope_makes_keep_their_ids(run):
    labels = np.asanyarray(nib.load(run / "source_labels.nii.gz").dataobj) // 300
    image = save(run, "ids.nii", labels.astype(np.int16))
    with open(image, "r+b") as file:
        file.seek(112)  # scl_slope
        file.write(np.float32(2**30).tobytes())
    moved = np.asanyarray(applied(run, image, "--labels").dataobj)
    assert set(np.unique(moved).tolist()) == {k * 2**30 for k in range(4)}


def test_a_probability_map_is_no_label_map(run, capsys):
    image = save(run, "p.nii.gz", np.full(shape_of(run, "source"), 0.3, np.float32))
    command = ["apply", str(run / "run"), image, "-o", str(run / "x.nii.gz"), "--labels"]
    assert main(command) == 2
    assert "threshold a probability map first" in capsys.readouterr().err
    assert not (run / "x.nii.gz").exists()


def test_series_are_moved_volume_by_volume(run):
    data = nib.load(run / "source.nii.gz").get_fdata(dtype=np.float32)
    image = save(run, "series.nii.gz", np.stack([data, 2 * data], axis=-1))
    single = applied(run, str(run / "source.nii.gz")).get_fdata()
    moved = applied(run, image).get_fdata()
    np.testing.assert_allclose(moved, np.stack([single, 2 * single], axis=-1), rtol=1e-5)
    again = applied(run, str(run / "source.nii.gz"), "--reference", image, out="on.nii.gz")
    assert again.shape == shape_of(run, "source")  # the grid of a volume of the series


def test_series_keep_the_time_between_volumes(run):
    data = np.repeat(nib.load(run / "source.nii.gz").get_fdata(dtype=np.float32)[..., None], 2, -1)
    image = nib.load(save(run, "series.nii.gz", data))
    image.header.set_zooms((*image.header.get_zooms()[:3], 2.5))
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, run / "timed.nii.gz")
    header = applied(run, str(run / "timed.nii.gz")).header
    assert header.get_zooms()[3] == 2.5 and header.get_xyzt_units() == ("mm", "sec")


@pytest.mark.parametrize("fill", ["300000", "-1", "0.5", "nan"])
def test_a_fill_value_is_a_label_where_labels_are_moved(run, capsys, fill):
    image, out = str(run / "source_labels.nii.gz"), str(run / "filled.nii.gz")
    command = ["apply", str(run / "run"), image, "-o", out, "--labels", "--fill", fill]
    assert main(command) == 2
    assert "--fill: expected a label that uint16 holds" in capsys.readouterr().err


def test_infinite_voxels_are_refused(run, capsys):
    data = nib.load(run / "source.nii.gz").get_fdata(dtype=np.float32)
    data[0, 0, 0] = np.inf
    image = save(run, "infinite.nii.gz", data)
    assert main(["apply", str(run / "run"), image, "-o", str(run / "x.nii.gz")]) == 2
    assert "has infinite voxels" in capsys.readouterr().err


def test_the_inverse_is_written_on_the_grid_of_the_source(run):
    source = nib.load(run / "source.nii.gz")
    moved = applied(run, str(run / "target.nii.gz"), "--inverse")
    assert moved.shape == source.shape
    np.testing.assert_allclose(moved.affine, source.affine, atol=1e-4)
    assert np.corrcoef(moved.get_fdata().ravel(), source.get_fdata().ravel())[0, 1] > 0.9


def test_nan_outside_the_brain_is_nothing(run):
    data = nib.load(run / "source.nii.gz").get_fdata(dtype=np.float32)
    image = save(run, "nan.nii.gz", np.where(data == 0, np.nan, data).astype(np.float32))
    expected = applied(run, str(run / "source.nii.gz")).get_fdata()
    np.testing.assert_allclose(applied(run, image).get_fdata(), expected)


def test_a_fill_value_outside_the_field_of_view(run):
    grid = nib.load(run / "target.nii.gz")
    affine = grid.affine @ np.array([[1, 0, 0, -15], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.zeros(grid.shape, np.float32), affine), run / "far.nii.gz")
    options = ["--reference", str(run / "far.nii.gz"), "--fill", "-1024"]
    moved = applied(run, str(run / "source.nii.gz"), *options).get_fdata()
    assert np.all(moved[:8] == -1024) and moved.max() > 0


def points_of(run):
    """Points inside the target, RAS."""
    grid = Geometry.of(nib.load(run / "target.nii.gz"))
    voxels = np.random.default_rng(0).uniform(5, np.array(grid.shape) - 6, (20, 3))
    return voxels @ grid.matrix[:3, :3].T + grid.matrix[:3, 3], grid


def write_csv(path, points, header):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*header, "label"])
        writer.writerows([*point, f"p{i}"] for i, point in enumerate(points))
    return str(path)


def read_csv(path, header):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(row[name]) for name in header] for row in rows]), rows


@pytest.mark.parametrize(("header", "signs"), [("xyz", (-1, -1, 1)), ("ras", (1, 1, 1))])
def test_points_go_from_target_to_source_and_back(run, header, signs):
    points, _ = points_of(run)
    file = write_csv(run / "points.csv", points * signs, header)
    there, back = (str(run / f"{name}.csv") for name in ("there", "back"))
    command = ["apply", str(run / "run"), "--quiet", "--points"]
    assert main([*command, file, "-o", there]) == 0
    moved, rows = read_csv(there, header)
    assert [row["label"] for row in rows] == [f"p{i}" for i in range(20)]
    result = Registration.load(run / "run" / "velocity.npz")
    expected = move_points(points, result.displacement, result.geometry)
    np.testing.assert_allclose(moved * signs, expected, atol=1e-3)
    assert np.abs(expected - points).max() > 0.5
    assert main([*command, there, "--inverse", "-o", back]) == 0
    np.testing.assert_allclose(read_csv(back, header)[0] * signs, points, atol=0.15)


def test_points_go_where_images_come_from(run):
    """The deformed image at a voxel is the source at the place where the voxel's center goes."""
    result = Registration.load(run / "run" / "velocity.npz")
    grid, source = result.geometry, nib.load(run / "source.nii.gz")
    voxels = np.argwhere(result.deformed > 0.3)[::200]
    points = voxels @ grid.matrix[:3, :3].T + grid.matrix[:3, 3]
    there = move_points(points, result.displacement, grid)
    coordinate = nib.affines.apply_affine(source.affine, np.indices(source.shape).T).T
    for axis in range(3):  # an image whose values are the coordinates
        image = save(run, "coordinate.nii.gz", coordinate[axis].astype(np.float32))
        deformed = applied(run, image).get_fdata()
        np.testing.assert_allclose(deformed[tuple(voxels.T)], there[:, axis], atol=1e-2)


def test_antspyx_moves_points_alike(run):
    ants, pandas = pytest.importorskip("ants"), pytest.importorskip("pandas")
    points, _ = points_of(run)
    lps = points * (-1, -1, 1)
    result = Registration.load(run / "run" / "velocity.npz")
    ours = move_points(points, result.displacement, result.geometry) * (-1, -1, 1)
    table = pandas.DataFrame(lps, columns=list("xyz"))
    theirs = ants.apply_transforms_to_points(3, table, [str(run / "run" / "1Warp.nii.gz")])
    np.testing.assert_allclose(theirs[list("xyz")].to_numpy(), ours, atol=1e-2)


def moved_file(run, file, *options):
    out = file.with_name(f"moved{file.suffix}")
    command = ["apply", str(run / "run"), "--quiet", "--points", str(file), "-o", str(out)]
    assert main([*command, *options]) == 0
    return out


@pytest.mark.parametrize("suffix", [".trk", ".tck"])
def test_streamlines(run, suffix):
    """Points of streamlines are where their files say, in scanner space; what they carry stays."""
    points, grid = points_of(run)
    lines = [points[:7].astype(np.float32), points[7:].astype(np.float32)]
    tractogram = nib.streamlines.Tractogram(lines, affine_to_rasmm=np.eye(4))
    header = None
    if suffix == ".trk":
        tractogram.data_per_streamline["weight"] = [[1.5], [2.5]]
        header = {"voxel_to_rasmm": grid.matrix.astype(np.float32), "dimensions": grid.shape}
        header["voxel_sizes"], header["voxel_order"] = grid.spacing, "LAS"
    file = run / f"lines{suffix}"
    nib.streamlines.save(tractogram, str(file), header=header)
    result = Registration.load(run / "run" / "velocity.npz")
    expected = move_points(points, result.displacement, grid)
    moved = nib.streamlines.load(moved_file(run, file))
    assert [len(line) for line in moved.streamlines] == [7, 13]
    np.testing.assert_allclose(np.concatenate(list(moved.streamlines)), expected, atol=1e-3)
    if suffix == ".trk":
        weights = moved.tractogram.data_per_streamline["weight"]
        assert np.ravel(weights).tolist() == [1.5, 2.5]


FACES = np.array([[i, i + 1, i + 2] for i in range(18)], np.int32)


@pytest.mark.parametrize("kind", ["gifti", "freesurfer"])
def test_surfaces(run, kind):
    points, grid = points_of(run)
    result = Registration.load(run / "run" / "velocity.npz")
    expected = move_points(points, result.inverse_displacement, grid)
    if kind == "gifti":
        codes = nib.nifti1.intent_codes
        arrays = [
            nib.gifti.GiftiDataArray(points.astype(np.float32), codes["NIFTI_INTENT_POINTSET"]),
            nib.gifti.GiftiDataArray(FACES, codes["NIFTI_INTENT_TRIANGLE"]),
        ]
        file = run / "surface.surf.gii"
        nib.save(nib.gifti.GiftiImage(darrays=arrays), file)
        moved = nib.load(moved_file(run, file, "--inverse")).darrays
        found, faces = moved[0].data, moved[1].data
    else:
        center = np.array([3.0, -4.0, 5.0])
        volume = {"head": [2, 0, 20], "valid": "1  # volume info valid", "filename": "a.mgz"}
        volume |= {"volume": [30, 36, 24], "voxelsize": [1.0, 1.0, 1.0], "cras": center}
        volume |= {"xras": [-1.0, 0, 0], "yras": [0, 0, -1.0], "zras": [0, 1.0, 0]}
        file = run / "lh.white"
        nib.freesurfer.write_geometry(file, points - center, FACES, "made here", volume)
        coordinates, faces, metadata = nib.freesurfer.read_geometry(
            moved_file(run, file, "--inverse"), read_metadata=True
        )
        found = coordinates + metadata["cras"]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_array_equal(faces, FACES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--points", "list.txt", "-o", "x.txt"], "--points: expected one of .csv, .trk, .tck"),
        (["--points", "broken.trk", "-o", "x.trk"], "broken.trk cannot be read"),
        (["--points", "data.gii", "-o", "x.gii"], "has no coordinates of a surface"),
        (["--points", "missing.csv", "-o", "x.csv"], "--points: no file missing.csv"),
        (["--points", "bad.csv", "-o", "x.csv"], "expected a header with x,y,z"),
        (["--points", "text.csv", "-o", "x.csv"], "a coordinate in text.csv is not a number"),
        (["--points", "numbers.csv", "-o", "x.nii"], "--output: expected a name ending in .csv"),
        (["--points", "text.csv", "--labels", "-o", "x.csv"], "--labels: expected none for points"),
        (["-o", "x.nii"], "IMAGE: expected an image, or --points"),
        (["a.nii", "--points", "text.csv", "-o", "x.nii"], "IMAGE: expected an image, or --points"),
    ],
)
def test_bad_points_are_one_line(run, arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.csv").write_text("a,b,c\n1,2,3\n")
    (tmp_path / "text.csv").write_text("x,y,z\n1,2,three\n")
    (tmp_path / "numbers.csv").write_text("x,y,z\n1,2,3\n")
    (tmp_path / "list.txt").write_text("1 2 3\n")
    (tmp_path / "broken.trk").write_bytes(b"TRACK")
    nib.save(nib.gifti.GiftiImage(), tmp_path / "data.gii")
    assert main(["apply", str(run / "run"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
