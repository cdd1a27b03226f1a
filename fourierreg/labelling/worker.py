"""What a worker does of a label run: α of some pairs, and the row of each.

Everything it takes and gives is plain data.
"""

import math
import threading
import time
from pathlib import Path

import numpy as np

from fourierreg import __version__
from fourierreg.backend import get_backend, set_backend, to_numpy
from fourierreg.data.nifti import read_image, read_labels, resized
from fourierreg.image.metrics import inverse_consistency, jacobian_statistics, overlaps_of
from fourierreg.labelling.folder import DONE, FAILED, identity_of
from fourierreg.registration.map_alpha import map_alpha
from fourierreg.registration.map_alpha_batch import map_alpha_batch

# What may be wrong with a pair, and must not end the others.
FAULTS = (ValueError, TypeError, RuntimeError, OSError, ArithmeticError, MemoryError)
_ONE_PER_PROCESS = threading.Lock()  # where a worker has several threads: kernels have their own


def label_batch(pairs, task, digests, places):
    """The rows of some pairs, estimated together; what goes wrong with one stands in its row.

    Parameters
    ----------
    pairs : sequence of Pair
    task : dict
        "size", "structures", "backend" and "settings" of the run.
    digests : sequence of lists
        Of the files of each pair.
    places : sequence of str or None
        Where the registration of each is kept.
    """
    with _ONE_PER_PROCESS:
        began = time.perf_counter()
        set_backend(task["backend"])
        results = _estimates([_read(pair, task) for pair in pairs], task)
        seconds = (time.perf_counter() - began) / len(pairs)
        return [
            _row(*of, task, seconds, len(pairs))
            for of in zip(pairs, results, digests, places, strict=True)
        ]


def failure(pair, digests, error):
    """The row of a pair that came to nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return {**identity_of(pair, digests), "state": FAILED, "status": text}


def _read(pair, task):
    """Source and target, or the exception that reading them ended in."""
    try:
        return tuple(
            resized(read_image(path, name), task["size"])
            for name, path in zip(("source", "target"), pair[:2], strict=True)
        )
    except FAULTS as error:
        return error


def _estimates(images, task):
    """A `Registration`, or an exception, for every pair of images (or exception)."""
    results = list(images)
    readable = [i for i, pair in enumerate(images) if not isinstance(pair, Exception)]
    if len(images) == 1 and readable:
        try:
            return [map_alpha(*images[0], **task["settings"])]
        except FAULTS as error:
            return [error]
    if readable:
        sources, targets = zip(*(images[i] for i in readable), strict=True)
        fitting = None if get_backend() == "cupy" else len(readable)
        found = map_alpha_batch(
            sources, targets, batch_size=fitting, errors="return", **task["settings"]
        )
        for i, result in zip(readable, found, strict=True):
            results[i] = result
    return results


def _row(pair, result, digests, place, task, seconds, batch):
    began = time.perf_counter()
    try:
        if isinstance(result, Exception):
            raise result
        row = describe(pair, result, digests)
        if pair.source_labels:
            row |= overlaps(pair, result, task["structures"])
        if place is not None:
            Path(place).mkdir(parents=True, exist_ok=True)
            result.save(Path(place) / "velocity.npz")
    except FAULTS as error:
        row = failure(pair, digests, error)
    row["batch"] = batch
    row["seconds"] = round(seconds + time.perf_counter() - began, 2)
    row["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S")
    return {key: None if value != value else value for key, value in row.items()}  # no NaN in JSON


def describe(pair, result, digests):
    """What a row says of a registration."""
    metric, u = result.metric, to_numpy(result.displacement)
    distance = np.sqrt((u**2).sum(axis=0))
    inside = to_numpy(result.deformed) != 0
    low, high = result.alpha_interval or (math.nan, math.nan)
    jacobian = jacobian_statistics(result.jacobian_determinant)
    around = inverse_consistency(result.displacement, result.inverse_displacement, result.spacing)
    return {
        **identity_of(pair, digests),
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
        "inverse_consistency_mm": around["rms"],
        "backend": get_backend(),
        "fourierreg": __version__,
    }


def overlaps(pair, result, structures):
    """Columns of a row: `overlaps_of` its label files."""
    names = ("source_labels", "target_labels")
    labels = [read_labels(path, name) for path, name in zip(pair[2:4], names, strict=True)]
    found = overlaps_of(result, *labels, structures)
    mean = found.pop("mean")
    columns = {}
    for place, column in enumerate(("dice_before", "dice")):
        columns[column] = mean[place]
        columns |= {f"{column}_{name}": values[place] for name, values in found.items()}
    return columns
