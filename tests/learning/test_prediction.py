"""Predictions: agreement between inputs, refusals, refinement."""

import nibabel as nib
import numpy as np
import pytest

import fourierreg
from fourierreg.data.manifest import Pair
from fourierreg.errors import InputError
from fourierreg.learning.card import save_with_card
from fourierreg.learning.examples import read_dataset, read_example
from fourierreg.learning.network import build_network
from tests.learning import data
from tests.learning.data import GRID_SPACING, card, heads, write_heads


def test_a_prediction_has_the_interval_of_the_held_out_errors(brain_model):
    found = fourierreg.predict_alpha(brain_model, *heads())
    assert found.alpha == found.predicted == pytest.approx(3.0, rel=0.5)
    low, high = found.interval
    assert np.log(high / found.alpha) == pytest.approx(0.4)
    assert np.log(found.alpha / low) == pytest.approx(0.4)
    assert not found.at_edge and found.status.startswith("Predicted: alpha = ")
    assert found.accepted is None and found.registration is None


def test_arrays_and_nibabel_images_give_the_same_prediction(brain_model):
    images = heads()
    arrays = [image.get_fdata(dtype=np.float32) / 500 for image in images]
    model = fourierreg.load_model(brain_model)
    from_images = fourierreg.predict_alpha(model, *images)
    from_arrays = fourierreg.predict_alpha(model, *arrays, spacing=GRID_SPACING)
    assert from_arrays.alpha == pytest.approx(from_images.alpha, rel=1e-5)


def test_finer_images_are_resampled(brain_model):
    fine = heads((36, 40, 32), (1.5, 1.5, 1.5))
    found = fourierreg.predict_alpha(brain_model, *fine)
    coarse = fourierreg.predict_alpha(brain_model, *heads())
    assert found.alpha == pytest.approx(coarse.alpha, rel=0.1)
    arrays = [i.get_fdata(dtype=np.float32) / 800 for i in fine]
    from_arrays = fourierreg.predict_alpha(brain_model, *arrays, spacing=1.5)
    assert from_arrays.alpha == pytest.approx(found.alpha, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"spacing": 2.0}, "target: .* field of view of 54 × 60 × 48 mm; got 36 × 40 × 32 mm"),
        ({"spacing": 3.0, "sigma": 0.2}, "sigma: the network was trained for 0.05; got 0.2"),
        ({"spacing": 3.0, "sigma": "estimate"}, "sigma: the network was trained for 0.05"),
        ({"spacing": 3.0, "flat": True}, "target: the network was trained on 3D images"),
    ],
)
def test_another_field_of_view_noise_or_dimension_is_refused(brain_model, change, line):
    arrays = [image.get_fdata(dtype=np.float32) / 800 for image in heads()]
    if change.pop("flat", False):
        arrays = [a[:, :, 8] for a in arrays]
    with pytest.raises(InputError, match=line):
        fourierreg.predict_alpha(brain_model, *arrays, **change)


def test_a_sigma_within_the_tolerance_does_not_change_the_prediction(brain_model):
    images = heads()
    expected = fourierreg.predict_alpha(brain_model, *images)
    for sigma in (0.05, 0.0502):
        found = fourierreg.predict_alpha(brain_model, *images, sigma=sigma)
        assert (found.alpha, found.interval) == (expected.alpha, expected.interval)


def test_2d_images_of_another_shape_are_refused(bullseye_model):
    arrays = [np.random.default_rng(i).random((48, 48), dtype=np.float32) for i in range(2)]
    with pytest.raises(InputError, match="target: expected the network's shape"):
        fourierreg.predict_alpha(bullseye_model, *arrays, spacing=0.5)


def test_a_prediction_at_the_edge_of_the_training_range_is_marked(brain_model, tmp_path):
    narrow = tmp_path / "narrow.keras"
    network = fourierreg.load_model(brain_model).network
    save_with_card(network, narrow, card(alpha_range=[8.0, 10.0]))
    found = fourierreg.predict_alpha(narrow, *heads())
    assert found.at_edge and "at the edge of the range of the training data" in found.status


def bullseye_pair(folder):
    return read_example(read_dataset(data.bullseyes(folder, 1)).examples[0], (24, 24))


def test_refinement_uses_the_settings_of_the_training_data(bullseye_model, tmp_path):
    pair = bullseye_pair(tmp_path / "set")
    found = fourierreg.predict_alpha(bullseye_model, *pair, modes=6, refine=True)
    low, high = found.registration.alpha_interval
    assert found.interval == (low, high) and found.alpha == found.registration.alpha
    assert found.registration.metric.velocity_scale == 0.3
    assert found.registration.sigma == 0.02
    assert found.settings["sigma"] == 0.02 and found.settings["modes"] == 6
    assert found.accepted == (low <= found.predicted <= high)


def test_refinement_accepts_a_right_prediction_and_replaces_a_wrong_one(bullseye_model, tmp_path):
    pair = bullseye_pair(tmp_path / "set")
    model = fourierreg.load_model(bullseye_model)
    estimate = fourierreg.predict_alpha(model, *pair, modes=6, refine=True).alpha
    right, wrong = tmp_path / "right.keras", tmp_path / "wrong.keras"
    network = build_network((24, 24), filters=2, mean=np.log(estimate), scale=1e-6)
    save_with_card(network, right, model.card)
    accepted = fourierreg.predict_alpha(right, *pair, modes=6, refine=True)
    assert accepted.accepted and accepted.status.startswith("Accepted")
    network = build_network((24, 24), filters=2, mean=np.log(3e3), scale=1e-6)
    save_with_card(network, wrong, {**model.card, "alpha_range": [1.0, 1e4]})
    replaced = fourierreg.predict_alpha(wrong, *pair, modes=6, refine=True)
    assert not replaced.accepted and replaced.alpha < 1e3


@pytest.mark.parametrize(("sigma", "start"), [(0.05, "prediction"), ("estimate", "default")])
def test_refinement_starts_where_the_labels_did(brain_model, tmp_path, monkeypatch, sigma, start):
    """From the prediction only with a given σ."""
    path, starts = tmp_path / "model.keras", []
    save_with_card(fourierreg.load_model(brain_model).network, path, data.card(sigma=[sigma]))

    def map_alpha(*images, **options):
        starts.append(options.get("alpha0", "default"))
        return fourierreg.map_alpha(*images, **options)

    monkeypatch.setattr("fourierreg.learning.refinement.map_alpha", map_alpha)
    found = fourierreg.predict_alpha(path, *data.heads(), refine=True)
    if start == "default":
        assert starts == ["default"] and "alpha0" not in found.settings
    else:
        assert starts[0] == found.predicted


def test_settings_without_refinement_are_refused(brain_model):
    with pytest.raises(TypeError, match="modes: expected with refine=True only"):
        fourierreg.predict_alpha(brain_model, *heads(), modes=6)


def test_many_pairs_return_an_exception_for_each_that_cannot_be_read(brain_model, tmp_path):
    source, target = map(str, write_heads(tmp_path))
    small = nib.Nifti1Image(heads()[0].get_fdata()[:9], heads()[0].affine)
    nib.save(small, tmp_path / "small.nii.gz")
    pairs = [
        Pair(source, target),
        Pair(source, str(tmp_path / "none.nii.gz")),
        Pair(source, str(tmp_path / "small.nii.gz")),
        Pair(target, source),
    ]
    done = []
    found = fourierreg.predict_pairs(
        brain_model, pairs, batch_size=1, callback=lambda *count: done.append(count)
    )
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [isinstance(result, Exception) for result in found] == [False, True, True, False]
    assert "no file" in str(found[1]) and "field of view" in str(found[2])
    alone = fourierreg.predict_alpha(brain_model, *heads())
    assert found[0].alpha == pytest.approx(alone.alpha, rel=1e-4)
    assert fourierreg.predict_pairs(brain_model, []) == []
