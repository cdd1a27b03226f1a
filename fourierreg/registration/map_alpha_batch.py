"""Infer α for many pairs of images at once."""

import functools
import inspect
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fourierreg import checks
from fourierreg.backend import Array, free_memory, get_backend, release_memory
from fourierreg.errors import InputError, InputTypeError
from fourierreg.model.model import model_of
from fourierreg.optim.batching import run_all
from fourierreg.registration.map_alpha import estimate, map_alpha
from fourierreg.registration.result import Registration

PER_PAIR = ("source", "target", "mask", "callback")
ERRORS = ("raise", "return")
DEFAULT_MAX_BATCH, MAX_BATCH = 4, {"cupy": 64}  # pairs at a time, by default
# Upper bound of the memory of a pair: NumPy's arrays (benchmarks/gpu.py --memory), and half as much
# again for the memory pools of CuPy, with the separate one of captured graphs.
BYTES_PER_VOXEL, BYTES_PER_MODE = 170, 3000  # of the images' own grid; of the band
MEMORY_SHARE = 0.7  # of the free memory that a batch may take


def map_alpha_batch(
    sources: Sequence[Any],
    targets: Sequence[Any],
    *,
    masks: Sequence[Array | None] | None = None,
    batch_size: int | None = None,
    errors: str = "raise",
    callback: Callable[[int, Any], Any] | None = None,
    **settings: Any,
) -> list[Registration]:
    """`map_alpha` of many pairs, whose work is batched.

    On a GPU one pair leaves most of it idle. Pairs on (padded) grids of the same shape share every
    pass. The α of a pair depends neither on the other pairs nor on the batch size.

    Parameters
    ----------
    sources, targets : sequences of arrays or nibabel images, one of each for every pair
        As in `map_alpha`; or arrays (pairs, N_1, …, N_d).
    masks : sequence of bool arrays or None, optional
    batch_size : int, optional
        Pairs at a time; by default as many as the GPU's free memory holds, and 4 on a CPU. When
        memory runs out, unused memory is released and the batch size is halved.
    errors : {"raise", "return"}
        For a pair that cannot be estimated: raise its exception once the others of its batch are
        done, or put it in the list in place of a result.
    callback : callable, optional
        Called as callback(pair, record) after every accepted iteration.
    settings
        Keywords of `map_alpha`, the same for every pair.

    Returns
    -------
    list of Registration
        In the order of the pairs; `seconds` of each is that of its batch over its pairs.

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
        _default_batch_size(targets, settings)
        if batch_size is None
        else checks.count("batch_size", batch_size)
    )
    parameters = inspect.signature(map_alpha).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    results: list[Any] = []
    released = False  # whether the batch starts from empty memory pools
    while len(results) < count:
        batch = range(len(results), min(len(results) + size, count))
        keywords = [
            defaults
            | settings
            | {
                "source": sources[pair],
                "target": targets[pair],
                "mask": None if masks is None else masks[pair],
                "callback": None if callback is None else functools.partial(callback, pair),
            }
            for pair in batch
        ]
        began = time.perf_counter()
        try:
            found = run_all([estimate(**own) for own in keywords])
        except MemoryError as error:  # its traceback holds the arrays of the batch
            found = [error.with_traceback(None)]
        if isinstance(found[0], MemoryError) and (len(batch) > 1 or not released):
            size, released = math.ceil(len(batch) / 2), True
            release_memory()
            continue
        released = False
        if errors == "raise":
            _raise_first(found, batch)
        seconds = (time.perf_counter() - began) / len(batch)
        results += [f if isinstance(f, Exception) else replace(f, seconds=seconds) for f in found]
    return results


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


def _default_batch_size(targets: Sequence[Any], settings: dict[str, Any]) -> int:
    """Number of pairs that the free memory holds, at least one."""
    largest, free = MAX_BATCH.get(get_backend(), DEFAULT_MAX_BATCH), free_memory()
    if free is None or not len(targets):
        return largest
    voxels, d = max((math.prod(target.shape), len(target.shape)) for target in targets)
    band = model_of(settings.get("model"), modes=settings.get("modes")).modes
    modes = (band,) * d if isinstance(band, int) else band
    needed = BYTES_PER_VOXEL * voxels + BYTES_PER_MODE * d * math.prod(modes)
    return max(1, min(largest, int(MEMORY_SHARE * free / needed)))


def _raise_first(found: Sequence[Any], pairs: Sequence[int]) -> None:
    """Raise the exception of the first pair that failed, with the number of the pair."""
    for pair, result in zip(pairs, found, strict=True):
        if isinstance(result, Exception):
            result.add_note(f"(pair {pair} of map_alpha_batch)")
            raise result
