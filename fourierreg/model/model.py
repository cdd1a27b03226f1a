"""What a registration assumes of the deformation and of the images, in one value object."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from fourierreg import checks
from fourierreg.errors import InputError, InputTypeError
from fourierreg.geodesic.shooting import DYNAMICS, INTEGRATORS
from fourierreg.image.similarity import (
    SIMILARITIES,
    Similarity,
    UnavailableSimilarity,
    describe,
    name_of,
    similarity_of,
)
from fourierreg.spectral.metric import Metric

SPACES = ("bandlimited", "full")
MODEL_KEYWORDS = ("modes", "num_steps", "velocity_scale")  # fields that functions take as keywords
NUM_STEPS = {"euler": 10, "rk4": 4}  # where they are neither given nor chosen by the error


@dataclass(frozen=True)
class Model:
    """Assumptions shared by `register`, `map_alpha`, `label_pairs` and simulations.

    The functions take the most common fields as keywords too, which override those of a `model`.

    Parameters
    ----------
    modes : int or sequence of int
        Band per axis; 16 keeps 15 frequencies.
    power : float
        Exponent c of L = (αA + 1)^c.
    reference_length, velocity_scale : float, optional
        ℓ and s in mm; by default a sixteenth of the field of view, and ℓ/8 (`Metric`).
    num_steps : int, optional
        Time steps of the geodesic on the finest grid; coarser grids take 0.6 of them. By default a
        registration takes as many steps of "rk4" as its flow needs (`FLOW_TOLERANCE` of
        `fourierreg.registration.multiresolution`), and 10 of "euler", the paper's.
    integrator : {"rk4", "euler"}, optional
        "rk4" by default; "euler" with ``space="full"``, which has no other.
    dynamics : {"epdiff", "stationary"}
        A geodesic, or the flow of a stationary velocity.
    similarity : {"ssd", "ncc", "lncc", "mi"} or Similarity
        Sum of squares, normalized cross-correlation (global, or in windows), mutual information, or
        an instance of a class of `fourierreg.image.similarity`.
    space : {"bandlimited", "full"}
        Velocities of the band, or of every frequency of the grid, shot voxel by voxel: a baseline,
        many times slower (`benchmarks/table1.py`), for which `modes` has no meaning.

    Raises
    ------
    InputError
        One line that names the field, what was expected and what came.
    """

    modes: int | Sequence[int] = 16
    power: float = 3
    reference_length: float | None = None
    velocity_scale: float | None = None
    num_steps: int | None = None
    integrator: str | None = None
    dynamics: str = "epdiff"
    similarity: str | Similarity = "ssd"
    space: str = "bandlimited"

    def __post_init__(self) -> None:
        checks.choice("space", self.space, SPACES)
        if self.integrator is None:
            default = "rk4" if self.space == "bandlimited" else "euler"
            object.__setattr__(self, "integrator", default)
        checks.choice("integrator", self.integrator, INTEGRATORS)
        checks.choice("dynamics", self.dynamics, tuple(DYNAMICS))
        checked = {
            "modes": _check_modes(self.modes),
            "power": checks.positive("power", self.power),
            "similarity": similarity_of(self.similarity),
        }
        for name in ("reference_length", "velocity_scale"):
            if getattr(self, name) is not None:
                checked[name] = checks.positive(name, getattr(self, name))
        if self.num_steps is not None:
            checked["num_steps"] = checks.count("num_steps", self.num_steps)
        for name, value in checked.items():  # Python's own numbers, which JSON can hold
            object.__setattr__(self, name, value)

    def with_fields(self, **given: Any) -> "Model":
        """The same with other fields; None leaves a field as it is."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def metric(
        self, shape: Sequence[int], spacing: float | Sequence[float] | None, alpha: float
    ) -> Metric:
        """The metric of velocities on a grid of `shape` voxels, at an α."""
        return Metric.create(
            shape,
            spacing=spacing,
            modes=tuple(shape) if self.space == "full" else self.modes,
            alpha=alpha,
            power=self.power,
            reference_length=self.reference_length,
            velocity_scale=self.velocity_scale,
        )

    @property
    def chooses_steps(self) -> bool:
        """Whether a registration chooses the number of time steps by the error of the flow."""
        return self.num_steps is None and self.integrator == "rk4"

    def flow(self) -> dict[str, Any]:
        """Keywords of `shoot`."""
        default = NUM_STEPS[str(self.integrator)]
        return {
            "num_steps": default if self.num_steps is None else self.num_steps,
            "integrator": self.integrator,
            "dynamics": self.dynamics,
        }

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON: the integrator, whose default has changed before, and the fields
        that are not the default; `from_dict` reads it."""
        default = Model()
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        kept = {k for k, value in plain.items() if value != getattr(default, k)} | {"integrator"}
        plain = {k: value for k, value in plain.items() if k in kept}
        if "similarity" in plain:
            similarity = plain["similarity"]
            known = name_of(similarity) in SIMILARITIES
            options = asdict(similarity) if known else {"description": describe(similarity)}
            plain["similarity"] = [name_of(similarity), options]
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Model":
        """The model that `to_dict` wrote.

        Raises
        ------
        InputError
            A field or a similarity that does not exist.
        """
        plain = dict(plain)
        _check_names("model", plain, cls)
        if not isinstance(plain.get("similarity", ""), str):
            name, options = plain["similarity"]
            kind: Any = UnavailableSimilarity
            if set(options) != {"description"}:
                kind = SIMILARITIES[checks.choice("similarity", name, tuple(SIMILARITIES))]
            _check_names(f"similarity {name}", options, kind)
            plain["similarity"] = kind(**options)
        return cls(**plain)


def model_of(model: Model | dict | None, **keywords: Any) -> Model:
    """The model of a public call: `model` (the default without one), overridden by keywords."""
    if model is None:
        model = Model()
    elif isinstance(model, dict):
        model = Model.from_dict(model)
    elif not isinstance(model, Model):
        raise InputTypeError(f"model: expected a fourierreg.Model; got {model!r}")
    return model.with_fields(**keywords)


def _check_modes(value: Any) -> int | tuple[int, ...]:
    """`modes` as an int or a tuple of int."""
    if np.ndim(value) == 0:
        return checks.count("modes", value, minimum=3)
    return tuple(checks.count("modes", n, minimum=3) for n in value)


def _check_names(argument: str, given: dict[str, Any], kind: Any) -> None:
    """Refuse names that are not fields of a dataclass."""
    known = [f.name for f in fields(kind)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InputError(
            f"{argument}: expected {', '.join(known) or 'no options'}; got {', '.join(unknown)}"
        )
