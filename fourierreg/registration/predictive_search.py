"""The α whose registration of half of the voxels predicts the other half best."""

import math
from collections.abc import Sequence

from scipy import stats

from fourierreg.optim.bracket import find_minimum
from fourierreg.optim.requests import Coroutine
from fourierreg.registration.held_out import seen
from fourierreg.registration.multiresolution import Multiresolution
from fourierreg.registration.quality import fit_to_quality
from fourierreg.registration.tasks import Fit, HeldOut
from fourierreg.spectral.metric import MetricBatch

ITERATIONS = 40  # of a fit to half of the voxels
CLEAR_GAIN = 0.05  # of the dissimilarity of held-out voxels, at half of an α
MODES = 24  # at most, of such a fit: enough to tell what is too rough


class PredictiveSearch:
    """Minimum over ln α of the dissimilarity of held-out voxels on the search grid.

    Parameters
    ----------
    state : Multiresolution
    start : float
        ln α.
    limits : dict
        `lower` and `upper` ln α.
    iterations : tuple of three int
        Limits of the fits of the whole images, as in `Quality`.

    The fits to half of the voxels are in the history too, so that its α shows the search.
    """

    def __init__(
        self,
        state: Multiresolution,
        start: float,
        limits: dict[str, float],
        iterations: tuple[int, int, int],
    ):
        self.state, self.start, self.limits, self.iterations = state, start, limits, iterations
        self.losses: dict[float, float] = {}  # of all parts, by α

    def run(self) -> Coroutine:
        """α, then the registration at that α (coroutine); returns the `Root`."""
        state, level = self.state, self.state.search_level
        yield from state.move_to(self.start, 0)
        if state.likelihood:  # the noise is that of a registration at the first α
            options = {"max_iterations": self.iterations[1]}
            yield from state.descend(level, **options)
            yield from state.settle_noise(level, tolerance=state.tolerance, **options)
        root = yield from find_minimum(
            self.losses_at, self.start, lower=self.limits["lower"], upper=self.limits["upper"]
        )
        state.reset()
        yield from state.move_to(root.log_alpha, 0)
        yield from fit_to_quality(state, self.iterations)
        return root

    def losses_at(self, log_alphas: Sequence[float]) -> Coroutine:
        """As the function of that name; keeps their sums (coroutine)."""
        found = yield from losses_at(self.state, log_alphas)
        sums = (float(own.sum()) for own in found)
        self.losses |= dict(zip(map(math.exp, log_alphas), sums, strict=True))
        return found


def losses_at(
    state: Multiresolution, log_alphas: Sequence[float], recorded: bool = True
) -> Coroutine:
    """Dissimilarity of held-out voxels in each part of the image on the search grid, at several ln
    α and the present noise (coroutine); leaves the state without a velocity.

    The fits are requested together. They enter the history one after the other: the first while it
    runs, the others afterwards.
    """
    level = state.search_level
    state.reset()
    modes = tuple(min(MODES, n) for n in state.levels[level].modes)
    shape = (1, len(modes), *state.metric.with_modes(modes).band.coefficient_shape)
    start = state.xp.zeros(shape, dtype=complex)
    problem, inside = state.problem(level), state.levels[level].inside
    later: list[tuple] = []  # records of fits that run beside the first
    requests = []
    for number, log_alpha in enumerate(log_alphas):
        metric = state.metric.with_alphas([math.exp(log_alpha)])

        def record(*energies: float, number: int = number, metric: MetricBatch = metric) -> None:
            entry = (*energies, problem, metric, state.elapsed())
            if number == 0 and recorded:
                state.record(*entry)
            else:
                later.append((number, entry))

        narrow = metric.with_modes(modes)
        requests.append(Fit(seen(problem, inside), narrow, start, None, 0.0, ITERATIONS, record))
    fitted = yield requests
    if recorded:
        for _, entry in sorted(later, key=lambda kept: kept[0]):
            state.record(*entry)
    measured = [
        HeldOut(problem, request.metric, minimum.velocity, inside)
        for request, minimum in zip(requests, fitted, strict=True)
    ]
    return (yield measured)


def contradiction(state: Multiresolution, log_alpha: float) -> Coroutine:
    """A sentence where held-out voxels say clearly that an α inferred otherwise is too large, or
    None (coroutine); the state is as before.

    That is how a posterior fails whose noise is anatomy that is not matched yet. Too small an α is
    not found out, because the fits to half of the voxels are short.
    """
    saved, fitted_level = state.state(), state.fitted_level
    compared = [log_alpha, log_alpha + math.log(0.5)]
    here, at_half = yield from losses_at(state, compared, recorded=False)
    state.restore(saved)
    state.fitted_level = fitted_level
    gain = (here - at_half) / abs(here.sum())
    if gain.sum() <= CLEAR_GAIN or stats.ttest_1samp(gain, 0.0).pvalue >= 0.05:
        return None
    return (
        "Held-out voxels contradict this alpha: at half of it the registration of half of the "
        f"voxels predicts the other half {100 * gain.sum():.0f} % better; use "
        "posterior='predictive'."
    )
