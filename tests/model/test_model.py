"""The assumptions of a registration: their checks, and their plain form in files."""

import json
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from fourierreg.errors import InputError, InputTypeError
from fourierreg.image.similarity import (
    Correlation,
    LocalCorrelation,
    MutualInformation,
    SumOfSquares,
)
from fourierreg.model.model import Model, model_of
from fourierreg.spectral.metric import Metric
from tests import laws

MODELS = [
    Model(),
    Model(modes=(7, 9), power=2.5, reference_length=12.0, velocity_scale=0.5),
    Model(num_steps=3, integrator="rk4", dynamics="stationary", space="full"),
    Model(similarity="ncc"),
    Model(similarity="lncc"),
    Model(similarity=LocalCorrelation(radius=2)),
    Model(similarity=MutualInformation(bins=16)),
]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_the_plain_form_restores_the_model(model):
    plain = json.loads(json.dumps(model.to_dict()))
    assert Model.from_dict(plain) == model
    assert model_of(plain) == model
    laws.picklable(model)


def test_the_plain_form_has_only_what_is_not_the_default():
    assert Model().to_dict() == {"integrator": "rk4"}
    model = Model(modes=12, similarity=LocalCorrelation(radius=2))
    assert model.to_dict() == {
        "modes": 12,
        "integrator": "rk4",
        "similarity": ["lncc", {"radius": 2.0}],
    }


def test_the_plain_form_may_name_the_similarity():
    assert Model.from_dict({"similarity": "lncc"}) == Model(similarity=LocalCorrelation())


def test_numpy_numbers_become_plain_ones():
    model = Model(
        modes=np.array([7, 9]),
        num_steps=np.int64(4),
        power=np.float32(2.5),
        velocity_scale=np.float32(0.5),
    )
    assert model == Model(modes=[7, 9], num_steps=4, power=2.5, velocity_scale=0.5)
    assert Model.from_dict(json.loads(json.dumps(model.to_dict()))) == model


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ssd", SumOfSquares),
        ("ncc", Correlation),
        ("lncc", LocalCorrelation),
        ("mi", MutualInformation),
    ],
)
def test_similarities_by_name(name, kind):
    assert Model(similarity=name).similarity == kind()


@pytest.mark.parametrize(
    "wrong",
    [
        {"modes": 2},
        {"modes": 7.5},
        {"modes": "many"},
        {"modes": (7, 2)},
        {"power": 0},
        {"power": "three"},
        {"reference_length": -1.0},
        {"velocity_scale": float("nan")},
        {"num_steps": 0},
        {"num_steps": 2.5},
        {"integrator": "midpoint"},
        {"dynamics": "demons"},
        {"similarity": "mattes"},
        {"similarity": 3},
        {"space": "fourier"},
    ],
    ids=str,
)
def test_errors_name_the_field(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=f"^{name}: expected") as caught:
        Model(**wrong)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=f"^{name}: expected"):
        Model().with_fields(**wrong)


def test_fields_are_replaced_unless_none_is_given():
    model = Model(modes=12, power=2.0)
    other = model.with_fields(modes=None, power=4.0, similarity="mi")
    assert (other.modes, other.power, other.similarity) == (12, 4.0, MutualInformation())
    assert (model.power, model.similarity) == (2.0, SumOfSquares())
    assert model.with_fields(**{f.name: None for f in fields(Model)}) == model


def test_a_model_is_immutable():
    with pytest.raises(FrozenInstanceError):
        Model().modes = 3


def test_keywords_override_the_model_of_a_call():
    assert model_of(None) == Model()
    assert model_of(None, modes=8, num_steps=None) == Model(modes=8)
    given = Model(modes=12, num_steps=3)
    assert model_of(given, modes=8, num_steps=None) == Model(modes=8, num_steps=3)
    assert model_of({"modes": 12}, num_steps=3) == given


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (16, InputTypeError, r"^model: expected a fourierreg\.Model; got 16"),
        ("rk4", InputTypeError, r"^model: expected a fourierreg\.Model; got 'rk4'"),
        ({"mode": 16, "steps": 3}, InputError, r"^model: expected modes, .*; got mode, steps"),
        ({"integrator": "midpoint"}, InputError, r"^integrator: expected"),
        ({"similarity": ["mattes", {}]}, InputError, r"^similarity: expected"),
        ({"similarity": ["lncc", {"width": 2}]}, InputError, r"lncc: expected radius; got width"),
        ({"similarity": ["lncc", {"radius": 0}]}, InputError, r"^radius: expected"),
    ],
)
def test_errors_of_what_is_not_a_model(given, error, message):
    with pytest.raises(error, match=message):
        model_of(given)


def test_the_metric_has_the_fields_of_the_model():
    shape, spacing = (20, 18), (1.5, 0.8)
    model = Model(modes=(7, 6), power=2.0, velocity_scale=0.4)
    expected = Metric.create(
        shape, spacing=spacing, modes=(7, 6), alpha=2.5, power=2.0, velocity_scale=0.4
    )
    assert model.metric(shape, spacing, 2.5) == expected
    assert Model(space="full").metric(shape, spacing, 2.5).band.modes == shape


def test_steps_are_given_or_chosen():
    assert Model().chooses_steps
    assert not Model(num_steps=3).chooses_steps
    assert Model().flow()["num_steps"] == 4
    paper = Model(integrator="euler")
    assert not paper.chooses_steps
    assert paper.flow()["num_steps"] == 10
    flow = {"num_steps": 4, "integrator": "rk4", "dynamics": "stationary"}
    assert Model(**flow).flow() == flow


def test_the_integrator_of_the_full_grid_is_euler():
    assert (Model().integrator, Model(space="full").integrator) == ("rk4", "euler")
