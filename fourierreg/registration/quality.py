"""Named settings of `register`, from quick to thorough; one of them is the paper's.

They were chosen on pairs of real brains by landmark error and Dice together, beside what other
packages reach there (benchmarks/rivals.py, benchmarks/tables/qualities.csv). The exponent c of the
metric matters most: with 1.5 instead of the paper's 3 the fit gets further in as many iterations.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from fourierreg import checks
from fourierreg.errors import InputError, InputTypeError
from fourierreg.image.similarity import LocalCorrelation
from fourierreg.model.model import Model
from fourierreg.optim.requests import Coroutine
from fourierreg.registration.inputs import shape_of
from fourierreg.registration.multiresolution import Multiresolution

START = 3.0  # α of a model that is not a quality's, unless it is given


@dataclass(frozen=True)
class Quality:
    """What `register` assumes and how hard it tries.

    Attributes
    ----------
    model : Model
    alpha : float
        α of a registration to which none is given; it belongs to the model.
    weight : float or None
        γ of Eq. 3 for images of 128 voxels along each axis (`noise_or_weight`); None for ρ/σ² of an
        estimated noise.
    iterations : tuple of three int
        Limits of the fits on the grids coarser than the search grid (64³ for a brain), on that
        grid, and on finer ones. Zero leaves a grid out.
    """

    model: Model
    alpha: float
    weight: float | None = None
    iterations: tuple[int, int, int] = (100, 100, 100)


_LOCAL = LocalCorrelation()
QUALITIES = {
    "fast": Quality(Model(modes=24, power=1.5, similarity=_LOCAL), 10.0, 0.1, (60, 40, 4)),
    "default": Quality(Model(modes=40, power=1.5, similarity=_LOCAL), 6.0, 0.1, (60, 40, 16)),
    "accurate": Quality(Model(modes=48, power=1.5, similarity=_LOCAL), 8.0, 0.1, (60, 60, 25)),
    "paper": Quality(Model(modes=16, integrator="euler", num_steps=10), 3.0),
}


def quality_of(quality: str | Quality | None) -> Quality:
    """The quality of a name, or the one that was given; without one, the default."""
    if isinstance(quality, Quality):
        return quality
    if quality is None:
        return QUALITIES["default"]
    if not isinstance(quality, str):
        raise InputTypeError(f"quality: expected a word or a Quality; got {quality!r}")
    return QUALITIES[checks.choice("quality", quality, tuple(QUALITIES))]


def setting_of(quality: str | Quality | None, model: Model | None, target: Any) -> Quality:
    """The quality that a call asks for, with no more modes than a small target has voxels; or that
    of a model of the user's own, with α = `START`."""
    if model is not None:
        if quality is not None:
            raise InputError(
                "quality: expected none, as a model is given, which a quality brings; got "
                f"{quality!r}"
            )
        return Quality(model, START)
    setting = quality_of(quality)
    modes, smallest = setting.model.modes, min(shape_of(target), default=math.inf)
    if isinstance(modes, int) and smallest < modes:
        return replace(setting, model=setting.model.with_fields(modes=int(smallest)))
    return setting


def fit_to_quality(state: Multiresolution, iterations: tuple[int, int, int]) -> Coroutine:
    """Fit from the coarsest grid to the finest within limits of iterations (coroutine)."""
    search, finest = state.search_level, state.finest

    def limit(level: int) -> dict[str, int]:
        part = 0 if level < search else 1 if level == search else 2
        return {"max_iterations": iterations[part]}

    if not state.likelihood:
        for level in range(finest + 1):
            if limit(level)["max_iterations"]:
                yield from state.fit(level, tolerance=state.tolerance, **limit(level))
        return
    yield from state.descend(search, **limit(search))
    if state.noises.given is None:
        yield from state.settle_noise(search, tolerance=state.tolerance, **limit(search))
    if search < finest and iterations[2]:
        state.estimate_noise(finest)
        yield from state.fit(finest, tolerance=state.tolerance, **limit(finest))
