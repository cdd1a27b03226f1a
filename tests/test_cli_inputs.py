"""What the command line takes for images: windows of tomography, pictures, busy folders."""

import json
import os

import filelock
import nibabel as nib
import numpy as np
import pytest

from fourierreg.backend.threads import num_threads
from fourierreg.cli import main
from fourierreg.data.nifti import looks_like_labels
from tests.brains import head, oblique_affine, write_pair

SHAPE, SPACING = (30, 36, 24), (1.5, 1.2, 2.0)
FAST = ["--alpha", "2", "--modes", "6", "--max-iterations", "3", "--quiet"]


def write(folder, name, data):
    nib.save(nib.Nifti1Image(data, oblique_affine(SPACING)), folder / f"{name}.nii.gz")
    return str(folder / f"{name}.nii.gz")


def register(folder, *arguments):
    return main(["register", *arguments, "-o", str(folder / "run"), *FAST])


def tomogram(shift, seed):
    """Head in air, in Hounsfield units."""
    brain = head(SHAPE, SPACING, shift) / 10
    noise = np.random.default_rng(seed).normal(0, 4, SHAPE)
    return np.where(brain > 5, brain + noise, -1024).round().astype(np.int16)


def test_computed_tomography_is_no_label_map_and_may_be_windowed(tmp_path, capsys):
    files = [write(tmp_path, n, tomogram(2.0 * i, i)) for i, n in enumerate(("source", "target"))]
    command = ["register", *files, "-o", str(tmp_path / "run"), *FAST[:-1]]
    assert main(command) in (0, 1)
    assert "target: values down to -1024, as computed" in capsys.readouterr().err
    assert main([*command, "--window", "0", "60"]) in (0, 1)
    assert "computed tomography" not in capsys.readouterr().err
    report = json.loads((tmp_path / "run" / "result.json").read_text())
    assert report["inputs"]["source"]["divided_by"] <= 60
    assert "--window" in report["arguments"]
    assert report["threads"] == num_threads() <= os.cpu_count()


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (("60", "0"), "--window: expected a lower and a higher number; got 60 0"),
        (("5000", "6000"), "--window: no voxel of source lies between 5000 and 6000"),
    ],
)
def test_a_window_that_shows_nothing(tmp_path, capsys, window, message):
    source, target = write_pair(tmp_path)
    assert register(tmp_path, str(source), str(target), "--window", *window) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_label_maps_are_known_by_their_values():
    labels = np.zeros((20, 20, 20), np.int16)
    labels[4:10, 4:16, 4:16], labels[10:16, 4:16, 4:16] = 17, 53
    assert looks_like_labels(labels) and looks_like_labels(labels.astype(float) - 1024)
    assert not looks_like_labels(tomogram(0.0, 0)) and not looks_like_labels(labels + 0.5)
    assert not looks_like_labels(np.zeros((20, 20, 20)))


def test_pictures_are_refused_with_the_way_to_register_them(tmp_path, capsys):
    from matplotlib import image

    picture = tmp_path / "slice.png"
    image.imsave(picture, np.random.default_rng(0).random((40, 50)))
    assert register(tmp_path, str(picture), str(picture)) == 2
    error = capsys.readouterr().err
    assert "is a picture" in error and "fourierreg.map_alpha(source, target" in error
    assert len(error.strip().splitlines()) == 1


def test_single_slices_are_refused_in_one_line(tmp_path, capsys):
    flat = write(tmp_path, "flat", head(SHAPE, SPACING)[:, :, 10:11])
    assert register(tmp_path, flat, flat) == 2
    error = capsys.readouterr().err
    assert "register slices as 2D arrays" in error and len(error.strip().splitlines()) == 1


def test_a_second_run_in_a_folder_waits_its_turn(tmp_path, capsys):
    source, target = map(str, write_pair(tmp_path))
    (tmp_path / "run").mkdir()
    with filelock.FileLock(tmp_path / "run" / ".lock"):
        assert register(tmp_path, source, target) == 2
    assert "another run is writing to" in capsys.readouterr().err
    assert register(tmp_path, source, target) in (0, 1)
    assert not (tmp_path / "run" / ".lock").exists()


def test_equal_images_are_said_to_be_equal(tmp_path, capsys):
    _, target = write_pair(tmp_path)
    assert main(["register", str(target), str(target), "-o", str(tmp_path / "run"), *FAST[:6]]) == 1
    assert "Source and target are equal" in capsys.readouterr().out


def test_a_probability_map_is_no_mask(tmp_path, capsys):
    source, target = map(str, write_pair(tmp_path))
    mask = write(tmp_path, "mask", np.full(SHAPE, 0.7, np.float32))
    assert register(tmp_path, source, target, "--mask", mask) == 2
    assert "threshold a probability map first" in capsys.readouterr().err


def write_head(folder, name, millimeters, shift=0.0):
    """A head, or a brain, of a size: its ellipsoid fills about an eighth of the field of view."""
    shape = (30, 30, 30)
    data = head(shape, (millimeters / 30,) * 3, shift)
    affine = np.diag([*(millimeters / 30,) * 3, 1.0])
    nib.save(nib.Nifti1Image(data, affine), folder / f"{name}.nii.gz")
    return str(folder / f"{name}.nii.gz")


@pytest.mark.parametrize(("millimeters", "hint"), [(320, True), (180, False)])
def test_a_foreground_larger_than_a_brain_is_pointed_out(tmp_path, capsys, millimeters, hint):
    files = [write_head(tmp_path, n, millimeters, 2.0 * i) for i, n in enumerate(("a", "b"))]
    command = ["register", *files, "-o", str(tmp_path / "run"), *FAST[:-1]]
    assert main(command) in (0, 1)
    said = capsys.readouterr()
    assert ("liters, more than a brain" in said.err) is hint


def test_an_image_that_lies_elsewhere_is_pointed_out(tmp_path, capsys):
    """As an unprepared scan does, where its affine is forgotten."""
    source, target = write_pair(tmp_path)
    assert register(tmp_path, str(source), str(target)) in (0, 1)
    image = nib.load(source)
    affine = image.affine.copy()
    affine[:3, 3] += (0, 30, 0)
    nib.save(nib.Nifti1Image(image.get_fdata(), affine), tmp_path / "elsewhere.nii.gz")
    capsys.readouterr()
    for name, hint in ((source, False), (tmp_path / "elsewhere.nii.gz", True)):
        command = ["apply", str(tmp_path / "run"), str(name), "-o", str(tmp_path / "moved.nii.gz")]
        assert main(command) == 0
        assert ("give its --affine" in capsys.readouterr().err) is hint


def test_options_are_not_guessed_from_their_beginning(capsys):
    with pytest.raises(SystemExit) as error:
        main(["map-alpha", "a.nii", "b.nii", "-o", "run", "--alpha", "3"])
    assert error.value.code == 2
    assert "unrecognized arguments: --alpha 3" in capsys.readouterr().err


def test_the_table_says_what_alpha_was_inferred_from(tmp_path, capsys):
    """An option of the likelihood changes it."""
    source, target = write_pair(tmp_path)
    for options, what in (
        (["--quality", "fast"], "held-out voxels"),
        (["--modes", "6", "--max-iterations", "3"], "the marginal posterior"),
    ):
        out = ["-o", str(tmp_path / what.split()[0])]
        assert main(["map-alpha", str(source), str(target), *out, *options]) in (0, 1)
        assert f"inferred from             {what}" in capsys.readouterr().out


def test_remedies_are_options_of_the_command_line(tmp_path, capsys):
    source, target = map(str, write_pair(tmp_path))
    options = ["-o", str(tmp_path / "run"), "--similarity", "mi", "--posterior", "marginal"]
    assert main(["map-alpha", source, target, *options]) == 2
    said = capsys.readouterr().err
    assert "use --posterior predictive" in said and "posterior='" not in said


def test_a_command_may_be_called_as_its_function(capsys):
    with pytest.raises(SystemExit) as error:
        main(["map_alpha", "--help"])
    assert error.value.code == 0 and "map-alpha" in capsys.readouterr().out
