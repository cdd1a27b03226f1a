"""Infer α for many pairs of images at once."""

import functools
import inspect
import math
import time
from dataclasses import replace

from fourierreg import checks
from fourierreg.backend import free_memory, get_backend, release_memory
from fourierreg.errors import InputError, InputTypeError
from fourierreg.optim.batching import run_all
from fourierreg.registration.map_alpha import map_alpha

OWN = ("source", "target", "mask", "callback")
ERRORS = ("raise", "return")
LARGEST = {"numpy": 4, "mock": 4, "cupy": 64}  # pairs at a time, where nothing is said
# At most in use for a pair: NumPy's arrays (benchmarks/gpu.py --memory), and an allowance of half
# their bytes per voxel for what CuPy's memory pools keep, with the separate one of recorded work.
BYTES_PER_VOXEL, BYTES_PER_FREEDOM = 170, 3000  # of the images' own grid; of the band
MEMORY_SHARE = 0.7  # of the free memory that a batch may take


def map_alpha_batch(
    sources, targets, *, masks=None, batch_size=None, errors="raise", callback=None, **settings
):
    """`map_alpha` of many pairs, whose work is done together.

    On a GPU one pair leaves most of it idle. Pairs whose (padded) grids agree share every pass;
    others only share the call. A pair's α does not depend on its company, but it is found by
    another optimiser than `map_alpha`'s (L-BFGS of our own on all pairs at once, not SciPy's on
    one), so the two differ by what unfinished fits leave: some hundredths, within the error bar.

    Parameters
    ----------
    sources, targets : sequences of arrays or nibabel images, one of each for every pair
        As in `map_alpha`; or arrays (pairs, N_1, …, N_d).
    masks : sequence of bool arrays or None, optional
    batch_size : int, optional
        Pairs at a time; by default as many as the GPU's free memory holds, and 4 on a CPU. It is
        halved where memory runs out.
    errors : {"raise", "return"}
        What becomes of a pair that cannot be estimated: its exception is raised once all others
        of its batch are done, or stands in the list in its place.
    callback : callable, optional
        Called as callback(pair, record) at every accepted iteration.
    settings
        Keywords of `map_alpha`, the same for every pair.

    Returns
    -------
    list of Registration
        In the order of the pairs; `seconds` of each is that of its batch over its pairs.

    Raises
    ------
    ValueError, TypeError
        One line that names the argument, what was expected, what came and what to do, with a note
        on which pair it is about.
    MemoryError
        One pair alone does not fit.
    """
    count = _checked(sources, targets, masks, settings)
    checks.choice("errors", errors, ERRORS)
    size = (
        _fitting(targets, settings)
        if batch_size is None
        else checks.count("batch_size", batch_size)
    )
    results = []
    while len(results) < count:
        chosen = range(len(results), min(len(results) + size, count))
        programs = [
            functools.partial(
                map_alpha,
                sources[pair],
                targets[pair],
                mask=None if masks is None else masks[pair],
                callback=None if callback is None else functools.partial(callback, pair),
                **settings,
            )
            for pair in chosen
        ]
        began = time.perf_counter()
        try:
            found = run_all(programs)
        except MemoryError as error:  # its traceback holds the arrays of the batch
            found = [error.with_traceback(None)]
        if len(found) < len(chosen):
            size = math.ceil(len(chosen) / 2)
            release_memory()
            continue
        if errors == "raise":
            _raise_first(found, chosen)
        seconds = (time.perf_counter() - began) / len(chosen)
        results += [f if isinstance(f, Exception) else replace(f, seconds=seconds) for f in found]
    return results


def _checked(sources, targets, masks, settings):
    """How many pairs there are."""
    known = set(inspect.signature(map_alpha).parameters) - set(OWN)
    for name in settings:
        if name not in known:
            raise InputTypeError(
                f"{name}: no keyword of map_alpha_batch; expected one of {', '.join(sorted(known))}"
            )
    for name, images in (("targets", targets), ("masks", masks)):
        if images is not None and len(images) != len(sources):
            raise InputError(
                f"{name}: expected one for each of {len(sources)} sources; got {len(images)}"
            )
    return len(sources)


def _fitting(targets, settings):
    """Pairs that the free memory holds, one at least."""
    largest, free = LARGEST[get_backend()], free_memory()
    if free is None or not len(targets):
        return largest
    voxels, d = max((math.prod(target.shape), len(target.shape)) for target in targets)
    modes = settings.get("modes", inspect.signature(map_alpha).parameters["modes"].default)
    modes = (modes,) * d if isinstance(modes, int) else modes  # map_alpha refuses what is neither
    freedom = d * math.prod(modes) if isinstance(modes, tuple | list) else 0
    needed = BYTES_PER_VOXEL * voxels + BYTES_PER_FREEDOM * freedom
    return max(1, min(largest, int(MEMORY_SHARE * free / needed)))


def _raise_first(found, pairs):
    """Raise what the first pair that failed ended in, with its place."""
    for pair, result in zip(pairs, found, strict=True):
        if isinstance(result, Exception):
            result.add_note(f"(pair {pair} of map_alpha_batch)")
            raise result
