"""Worker of a label run: estimates α for a batch of pairs and returns the row of each.

Arguments and results are plain data, so that they can be sent between processes.
"""

import contextlib
import dataclasses
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from fourierreg import __version__
from fourierreg.backend import backend_of, get_backend, set_backend, to_numpy
from fourierreg.data.manifest import Pair
from fourierreg.data.nifti import read_labels
from fourierreg.data.structures import Structures
from fourierreg.image.metrics import dice_before_and_after, inverse_consistency, jacobian_statistics
from fourierreg.labelling.folder import DONE, FAILED, input_columns
from fourierreg.labelling.reader import PairReader
from fourierreg.registration.map_alpha_batch import default_batch_size, map_alpha_batch
from fourierreg.registration.result import Registration

# Exceptions that make one pair fail and not the run.
PAIR_ERRORS = (ValueError, TypeError, RuntimeError, OSError, ArithmeticError, MemoryError)
# One batch at a time in a process, even if its Dask worker has several threads: the kernels are
# multithreaded themselves.
_batch_lock = threading.Lock()
MOST_UNFINISHED = 4  # results that wait for the thread that finishes them

Row = dict[str, Any]


def label_batch(
    pairs: Sequence[Pair],
    task: Mapping[str, Any],
    digests: Sequence[Sequence[str | None]],
    folders: Sequence[str | None],
    rows: Sequence[str | None] | None = None,
    batch: int | None = None,
    report: Callable[[tuple[int, Row]], Any] | None = None,
) -> list[Row]:
    """Estimate α for some pairs; the error of a failed pair is in its row.

    On a GPU one thread reads the next pairs and one finishes the results of earlier ones, while the
    device works on others.

    Parameters
    ----------
    pairs : sequence of Pair
    task : dict
        "size", "structures", "backend" and "settings" of the run.
    digests : sequence of lists
        SHA-256 of the files of each pair.
    folders : sequence of str or None
        Folder in which the registration of each pair is saved; None to not save it.
    rows : sequence of str or None, optional
        Where the rows of pairs are: one that is done is not estimated again. That happens where a
        worker died and another takes over.
    batch : int, optional
        Pairs of a pass; by default as many as memory holds.
    report : callable, optional
        Called with (place of a pair, its row) as soon as it is done.

    Returns
    -------
    list of dict
        Row of each pair.
    """
    found = {i: row for i, path in enumerate(rows or []) if (row := _done(path)) is not None}
    todo = [i for i in range(len(pairs)) if i not in found]
    with _batch_lock:
        set_backend(task["backend"])
        with PairReader([pairs[i] for i in todo], task["size"]) as reader:
            size = _batch_size(reader, task) if batch is None else batch

            def finish(place: int, result: Any) -> None:
                i = todo[place]
                found[i] = _row(pairs[i], result, digests[i], folders[i], task, size)
                if report is not None:
                    report((i, found[i]))

            with _finishing(finish) as finished:
                map_alpha_batch(
                    *reader.sides,
                    batch_size=size,
                    errors="return",
                    finished=finished,
                    keep=False,
                    **_settings(task),
                )
    return [found[i] for i in range(len(pairs))]


def _done(path: str | None) -> Row | None:
    """The row of a pair that is done, or None."""
    if path is None or not Path(path).exists():
        return None
    row = json.loads(Path(path).read_text())
    return row if row["state"] == DONE else None


def _settings(task: Mapping[str, Any]) -> dict[str, Any]:
    return {"posterior": "marginal", **task["settings"]}


def _batch_size(reader: PairReader, task: Mapping[str, Any]) -> int:
    """Pairs of a pass, by the memory that the first pair needs that can be read."""
    for place in range(len(reader.sides[1])):
        try:
            return default_batch_size(reader.sides[1][place].shape, _settings(task))
        except PAIR_ERRORS:
            continue
    return 1


@contextlib.contextmanager
def _finishing(finish: Callable[[int, Any], None]) -> Iterator[Callable[[int, Any], None]]:
    """A function that finishes results: on a GPU in a thread of its own, from arrays on the host.

    An exception of it is raised at the next result, or at the end.
    """
    if get_backend() == "numpy":
        yield finish
        return
    with ThreadPoolExecutor(1) as pool:
        pending: list[Any] = []

        def finished(place: int, result: Any) -> None:
            while pending and (pending[0].done() or len(pending) >= MOST_UNFINISHED):
                pending.pop(0).result()
            pending.append(pool.submit(finish, place, on_host(result)))

        yield finished
        for future in pending:
            future.result()


def on_host(result: Any) -> Any:
    """A `Registration` whose arrays are copied to the host; an exception as it is."""
    if isinstance(result, Exception):
        return result
    moved = {
        field.name: to_numpy(value)
        for field in dataclasses.fields(result)
        if backend_of(value := getattr(result, field.name)) not in (None, "numpy")
    }
    return dataclasses.replace(result, **moved)


def failure_row(pair: Pair, digests: Sequence[str | None], error: Exception) -> Row:
    """Row of a pair that failed."""
    text = " ".join(str(error).split()) or type(error).__name__
    return {**input_columns(pair, digests), "state": FAILED, "status": text}


def _row(
    pair: Pair,
    result: Any,
    digests: Sequence[str | None],
    folder: str | None,
    task: Mapping[str, Any],
    batch: int,
) -> Row:
    """Row of a pair; saves its registration if a folder is given.

    Parameters
    ----------
    pair : Pair
    result : Registration or Exception
    digests, folder, task
        As for `label_batch`, of this pair.
    batch : int
        Pairs of a pass.
    """
    start, seconds = time.perf_counter(), 0.0
    try:
        if isinstance(result, Exception):
            raise result
        seconds = result.seconds
        row = registration_columns(pair, result, digests)
        if pair.source_labels:
            row |= dice_columns(pair, result, task["structures"])
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            result.save(Path(folder) / "velocity.npz")
    except Exception as error:  # also a bug: the other pairs of the batch keep their rows
        row = failure_row(pair, digests, error)
    row["batch"] = batch
    row["seconds"] = round(seconds + time.perf_counter() - start, 2)
    row["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S")
    return {key: None if value != value else value for key, value in row.items()}  # no NaN in JSON


def registration_columns(pair: Pair, result: Registration, digests: Sequence[str | None]) -> Row:
    """Columns of a finished pair, without those of its labels."""
    metric, u = result.metric, to_numpy(result.displacement)
    distance = np.sqrt((u**2).sum(axis=0))
    inside = to_numpy(result.deformed) != 0
    low, high = result.alpha_interval or (math.nan, math.nan)
    jacobian = jacobian_statistics(result.jacobian_determinant)
    consistency = inverse_consistency(
        result.displacement, result.inverse_displacement, result.spacing
    )
    return {
        **input_columns(pair, digests),
        "state": DONE,
        "alpha": result.alpha,
        "alpha_low": low,
        "alpha_high": high,
        "alpha_sd": result.alpha_sd,
        "converged": result.converged,
        "status": result.status,
        "warnings": len(result.warnings),
        "shape": "x".join(map(str, result.domain.shape)),
        "spacing_mm": "x".join(f"{h:.6g}" for h in result.spacing),
        "modes": "x".join(map(str, metric.band.modes)),
        "velocity_scale_mm": metric.velocity_scale,
        "reference_length_mm": metric.reference_length,
        "power": metric.power,
        "sigma": result.sigma,
        "decimation": result.decimation,
        "rms_displacement_mm": float(np.sqrt(np.mean(distance[inside] ** 2))),
        "max_displacement_mm": float(distance.max()),
        "min_jacobian": jacobian["min"],
        "max_jacobian": jacobian["max"],
        "sd_log_jacobian": jacobian["sd_log"],
        "folds": jacobian["folds"],
        "inverse_consistency_mm": consistency["rms"],
        "backend": get_backend(),
        "fourierreg": __version__,
    }


def dice_columns(
    pair: Pair, result: Registration, structures: Structures | None
) -> dict[str, float]:
    """Columns of Dice overlap before and after registration: the mean, and every structure."""
    source = read_labels(pair.source_labels, "source_labels")
    target = read_labels(pair.target_labels, "target_labels")
    found = dice_before_and_after(result, source, target, structures)
    mean = found.pop("mean")
    columns = {}
    for index, column in enumerate(("dice_before", "dice")):
        columns[column] = mean[index]
        columns |= {f"{column}_{name}": values[index] for name, values in found.items()}
    return columns
