"""Worker of a label run: estimates α for a batch of pairs and returns the row of each.

Arguments and results are plain data, so that they can be sent between processes.
"""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fourierreg import __version__
from fourierreg.backend import get_backend, set_backend, to_numpy
from fourierreg.data.manifest import Pair
from fourierreg.data.nifti import read_image, read_labels, resized
from fourierreg.data.structures import Structures
from fourierreg.image.metrics import dice_before_and_after, inverse_consistency, jacobian_statistics
from fourierreg.labelling.folder import DONE, FAILED, input_columns
from fourierreg.registration.map_alpha_batch import map_alpha_batch
from fourierreg.registration.result import Registration

# Exceptions that make one pair fail and not the run.
PAIR_ERRORS = (ValueError, TypeError, RuntimeError, OSError, ArithmeticError, MemoryError)
# One batch at a time in a process, even if its Dask worker has several threads: the kernels are
# multithreaded themselves.
_batch_lock = threading.Lock()

Row = dict[str, Any]


def label_batch(
    pairs: Sequence[Pair],
    task: Mapping[str, Any],
    digests: Sequence[Sequence[str | None]],
    folders: Sequence[str | None],
) -> list[Row]:
    """Estimate α for a batch of pairs; the error of a failed pair is in its row.

    Parameters
    ----------
    pairs : sequence of Pair
    task : dict
        "size", "structures", "backend" and "settings" of the run.
    digests : sequence of lists
        SHA-256 of the files of each pair.
    folders : sequence of str or None
        Folder in which the registration of each pair is saved; None to not save it.

    Returns
    -------
    list of dict
        Row of each pair.
    """
    with _batch_lock:
        start = time.perf_counter()
        set_backend(task["backend"])
        results = _estimates([_read(pair, task) for pair in pairs], task)
        seconds = (time.perf_counter() - start) / len(pairs)
        return [
            _row(*inputs, task, seconds, len(pairs))
            for inputs in zip(pairs, results, digests, folders, strict=True)
        ]


def failure_row(pair: Pair, digests: Sequence[str | None], error: Exception) -> Row:
    """Row of a pair that failed."""
    text = " ".join(str(error).split()) or type(error).__name__
    return {**input_columns(pair, digests), "state": FAILED, "status": text}


def _read(pair: Pair, task: Mapping[str, Any]) -> Any:
    """Source and target image of a pair, or the exception raised while reading them."""
    try:
        return tuple(
            resized(read_image(path, name), task["size"])
            for name, path in zip(("source", "target"), pair[:2], strict=True)
        )
    except PAIR_ERRORS as error:
        return error


def _estimates(images: Sequence[Any], task: Mapping[str, Any]) -> list[Any]:
    """`Registration` of each pair of images, or the exception that its estimation raised.

    An exception in place of a pair of images is returned unchanged.
    """
    results = list(images)
    readable = [i for i, pair in enumerate(images) if not isinstance(pair, Exception)]
    if readable:
        sources, targets = zip(*(images[i] for i in readable), strict=True)
        size = None if get_backend() == "cupy" else len(readable)
        settings: dict[str, Any] = {"posterior": "marginal", **task["settings"]}
        found = map_alpha_batch(
            sources,
            targets,
            batch_size=size,
            errors="return",
            **settings,
        )
        for i, result in zip(readable, found, strict=True):
            results[i] = result
    return results


def _row(
    pair: Pair,
    result: Any,
    digests: Sequence[str | None],
    folder: str | None,
    task: Mapping[str, Any],
    seconds: float,
    batch: int,
) -> Row:
    """Row of a pair; saves its registration if a folder is given.

    Parameters
    ----------
    pair : Pair
    result : Registration or Exception
    digests, folder, task
        As for `label_batch`, of this pair.
    seconds : float
        Time of the estimation, per pair.
    batch : int
        Number of pairs of the batch.
    """
    start = time.perf_counter()
    try:
        if isinstance(result, Exception):
            raise result
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
