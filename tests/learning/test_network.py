"""The networks: the paper's sizes, every weight trained, the same output after a reload."""

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
def test_the_streams_end_at_an_eighth(shape):
    """E9: 128³ ends at 16³, because the fourth block does not pool."""
    model = build_network(shape, filters=2)
    assert output_of(model, "fusion") == (*(n // 8 for n in shape), 3 * 16)
    assert model.output.shape == (None, 1)


def test_two_stream_is_the_papers():
    model = build_network((32, 32, 32), filters=4, shared_streams=False, activation="prelu")
    for stream in ("source", "target"):
        for block in range(1, 5):
            kernel = model.get_layer(f"{stream}_{block}_convolution").kernel
            assert kernel.shape[:3] == (5, 5, 5)
            names = {layer.name for layer in model.layers}
            assert f"{stream}_{block}_normalisation" in names
            assert (f"{stream}_{block}_pooling" in names) == (block < 4)
            assert isinstance(model.get_layer(f"{stream}_{block}_activation"), keras.layers.PReLU)
    convolutions = [la for la in model.layers if isinstance(la, keras.layers.Conv3D)]
    assert len(convolutions) == 4 + 4 + 3
    for layer in convolutions:
        assert isinstance(layer.kernel_initializer, keras.initializers.HeNormal)
        assert layer.kernel_regularizer.l2 == pytest.approx(1e-4)


def test_shared_streams_share():
    shared, apart = (build_network((16, 16), shared_streams=s) for s in (True, False))
    assert shared.count_params() < apart.count_params()
    same = images((16, 16))
    same["target"] = same["source"]
    middle = keras.Model(shared.inputs, shared.get_layer("difference").output)
    assert not np.any(keras.ops.convert_to_numpy(middle(same)))


@pytest.mark.parametrize("output", ["log_alpha", "alpha"])
@pytest.mark.parametrize("activation", ["relu", "prelu"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(18, 16), (16, 17, 18)])
def test_every_weight_moves_in_one_step(shape, architecture, activation, output):
    model = build_network(
        shape, architecture, filters=2, activation=activation, output=output, mean=1.0, scale=0.5
    )
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="mse")
    before = [np.array(keras.ops.convert_to_numpy(w)) for w in model.trainable_weights]
    model.train_on_batch(images(shape), np.array([[1.0], [2.0], [0.5]], dtype=np.float32))
    for weight, old in zip(model.trainable_weights, before, strict=True):
        assert np.any(keras.ops.convert_to_numpy(weight) != old), weight.path


def test_output_is_centred_and_positive():
    data = images((16, 16))
    logs = build_network((16, 16), mean=1.5, scale=1e-6)(data)
    alphas = build_network((16, 16), mean=1.5, scale=1e-6, output="alpha")(data)
    assert keras.ops.convert_to_numpy(logs) == pytest.approx(1.5, abs=1e-4)
    assert keras.ops.convert_to_numpy(alphas) == pytest.approx(np.exp(1.5), rel=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_keras_alone_reloads(architecture, tmp_path):
    """No class of this package is needed."""
    model = build_network((16, 16, 16), architecture, filters=2)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    data = images((16, 16, 16))
    first, second = (keras.ops.convert_to_numpy(m(data)) for m in (model, again))
    np.testing.assert_allclose(first, second, rtol=1e-6)
    assert {type(layer).__module__.split(".")[0] for layer in again.layers} == {"keras"}


def test_without_keras():
    """One line that says what to install."""
    code = (
        "import sys; sys.modules['keras'] = None; from fourierreg.cli import main; "
        "sys.exit(main(['predict', 'a.nii', 'b.nii']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "pip install 'fourierreg[learn]'" in done.stderr


def test_seeds():
    first, again, other = (build_network((16, 16), seed=s).get_weights() for s in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
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
def test_bad_arguments(change, word):
    with pytest.raises(ValueError, match=f"^{word}: expected"):
        fourierreg.build_network(**{"input_shape": (16, 16), **change})
