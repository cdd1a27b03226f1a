"""Infer α for many pairs of images at once."""

import functools
import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fourierreg import checks
from fourierreg.backend import Array, backend_of, free_memory, get_backend, release_memory
from fourierreg.errors import InputError, InputTypeError
from fourierreg.model.model import model_of
from fourierreg.optim.batching import run_all
from fourierreg.optim.requests import Coroutine
from fourierreg.registration.inputs import shape_of
from fourierreg.registration.map_alpha import estimate, map_alpha
from fourierreg.registration.quality import quality_of
from fourierreg.registration.result import Registration

PER_PAIR = ("source", "target", "mask", "callback")
ERRORS = ("raise", "return")
DEFAULT_MAX_BATCH, MAX_BATCH = 4, {"cupy": 64}  # pairs of a pass, by default
UNDER_WAY = 4  # times as many pairs are under way as a pass holds
# Upper bound of the memory of a pair of a pass and of those that wait for it: NumPy's arrays
# (batch_counts.py --memory --size 96: 310 bytes per voxel), and more for the memory pools
# of CuPy, with the separate one of captured graphs.
BYTES_PER_VOXEL, BYTES_PER_MODE = 400, 3000  # of the images' own grid; of the band
MEMORY_SHARE = 0.7  # of the free memory that a batch may take


def map_alpha_batch(
    sources: Sequence[Any],
    targets: Sequence[Any],
    *,
    masks: Sequence[Array | None] | None = None,
    batch_size: int | None = None,
    errors: str = "raise",
    callback: Callable[[int, Any], Any] | None = None,
    finished: Callable[[int, Any], Any] | None = None,
    keep: bool = True,
    **settings: Any,
) -> list[Registration]:
    """`map_alpha` of many pairs, whose work is batched.

    On a GPU one pair leaves most of it idle. Pairs on (padded) grids of the same shape share every
    pass, whatever each of them is at, and a pair that is done gives its place to the next one. The
    α of a pair depends neither on the other pairs nor on the batch size.

    Parameters
    ----------
    sources, targets : sequences of arrays or nibabel images, one of each for every pair
        As in `map_alpha`; or arrays (pairs, N_1, …, N_d). A pair's are read when its turn comes, so
        that sequences may load them then.
    masks : sequence of bool arrays or None, optional
    batch_size : int, optional
        Pairs of a pass; by default as many as the GPU's free memory holds, and 4 on a CPU. Some
        more are under way, so that passes are full. When memory runs out, unused memory is released
        and the batch size is halved; pairs that are done are kept.
    errors : {"raise", "return"}
        For a pair that cannot be estimated: raise its exception at once, or put it in the list in
        place of a result.
    callback : callable, optional
        Called as callback(pair, record) after every accepted iteration.
    finished : callable, optional
        Called as finished(pair, result) as soon as a pair is done, in no particular order; again
        if memory runs out in it.
    keep : bool
        Whether results are returned. Without, memory holds the pairs that are under way only, and
        the list is of None: for `finished`.
    **settings
        Keywords of `map_alpha`, the same for every pair.

    Returns
    -------
    list of Registration
        In the order of the pairs; `seconds` of each is the time since the result before it, so that
        those of all pairs sum to that of the call.

    Raises
    ------
    InputError
        One line that names the argument, what was expected, what came and what to do, with a note
        that gives the number of the pair.
    MemoryError
        A single pair does not fit.
    """
    count = _checked(sources, targets, masks, settings)
    checks.choice("errors", errors, ERRORS)
    size = (
        default_batch_size(_largest_shape(targets), settings)
        if batch_size is None
        else checks.count("batch_size", batch_size)
    )
    parameters = inspect.signature(map_alpha).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    def coroutine(pair: int) -> Coroutine:
        own = {
            "source": sources[pair],
            "target": targets[pair],
            "mask": None if masks is None else masks[pair],
            "callback": None if callback is None else functools.partial(callback, pair),
        }
        return (yield from estimate(**(defaults | settings | own)))

    results: dict[int, Any] = {}
    last = time.perf_counter()

    def end(pair: int, result: Any) -> None:
        nonlocal last
        if isinstance(result, Exception):
            if errors == "raise":
                result.add_note(f"(pair {pair} of map_alpha_batch)")
                raise result
        else:
            now = time.perf_counter()
            result, last = replace(result, seconds=now - last), now
        if finished is not None:
            finished(pair, result)
        results[pair] = result if keep else None

    _run_within_memory(coroutine, range(count), size, results, end)
    return [results[pair] for pair in range(count)]


def _run_within_memory(
    coroutine: Callable[[int], Coroutine],
    pairs: Sequence[int],
    size: int,
    results: Mapping[int, Any],
    end: Callable[[int, Any], None],
) -> None:
    """Run the coroutines of pairs in batches that are halved when memory runs out."""
    emptied = False  # whether the run starts from empty memory pools
    while todo := [pair for pair in pairs if pair not in results]:
        before = len(results)
        at_once = size * UNDER_WAY if size > 1 else 1

        def ended(place: int, result: Any, todo: Sequence[int] = todo) -> None:
            end(todo[place], result)

        try:
            run_all(map(coroutine, todo), batch_size=size, at_once=at_once, finished=ended)
        except MemoryError as error:
            failure = error.with_traceback(None)  # which holds the arrays of the batch
        else:
            return
        if size == 1 and emptied and len(results) == before:  # the pair alone does not fit
            end(next(pair for pair in pairs if pair not in results), failure)
        emptied, size = True, max(1, size // 2)
        release_memory()


def _largest_shape(targets: Sequence[Any]) -> tuple[int, ...]:
    """Shape of the largest target, or of the first that can be read where they are not all at
    hand."""
    if isinstance(targets, list | tuple) or backend_of(targets) is not None:
        return max(map(shape_of, targets), key=math.prod, default=())
    for pair in range(len(targets)):
        try:
            return shape_of(targets[pair])
        except Exception:  # it is met again when the turn of the pair comes
            continue
    return ()


def _checked(
    sources: Sequence[Any],
    targets: Sequence[Any],
    masks: Sequence[Any] | None,
    settings: dict[str, Any],
) -> int:
    """Check the arguments; returns the number of pairs."""
    known = set(inspect.signature(map_alpha).parameters) - set(PER_PAIR)
    for name in settings:
        if name not in known:
            raise InputTypeError(
                f"{name}: not a keyword of map_alpha_batch; expected one of "
                f"{', '.join(sorted(known))}"
            )
    for name, images in (("targets", targets), ("masks", masks)):
        if images is not None and len(images) != len(sources):
            raise InputError(
                f"{name}: expected one for each of {len(sources)} sources; got {len(images)}"
            )
    return len(sources)


def default_batch_size(shape: Sequence[int], settings: Mapping[str, Any]) -> int:
    """Number of pairs of images of a shape that the free memory holds, at least one."""
    largest, free = MAX_BATCH.get(get_backend(), DEFAULT_MAX_BATCH), free_memory()
    if free is None or not len(shape):
        return largest
    d, predictive = len(shape), settings.get("posterior") in (None, "predictive")
    if predictive and not {"model", "modes"} & set(settings):
        model = quality_of(settings.get("quality")).model
    else:
        model = model_of(settings.get("model"), modes=settings.get("modes"))
    band = model.modes
    modes = (band,) * d if isinstance(band, int) else band
    needed = BYTES_PER_VOXEL * math.prod(shape) + BYTES_PER_MODE * d * math.prod(modes)
    return max(1, min(largest, int(MEMORY_SHARE * free / needed)))
