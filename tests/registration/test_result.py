"""Registrations in files: of this version, and of format 2, which had no `Model`."""

import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

import fourierreg
from fourierreg.backend import backend_of, to_numpy
from fourierreg.errors import InputError
from fourierreg.image.similarity import LocalCorrelation, SumOfSquares
from fourierreg.simulation.bullseye import bullseye
from fourierreg.simulation.pair import simulate_pair

FORMAT_2 = Path(__file__).with_name("format_2.npz")
FORMAT_2_LNCC = Path(__file__).with_name("format_2_lncc.npz")
MODEL = fourierreg.Model(modes=5, power=2.5, velocity_scale=0.7, num_steps=4, integrator="rk4")


@pytest.fixture(scope="module")
def result():
    source = bullseye((24, 22), outer=(8.0, 7.0), inner=(4.0, 3.0))
    made = simulate_pair(source, alpha=3.0, sigma=0.05, seed=0, model=MODEL)
    return fourierreg.map_alpha(
        made.source, made.target, model=MODEL, sigma=0.05, uncertainty=10, evidence=True
    )


def assert_equal(actual, expected):
    """Every field of two registrations."""
    for field in fields(expected):
        a, b = getattr(actual, field.name), getattr(expected, field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name


def test_a_saved_result_is_restored(result, tmp_path):
    path = tmp_path / "pair.npz"
    result.save(path)
    loaded = fourierreg.Registration.load(path)
    assert_equal(loaded, result)
    assert loaded.model == MODEL
    assert loaded.displacement_sd is not None and loaded.log_evidence is not None
    assert [p.name for p in tmp_path.iterdir()] == ["pair.npz"]


def test_arrays_are_loaded_on_the_active_backend(result, tmp_path, backend):
    result.save(tmp_path / "pair.npz")
    loaded = fourierreg.Registration.load(tmp_path / "pair.npz")
    assert backend_of(loaded.displacement) == backend
    np.testing.assert_array_equal(to_numpy(loaded.displacement), result.displacement)


def test_a_given_alpha_and_no_noise_are_restored(result, tmp_path):
    model = result.model.with_fields(similarity=LocalCorrelation(radius=2))
    given = replace(
        result,
        alpha_interval=None,
        sigma=None,
        decimation=None,
        displacement_sd=None,
        log_evidence=None,
        model=model,
    )
    given.save(tmp_path / "pair.npz")
    loaded = fourierreg.Registration.load(tmp_path / "pair.npz")
    assert_equal(loaded, given)
    assert loaded.similarity == "LocalCorrelation(radius=2.0)"


def test_a_result_prints_as_one_line(result):
    text = repr(result)
    assert text.startswith(f"<Registration at alpha = {result.alpha:.3g}, 24×22 voxels. ")
    assert "\n" not in text
    assert result == result and len({result, result}) == 1


def test_other_files_are_refused(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    for name in ("array.npy", "text.npz", "other.npz"):
        with pytest.raises(InputError, match=r"expected a file written by Registration\.save"):
            fourierreg.Registration.load(tmp_path / name)


def test_other_formats_are_refused(tmp_path):
    np.savez(tmp_path / "old.npz", header=np.array(json.dumps({"format": 1})))
    with pytest.raises(InputError, match="another version of fourierreg"):
        fourierreg.Registration.load(tmp_path / "old.npz")


def test_a_file_of_format_2_is_loaded(tmp_path):
    loaded = fourierreg.Registration.load(FORMAT_2)
    assert loaded.model == fourierreg.Model(
        modes=(5, 5),
        power=2.5,
        reference_length=loaded.metric.reference_length,
        velocity_scale=0.7,
        num_steps=4,
        integrator="rk4",
        dynamics="stationary",
    )
    assert loaded.alpha == loaded.metric.alpha == pytest.approx(3.7388569)
    assert loaded.alpha_interval == pytest.approx((2.4551567, 5.2750255))
    assert (loaded.sigma, loaded.decimation, loaded.similarity) == (0.05, 1.0, "ssd")
    assert loaded.log_evidence is None and loaded.displacement_sd is None
    assert loaded.domain.shape == loaded.deformed.shape == (24, 22)
    assert [record.shape for record in loaded.history] == [(30, 28)] * 2
    # The model and the velocity still make the displacement, but for the derivative, which was a
    # central difference then.
    geodesic = fourierreg.shoot(loaded.velocity, loaded.metric, **loaded.model.flow())
    displacement = loaded.domain.crop(geodesic.displacement())
    np.testing.assert_allclose(displacement, loaded.displacement, atol=0.03)
    loaded.save(tmp_path / "pair.npz")
    assert_equal(fourierreg.Registration.load(tmp_path / "pair.npz"), loaded)


def test_a_similarity_with_parameters_is_read_from_format_2():
    loaded = fourierreg.Registration.load(FORMAT_2_LNCC)
    radius = 2 * 1.5**0.5  # two voxels of 1.5 x 1 mm
    assert loaded.model.similarity.radius == pytest.approx(radius)
    assert loaded.model.integrator == "euler"
    assert (loaded.alpha_interval, loaded.sigma, loaded.decimation) == (None, None, None)
    assert loaded.weight == pytest.approx(0.05)
    assert loaded.spacing == (1.5, 1.0)


def test_loading_imports_no_optimizer_and_no_compiler():
    code = f"""
import sys, fourierreg
fourierreg.Registration.load({str(FORMAT_2)!r})
unwanted = ["scipy.optimize", "numba", "fourierreg.registration.multiresolution"]
print([name for name in unwanted if name in sys.modules])
"""
    command = [sys.executable, "-c", code]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "[]"


class Own(SumOfSquares):
    """A similarity of the user's own, not a dataclass."""

    def __repr__(self):
        return "Own()"


def test_a_result_of_an_own_similarity_is_saved_and_loaded(tmp_path):
    source = bullseye((24, 22), outer=(8.0, 7.0), inner=(4.0, 3.0))
    result = fourierreg.register(source, source[::-1], modes=5, similarity=Own(), weight=50.0)
    result.save(tmp_path / "own.npz")
    again = fourierreg.Registration.load(tmp_path / "own.npz")
    assert again.similarity == result.similarity == "Own()"
    np.testing.assert_array_equal(again.displacement, result.displacement)
    again.save(tmp_path / "own.npz")
    with pytest.raises(ValueError, match=r"similarity: Own\(\) is not in this file"):
        fourierreg.register(source, source[::-1], model=again.model, weight=50.0)
