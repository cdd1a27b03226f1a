"""Networks: sizes of the paper, trainable weights, same output after saving and loading."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import fourierreg
from fourierreg.learning.network import ARCHITECTURES, build_network


def images(shape, count=3, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.random((count, *shape, 1), dtype=np.float32) for name in ("source", "target")}


def output_of(model, layer):
    return tuple(model.get_layer(layer).output.shape[1:])


@pytest.mark.parametrize("shape", [(128, 128, 128), (64, 64, 64), (100, 100), (24, 30, 17)])
def test_streams_reduce_each_axis_to_an_eighth(shape):
    """Erratum E9: 128³ ends at 16³, because the fourth block does not pool."""
    model = build_network(shape, filters=2)
    assert output_of(model, "fusion") == (*(n // 8 for n in shape), 3 * 16)
    assert model.output.shape == (None, 1)


def test_two_stream_has_the_layers_of_the_paper():
    model = build_network((32, 32, 32), filters=4, shared_streams=False, activation="prelu")
    for stream in ("source", "target"):
        for block in range(1, 5):
            kernel = model.get_layer(f"{stream}_{block}_convolution").kernel
            assert kernel.shape[:3] == (5, 5, 5)
            names = {layer.name for layer in model.layers}
            assert f"{stream}_{block}_normalization" in names
            assert (f"{stream}_{block}_pooling" in names) == (block < 4)
            assert isinstance(model.get_layer(f"{stream}_{block}_activation"), keras.layers.PReLU)
    convolutions = [la for la in model.layers if isinstance(la, keras.layers.Conv3D)]
    assert len(convolutions) == 4 + 4 + 3
    for layer in convolutions:
        assert isinstance(layer.kernel_initializer, keras.initializers.HeNormal)
        assert layer.kernel_regularizer.l2 == pytest.approx(1e-4)


def test_shared_streams_have_the_same_weights():
    shared, separate = (build_network((16, 16), shared_streams=s) for s in (True, False))
    assert shared.count_params() < separate.count_params()
    pair = images((16, 16))
    pair["target"] = pair["source"]
    difference = keras.Model(shared.inputs, shared.get_layer("difference").output)
    assert not np.any(keras.ops.convert_to_numpy(difference(pair)))


@pytest.mark.parametrize("output", ["log_alpha", "alpha"])
@pytest.mark.parametrize("activation", ["relu", "prelu"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(18, 16), (16, 17, 18)])
def test_one_optimizer_step_changes_every_trainable_weight(shape, architecture, activation, output):
    model = build_network(
        shape, architecture, filters=2, activation=activation, output=output, mean=1.0, scale=0.5
    )
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="mse")
    before = [np.array(keras.ops.convert_to_numpy(w)) for w in model.trainable_weights]
    model.train_on_batch(images(shape), np.array([[1.0], [2.0], [0.5]], dtype=np.float32))
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert np.any(keras.ops.convert_to_numpy(weight) != old), weight.path


def test_output_is_scaled_and_exponentiated():
    data = images((16, 16))
    logs = build_network((16, 16), mean=1.5, scale=1e-6)(data)
    alphas = build_network((16, 16), mean=1.5, scale=1e-6, output="alpha")(data)
    assert keras.ops.convert_to_numpy(logs) == pytest.approx(1.5, abs=1e-4)
    assert keras.ops.convert_to_numpy(alphas) == pytest.approx(np.exp(1.5), rel=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_keras_loads_a_saved_network_without_classes_of_this_package(architecture, tmp_path):
    model = build_network((16, 16, 16), architecture, filters=2)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    data = images((16, 16, 16))
    first, second = (keras.ops.convert_to_numpy(m(data)) for m in (model, loaded))
    np.testing.assert_allclose(first, second, rtol=1e-6)
    assert {type(layer).__module__.split(".")[0] for layer in loaded.layers} == {"keras"}


def test_without_keras_the_error_is_one_line_that_says_what_to_install():
    code = (
        "import sys; sys.modules['keras'] = None; from fourierreg.cli import main; "
        "sys.exit(main(['predict', 'a.nii', 'b.nii']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "pip install 'fourierreg[learn]'" in done.stderr


def test_the_seed_determines_the_initial_weights():
    first, same, other = (build_network((16, 16), seed=s).get_weights() for s in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"input_shape": (12, 40)}, "input_shape"),
        ({"input_shape": (40,)}, "shape"),
        ({"architecture": "unet"}, "architecture"),
        ({"activation": "tanh"}, "activation"),
        ({"filters": 0}, "filters"),
        ({"output": "beta"}, "output"),
        ({"scale": 0.0}, "scale"),
        ({"weight_decay": -1.0}, "weight_decay"),
    ],
)
def test_invalid_arguments_are_refused(change, word):
    with pytest.raises(ValueError, match=f"^{word}: expected"):
        fourierreg.build_network(**{"input_shape": (16, 16), **change})
