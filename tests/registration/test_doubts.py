"""What counts in the images of people's files, and results that say when not to trust them."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

import fourierreg
from fourierreg.cli import main
from fourierreg.data.template import template_brain
from fourierreg.errors import InputError
from fourierreg.simulation.pair import simulate_pair
from tests.brains import write_pair

SIZE = 32
SPACING = 192.0 / SIZE
SETTING = {"modes": 10, "spacing": SPACING}


@pytest.fixture(scope="module")
def brains():
    """A brain and the same deformed, with noise in it."""
    source = template_brain(SIZE)[0]
    made = simulate_pair(
        source, alpha=3.0, sigma=0.06, seed=3, modes=10, spacing=SPACING, foreground=True
    )
    return source, made.target


@pytest.fixture(scope="module")
def clean(brains):
    return fourierreg.map_alpha(*brains, **SETTING)


def noisy(images):
    rng = np.random.default_rng(0)
    return [i + np.abs(rng.normal(0, 0.02, i.shape)).astype(np.float32) for i in images]


def lesion(images):
    """The images with a hole in the source, a mask of all but the hole, and the hole."""
    x = np.indices(images[0].shape)
    hole = sum((x[i] - c) ** 2 for i, c in enumerate((11, 16, 17))) < 16
    spoiled = np.where(hole & (images[0] > 0), np.float32(0.4), images[0])
    return [spoiled, images[1]], {"mask": ~hole}


def masked_array(images):
    """The images, of which the source is masked where it was spoiled."""
    (spoiled, target), keywords = lesion(images)
    return [np.ma.MaskedArray(spoiled, ~keywords["mask"]), target], {}


CASES = {
    "offset": lambda images: ([i + np.float32(2.0) for i in images], {}),
    "faint noise around the brain": lambda images: (noisy(images), {}),
    "ringing": lambda images: (
        [ndimage.shift(i, (0.2, 0, 0), order=3).astype(np.float32) for i in images],
        {},
    ),
    "a mask of ones": lambda images: (images, {"mask": np.ones(images[0].shape, bool)}),
    "a mask that covers the background": lesion,
    "a masked array": masked_array,
}


def test_an_ordinary_pair_has_no_warnings(clean):
    assert clean.converged and clean.warnings == () and clean.status.startswith("Converged")


@pytest.mark.parametrize("case", CASES)
def test_it_gives_the_alpha_of_the_clean_pair(case, brains, clean):
    images, keywords = CASES[case](brains)
    found = fourierreg.map_alpha(*images, **SETTING, **keywords)
    assert found.converged, found.status
    low, high = clean.alpha_interval
    assert low < found.alpha < high
    off = np.sqrt(np.mean(np.sum((found.displacement - clean.displacement) ** 2, 0)[brains[1] > 0]))
    assert off < 0.5 * SPACING


def test_an_offset_returns_in_the_deformed_source(brains, clean):
    moved = fourierreg.map_alpha(*(i + np.float32(2.0) for i in brains), **SETTING)
    np.testing.assert_allclose(moved.deformed[0, 0], 2.0, atol=1e-5)
    assert np.mean(np.abs(moved.deformed - 2.0 - clean.deformed)) < 0.01


def test_what_the_source_does_not_cover_does_not_count(brains):
    """A source cut below the top of the brain is registered as with a mask of what it covers."""
    source, target = brains
    affine = np.diag([SPACING] * 3 + [1.0])
    cut, covered = 21, np.zeros(source.shape, bool)
    covered[:, :, :cut] = True
    found = fourierreg.map_alpha(
        nib.Nifti1Image(source[:, :, :cut], affine), nib.Nifti1Image(target, affine), modes=10
    )
    expected = fourierreg.map_alpha(
        nib.Nifti1Image(source, affine), nib.Nifti1Image(target, affine), modes=10, mask=covered
    )
    low, high = expected.alpha_interval
    assert low < found.alpha < high
    off = np.sum((found.displacement - expected.displacement) ** 2, 0)[covered & (target > 0)]
    assert np.sqrt(np.mean(off)) < 0.5 * SPACING


def test_masked_arrays_of_other_shapes_are_refused(brains):
    source, target = (np.ma.MaskedArray(image, image < 0.1) for image in brains)
    with pytest.raises(InputError, match="source: expected the shape of target"):
        fourierreg.map_alpha(source[1:], target, **SETTING)


def test_a_mask_of_background_alone_is_refused(brains):
    with pytest.raises(InputError, match="mask: expected voxels of the images' fore"):
        fourierreg.map_alpha(*brains, mask=(brains[0] == 0) & (brains[1] == 0), **SETTING)


NONSENSE = {
    "other contrast": (lambda s, t: (s, np.where(t > 0, 1.05 - t, 0)), "hardly match"),
    "apart": (lambda s, t: (ndimage.shift(s, (6, 0, 0), order=1), t), "aligned"),
    "turned": (lambda s, t: (np.rot90(s, axes=(1, 2)).copy(), t), "aligned"),
    "equal": (lambda s, t: (t, t), "are equal"),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_is_not_called_converged(case, brains):
    make, words = NONSENSE[case]
    source, target = (i.astype(np.float32) for i in make(*brains))
    found = fourierreg.map_alpha(source, target, **SETTING)
    assert not found.converged
    assert words in found.warnings[0] and words in found.status
    assert "Converged" not in found.status


def test_local_correlation_is_judged_without_regard_to_contrast(brains):
    """Of another contrast it registers without a word; far from aligned it does not."""
    source, target = brains
    inverted = np.where(target > 0, 1.05 - target, 0).astype(np.float32)
    keywords = {"quality": "fast", "spacing": SPACING}
    assert fourierreg.register(source, inverted, **keywords).converged
    apart = ndimage.shift(source, (6, 0, 0), order=1).astype(np.float32)
    found = fourierreg.register(apart, target, **keywords)
    assert not found.converged and "were not aligned" in found.status


def test_the_default_command_writes_everything(tmp_path):
    """α from held-out voxels by local correlation, which has no σ to print or to plot."""
    source, target = (str(path) for path in write_pair(tmp_path)[:2])
    out = tmp_path / "run"
    assert main(["map-alpha", source, target, "-o", str(out), "--quiet"]) in (0, 1)
    record = json.loads((out / "result.json").read_text())
    assert record["posterior"] == "predictive" and record["sigma"] is None
    assert (out / "figure.png").exists()
    assert main(["report", str(out), "-o", str(tmp_path / "report.html"), "--quiet"]) == 0


def test_warnings_reach_the_file_the_record_and_the_exit_code(brains, tmp_path):
    affine = np.diag([SPACING] * 3 + [1.0])
    source, target = brains
    for name, image in (("source", np.where(source > 0, 1.05 - source, 0)), ("target", target)):
        nib.save(nib.Nifti1Image(image.astype(np.float32), affine), tmp_path / f"{name}.nii.gz")
    paths = [str(tmp_path / f"{name}.nii.gz") for name in ("source", "target")]
    out = tmp_path / "run"
    code = main(["map-alpha", *paths, "-o", str(out), "--modes", "10", "--quiet"])
    assert code == 1
    record = json.loads((out / "result.json").read_text())
    assert not record["converged"] and "hardly match" in record["warnings"][0]
    (saved,) = out.glob("*.npz")
    assert fourierreg.Registration.load(saved).warnings == tuple(record["warnings"])
