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
# Steps by number of axes. In 3D five Euler steps give the Dice and the α of ten in three quarters
# of the time; in 2D, where time matters less, ten are closer to the continuous geodesic.
NUM_STEPS = {2: 10, 3: 5}


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
        Time steps of the geodesic on the finest grid; by default 5 in 3D and 10, the paper's, in
        2D. Coarser grids take 0.6 of them.
    integrator : {"euler", "rk4"}
    dynamics : {"epdiff", "stationary"}
        A geodesic, or the flow of a stationary velocity.
    similarity : {"ssd", "ncc", "lncc", "mi"} or Similarity
        Sum of squares, normalized cross-correlation (global, or in windows of 9 voxels), mutual
        information, or an instance of a class of `fourierreg.image.similarity`.
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
    integrator: str = "euler"
    dynamics: str = "epdiff"
    similarity: str | Similarity = "ssd"
    space: str = "bandlimited"

    def __post_init__(self) -> None:
        checks.choice("integrator", self.integrator, INTEGRATORS)
        checks.choice("dynamics", self.dynamics, tuple(DYNAMICS))
        checks.choice("space", self.space, SPACES)
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

    def flow(self, ndim: int) -> dict[str, Any]:
        """Keywords of `shoot` for `ndim` axes."""
        return {
            "num_steps": NUM_STEPS[ndim] if self.num_steps is None else self.num_steps,
            "integrator": self.integrator,
            "dynamics": self.dynamics,
        }

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON: the fields that are not the default; `from_dict` reads it."""
        default = Model()
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {k: value for k, value in plain.items() if value != getattr(default, k)}
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
