"""Predictions: the same everywhere, refused where the network knows nothing, refined honestly."""

import csv
import json
import os
import subprocess
import sys

import keras
import nibabel as nib
import numpy as np
import pytest

import fourierreg
from fourierreg.checks import InputError
from fourierreg.cli import main
from fourierreg.data.manifest import Pair, write_pairs
from fourierreg.data.template import FIELD_OF_VIEW, template_brain
from fourierreg.learning import prediction as module
from fourierreg.learning.card import read_card, save_with_card
from fourierreg.learning.examples import read_folder
from fourierreg.learning.network import ARCHITECTURES, build_network
from fourierreg.learning.pretrained import shipped_models
from fourierreg.simulation.bullseye import bullseye, random_ellipses
from fourierreg.simulation.pair import simulate_carried_pair, simulate_pair
from fourierreg.spectral.metric import Metric
from tests.learning import data

GRID, SPACING = (18, 20, 16), (3.0, 3.0, 3.0)


def card(grid, spacing, **changes):
    """A card as a training writes it."""
    ndim = len(grid)
    scores = {"all": {"pairs": 9, "absolute_error_95": 0.4}}
    return {
        "grid": list(grid),
        "spacing_mm": list(spacing),
        "modes": [6] * ndim,
        "velocity_scale_mm": 1.0,
        "reference_length_mm": 3.0,
        "sigma": [0.05],
        "labels": ["truth"],
        "alpha_range": [1.0, 10.0],
        "network": {"output": "log_alpha"},
        "scores": {"validation": scores, "test": scores},
        **changes,
    }


@pytest.fixture(scope="module")
def brain(tmp_path_factory):
    """A network for small 3D images that says about α = 3."""
    path = tmp_path_factory.mktemp("brain") / "small.keras"
    network = build_network(GRID, filters=2, mean=np.log(3.0), scale=0.05)
    save_with_card(network, path, card(GRID, SPACING))
    return path


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """A network for bull-eyes that says about α = 3."""
    path = tmp_path_factory.mktemp("flat") / "flat.keras"
    network = build_network((24, 24), filters=2, mean=np.log(3.0), scale=0.05)
    own = {"velocity_scale_mm": 0.3, "reference_length_mm": 1.5, "sigma": [0.02]}
    about = card((24, 24), (1.0, 1.0), **own)
    save_with_card(network, path, about)
    return path


def images(points=(18, 20, 16), spacing=(3.0, 3.0, 3.0)):
    """Two nibabel heads on one field of view."""
    from tests.brains import head

    affine = np.diag([*spacing, 1.0])
    return [nib.Nifti1Image(head(points, spacing, shift=s), affine) for s in (2.0, 0.0)]


def test_a_pair(brain):
    found = fourierreg.predict_alpha(brain, *images())
    assert found.alpha == found.predicted == pytest.approx(3.0, rel=0.5)
    low, high = found.interval
    assert np.log(high / found.alpha) == pytest.approx(0.4)
    assert np.log(found.alpha / low) == pytest.approx(0.4)
    assert not found.at_edge and found.status.startswith("Predicted: alpha = ")
    assert found.accepted is None and found.registration is None


def test_arrays_and_files_agree(brain):
    pair = images()
    arrays = [image.get_fdata(dtype=np.float32) / 500 for image in pair]
    model = fourierreg.load_model(brain)
    by_file = fourierreg.predict_alpha(model, *pair)
    by_array = fourierreg.predict_alpha(model, *arrays, spacing=SPACING)
    assert by_array.alpha == pytest.approx(by_file.alpha, rel=1e-5)


def test_finer_images_are_resampled(brain):
    fine = images((36, 40, 32), (1.5, 1.5, 1.5))
    found = fourierreg.predict_alpha(brain, *fine)
    assert found.alpha == pytest.approx(fourierreg.predict_alpha(brain, *images()).alpha, rel=0.1)
    arrays = [i.get_fdata(dtype=np.float32) / 800 for i in fine]
    by_array = fourierreg.predict_alpha(brain, *arrays, spacing=1.5)
    assert by_array.alpha == pytest.approx(found.alpha, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"spacing": 2.0}, "target: .* field of view of 54 × 60 × 48 mm; got 36 × 40 × 32 mm"),
        ({"spacing": 3.0, "sigma": 0.2}, "sigma: the network was trained for 0.05; got 0.2"),
        ({"spacing": 3.0, "sigma": "estimate"}, "sigma: the network was trained for 0.05"),
        ({"spacing": 3.0, "flat": True}, "target: the network was trained on 3D images"),
    ],
)
def test_what_it_was_not_trained_for(brain, change, line):
    arrays = [image.get_fdata(dtype=np.float32) / 800 for image in images()]
    if change.pop("flat", False):
        arrays = [a[:, :, 8] for a in arrays]
    with pytest.raises(ValueError, match=line):
        fourierreg.predict_alpha(brain, *arrays, **change)


def test_a_close_sigma_is_the_same(brain):
    fourierreg.predict_alpha(brain, *images(), sigma=0.0502)


def test_another_2d_sampling_is_refused(flat):
    arrays = [np.random.default_rng(i).random((48, 48), dtype=np.float32) for i in range(2)]
    with pytest.raises(ValueError, match="target: expected the network's shape"):
        fourierreg.predict_alpha(flat, *arrays, spacing=0.5)


def test_the_edge_is_said(brain, tmp_path):
    narrow = tmp_path / "narrow.keras"
    network = fourierreg.load_model(brain).network
    save_with_card(network, narrow, card(GRID, SPACING, alpha_range=[8.0, 10.0]))
    found = fourierreg.predict_alpha(narrow, *images())
    assert found.at_edge and "at the edge of what the network has seen" in found.status


def test_refinement(flat, tmp_path):
    """It accepts a prediction inside the estimate's interval, and replaces another."""
    folder = data.bullseyes(tmp_path / "set", 1)
    example = read_folder(folder).examples[0]
    from fourierreg.learning.examples import read_example

    source, target = read_example(example, (24, 24))
    model = fourierreg.load_model(flat)
    setting = {"modes": 6, "refine": True}
    found = fourierreg.predict_alpha(model, source, target, **setting)
    low, high = found.registration.alpha_interval
    assert found.interval == (low, high) and found.alpha == found.registration.alpha
    assert found.registration.metric.velocity_scale == 0.3
    assert found.registration.sigma == 0.02
    assert found.accepted == (low <= found.predicted <= high)
    # a network that says what the estimate says
    right = tmp_path / "right.keras"
    network = build_network((24, 24), filters=2, mean=np.log(found.alpha), scale=1e-6)
    save_with_card(network, right, model.card)
    near = fourierreg.predict_alpha(right, source, target, **setting)
    assert near.accepted and near.status.startswith("Accepted")
    assert near.settings["sigma"] == 0.02 and near.settings["modes"] == 6
    # a prediction that cannot be right
    wrong = tmp_path / "wrong.keras"
    network = build_network((24, 24), filters=2, mean=np.log(3e3), scale=1e-6)
    save_with_card(network, wrong, {**model.card, "alpha_range": [1.0, 1e4]})
    far = fourierreg.predict_alpha(wrong, source, target, **setting)
    assert not far.accepted and far.alpha < 1e3


def test_settings_need_a_refinement(brain):
    with pytest.raises(TypeError, match="modes: expected with refine=True only"):
        fourierreg.predict_alpha(brain, *images(), modes=6)


def write_images(folder):
    folder.mkdir(exist_ok=True)
    names = [folder / f"{name}.nii.gz" for name in ("source", "target")]
    for name, image in zip(names, images(), strict=True):
        nib.save(image, name)
    return names


def test_command(brain, tmp_path, capsys):
    source, target = map(str, write_images(tmp_path / "in"))
    assert main(["predict", source, target, "--model", str(brain)]) == 0
    assert "α " in capsys.readouterr().out
    assert main(["predict", source, target, "--model", str(brain), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["alpha"] > 0
    out = tmp_path / "run"
    options = ["--model", str(brain), "--refine", "-o", str(out), "--quiet"]
    assert main(["predict", source, target, *options]) in (0, 1)
    report = json.loads((out / "result.json").read_text())
    assert report["model"] == "small.keras" and isinstance(report["accepted"], bool)
    assert (out / "1Warp.nii.gz").is_file()


def test_command_for_many(brain, tmp_path, capsys):
    """A pair that cannot be read has a line in the table; the others are done."""
    source, target = write_images(tmp_path / "in")
    pairs = [Pair(str(source), str(target)), Pair(str(target), str(source))]
    write_pairs(tmp_path / "pairs.csv", [*pairs, Pair(str(source), str(tmp_path / "no.nii.gz"))])
    out = tmp_path / "table.csv"
    options = ["--pairs", str(tmp_path / "pairs.csv"), "--model", str(brain), "-o", str(out)]
    assert main(["predict", *options, "--quiet"]) == 1
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["alpha"]) for row in rows] == [True, True, False]
    assert "no file" in rows[2]["status"]
    one = fourierreg.predict_alpha(brain, *images())
    assert float(rows[0]["alpha"]) == pytest.approx(one.alpha, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["a.nii", "b.nii", "--model", "none"], "model: expected a .keras file of"),
        (["a.nii"], "SOURCE, TARGET, --pairs: expected two images"),
        (["a.nii", "b.nii", "--refine"], "--output: expected a folder"),
        (["--pairs", "p.csv", "--refine", "-o", "x"], "--refine: expected one pair"),
    ],
)
def test_bad_commands(options, line, capsys):
    assert main(["predict", *options]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1


def test_files_that_are_no_models(tmp_path):
    plain = tmp_path / "plain.keras"
    build_network((16, 16), filters=2).save(plain)
    with pytest.raises(InputError, match=r"has no model_card\.json"):
        fourierreg.load_model(plain)
    plain.write_text("no zip")
    with pytest.raises(InputError, match=r"is no \.keras file"):
        fourierreg.load_model(plain)


def test_the_card_does_not_disturb_keras(brain):
    keras.models.load_model(brain)
    assert read_card(brain)["grid"] == list(GRID)


OTHER_BACKEND = """
import sys, numpy as np, keras
assert keras.backend.backend() == "jax"
with np.load("inputs.npz") as inputs:
    inputs = {name: inputs[name] for name in inputs}
for name in sys.argv[1:]:
    model = keras.models.load_model(name + ".keras")
    np.save(name + ".npy", np.asarray(model(inputs, training=False)))
"""


@pytest.mark.slow
def test_another_keras_backend_predicts_the_same(tmp_path):
    """Saved under TensorFlow, read under JAX, 1e-4."""
    rng = np.random.default_rng(0)
    inputs = {n: rng.random((2, 16, 18, 20, 1), dtype=np.float32) for n in ("source", "target")}
    np.savez(tmp_path / "inputs.npz", **inputs)
    here = {}
    for name in ARCHITECTURES:
        model = build_network((16, 18, 20), name, filters=2, activation="prelu", mean=1.0)
        for layer in model.layers:  # statistics that are not 0 and 1
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
                layer.moving_variance.assign(rng.uniform(0.5, 2, layer.moving_variance.shape))
        model.save(tmp_path / f"{name}.keras")
        here[name] = keras.ops.convert_to_numpy(model(inputs, training=False))
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", OTHER_BACKEND, *ARCHITECTURES]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    for name, values in here.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_shipped_models(name):
    """Each loads by name and by Keras alone, is small, and says what it saw."""
    model = fourierreg.load_model(name)
    keras.models.load_model(model.path)
    assert model.path.stat().st_size <= 10e6
    assert model.card["name"] == name and model.card["licence"]
    assert model.card["scores"]["test"]["all"]["r_squared"] > 0.5


def test_the_shipped_brain_network_knows_a_rough_map_from_a_smooth_one():
    """On a brain it has not seen, the package's own template."""
    model = fourierreg.load_model("brain-3d")
    image, _ = template_brain(64)
    spacing, found = (FIELD_OF_VIEW / 64,) * 3, []
    for alpha in (3.5, 10.0):
        metric = Metric.create((64,) * 3, spacing=spacing, alpha=alpha)
        for seed in range(2):
            pair = simulate_carried_pair(image, metric, carrier_alpha=12.0, sigma=0.03, seed=seed)
            made = fourierreg.predict_alpha(model, pair.source, pair.target, spacing=spacing)
            found.append(np.log(made.alpha / alpha))
    low, high = np.reshape(found, (2, 2))
    assert np.abs(found).mean() < 0.4
    assert min(high) + np.log(10) > max(low) + np.log(3.5)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 5.0])
def test_the_shipped_bullseye_network_recovers_a_known_alpha(alpha):
    """On ellipses drawn here, over the scales it was trained for."""
    model = fourierreg.load_model("bullseye-2d")
    off = []
    for seed in range(10):
        rng = np.random.default_rng([seed, round(10 * alpha)])
        source = bullseye((100, 100), **random_ellipses((100, 100), rng))
        pair = simulate_pair(source, alpha=alpha, velocity_scale=0.1, sigma=0.03, seed=rng)
        made = fourierreg.predict_alpha(model, pair.source, pair.target)
        off.append(np.log(made.alpha / alpha))
    assert np.median(np.abs(off)) < 0.25


def test_predictions_of_nothing(brain):
    assert module.predictions(fourierreg.load_model(brain), []) == []
