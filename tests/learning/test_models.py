"""Saved networks: those of the package, of older versions, and under another Keras backend."""

import csv
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import fourierreg
from fourierreg.data.template import FIELD_OF_VIEW, template_brain
from fourierreg.errors import InputError
from fourierreg.learning.card import MEMBER, read_card
from fourierreg.learning.network import ARCHITECTURES, build_network
from fourierreg.learning.pretrained import shipped_models
from fourierreg.learning.scores import conformal_half_width
from fourierreg.simulation.bullseye import bullseye, random_ellipses
from fourierreg.simulation.pair import simulate_pair
from tests.learning.data import GRID

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "tables"


def rewrite(path, out, member, change):
    """Copy a ``.keras`` file with the text of one member changed."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content.decode()) if name == member else content)
    return out


def test_files_without_a_model_card_are_refused(tmp_path):
    path = tmp_path / "plain.keras"
    build_network((16, 16), filters=2).save(path)
    with pytest.raises(InputError, match=r"has no model_card\.json"):
        fourierreg.load_model(path)
    path.write_text("not a zip file")
    with pytest.raises(InputError, match=r"is not a \.keras file"):
        fourierreg.load_model(path)


def test_keras_loads_a_file_with_a_card(brain_model):
    keras.models.load_model(brain_model)
    assert read_card(brain_model)["grid"] == list(GRID)


@pytest.mark.parametrize("missing", ["format", "modes", "reference_length_mm", "scores"])
def test_a_card_of_an_older_version_is_refused_in_one_line(brain_model, tmp_path, missing):
    def without(text):
        return json.dumps({k: v for k, v in json.loads(text).items() if k != missing})

    old = rewrite(brain_model, tmp_path / "old.keras", MEMBER, without)
    with pytest.raises(InputError, match=r"^model: .*another version; train it again$"):
        fourierreg.load_model(old)


def test_a_network_with_a_layer_of_an_older_package_layout_is_refused_in_one_line(
    brain_model, tmp_path
):
    def renamed(text):
        assert '"class_name": "ReLU"' in text
        old_layer = '"class_name": "OldLayer"'
        config = json.loads(text.replace('"class_name": "ReLU"', old_layer))
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "OldLayer":
                layer |= {"module": "fourierreg.network", "registered_name": "fourierreg>OldLayer"}
        return json.dumps(config)

    old = rewrite(brain_model, tmp_path / "old.keras", "config.json", renamed)
    with pytest.raises(InputError, match=r"^model: Keras .* cannot load .*; train it again$"):
        fourierreg.load_model(old)


def test_a_network_with_layer_names_of_an_older_version_predicts_the_same(brain_model, tmp_path):
    """Layers were named ``…_normalisation``."""
    old = rewrite(
        brain_model,
        tmp_path / "old.keras",
        "config.json",
        lambda text: text.replace("normalization", "normalisation"),
    )
    rng = np.random.default_rng(0)
    inputs = {name: rng.random((1, *GRID, 1), dtype=np.float32) for name in ("source", "target")}
    first, second = (
        keras.ops.convert_to_numpy(fourierreg.load_model(path).network(inputs))
        for path in (brain_model, old)
    )
    np.testing.assert_array_equal(first, second)


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
def test_networks_saved_under_tensorflow_predict_the_same_under_jax(tmp_path):
    rng = np.random.default_rng(0)
    inputs = {n: rng.random((2, 16, 18, 20, 1), dtype=np.float32) for n in ("source", "target")}
    np.savez(tmp_path / "inputs.npz", **inputs)
    here = {}
    for name in ARCHITECTURES:
        model = build_network((16, 18, 20), name, filters=2, activation="prelu", mean=1.0)
        for layer in model.layers:  # statistics other than 0 and 1
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
def test_networks_of_the_package_load_by_name_and_are_below_10_mb(name):
    model = fourierreg.load_model(name)
    keras.models.load_model(model.path)
    assert model.path.stat().st_size <= 10e6
    assert model.card["name"] == name and model.card["licence"]
    scores = model.card["scores"].get("test", {"all": {}})["all"]
    scores = model.card.get("cross_validation", {}).get("people unseen", scores)
    assert scores["r_squared"] > 0.5 and scores["spearman"] > 0.7


def held_out_errors():
    """Errors of ln α of real pairs by networks that have not seen the people, fold by fold."""
    with (BENCHMARKS / "predictor_predictions.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["architecture"] == "two-stream"]
    folds = {}
    for row in rows:
        if row["variant"] == "plain" and row["fold"].isdigit():
            error = np.log(float(row["predicted"]) / float(row["alpha"]))
            folds.setdefault(row["fold"], []).append(error)
    return list(folds.values())


def test_the_interval_of_brain_3d_covers_unseen_people_at_its_rate():
    """That of each fold from the errors of the other four, whose people are others."""
    folds = held_out_errors()
    assert len(folds) == 5
    inside = []
    for index, own in enumerate(folds):
        others = np.concatenate([errors for i, errors in enumerate(folds) if i != index])
        inside += list(np.abs(own) <= conformal_half_width(others)["half_width"])
    card = fourierreg.load_model("brain-3d").card["interval"]
    assert abs(np.mean(inside) - card["level"]) < 0.05
    assert card["coverage_of_left_out_folds"] == pytest.approx(np.mean(inside), abs=1e-3)
    shipped = conformal_half_width(np.concatenate(folds))
    assert card["half_width"] == pytest.approx(shipped["half_width"], rel=1e-3)


@pytest.mark.parametrize("what", ["difference of the images", "size of the source"])
def test_brain_3d_says_of_one_image_twice_and_of_a_half_brain_that_they_are_unusual(what):
    model = fourierreg.load_model("brain-3d")
    target, _ = template_brain(64)
    source = target.copy()
    if what.startswith("size"):
        source[:32] = 0
    found = fourierreg.predict_alpha(model, source, target, spacing=(FIELD_OF_VIEW / 64,) * 3)
    assert found.novelty > 2 and f"unlike those of the training ({what}" in found.status


@pytest.mark.parametrize("alpha", [0.3, 1.0, 5.0])
def test_bullseye_2d_recovers_alpha_of_new_ellipses(alpha):
    """At scales of α in its training data."""
    model = fourierreg.load_model("bullseye-2d")
    errors = []
    for seed in range(10):
        rng = np.random.default_rng([seed, round(10 * alpha)])
        source = bullseye((100, 100), **random_ellipses((100, 100), rng))
        pair = simulate_pair(source, alpha=alpha, velocity_scale=0.1, sigma=0.03, seed=rng)
        found = fourierreg.predict_alpha(model, pair.source, pair.target)
        errors.append(np.log(found.alpha / alpha))
    assert np.median(np.abs(errors)) < 0.25
