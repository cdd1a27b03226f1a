"""α for many pairs: the run over them, and the work on one.

A second run goes on where the first stopped (`LabelFolder`).
"""

import inspect
import json
import math
import threading
import time
from pathlib import Path

import numpy as np

from fourierreg import __version__, checks
from fourierreg.backend import get_backend, set_backend, to_numpy
from fourierreg.checks import InputError
from fourierreg.data import engine
from fourierreg.data.label_folder import (
    DONE,
    FAILED,
    LabelFolder,
    files_of,
    identity_of,
    key_of,
)
from fourierreg.data.nifti import read_image, read_labels, resized
from fourierreg.data.pairs import Pair, absolute, check_pairs, read_pairs
from fourierreg.data.structures import structures_of
from fourierreg.metrics import inverse_consistency, jacobian_statistics, overlaps_of
from fourierreg.registration.map_alpha import map_alpha

NOT_SETTINGS = {"source", "target", "spacing", "mask", "callback", "uncertainty", "similarity"}
_ONE_PER_PROCESS = threading.Lock()  # where a worker has several threads: kernels have their own


def label_pairs(
    pairs,
    out,
    *,
    size=None,
    structures=None,
    workers=None,
    scheduler=None,
    backend="numpy",
    retry_failed=False,
    save_registrations=False,
    callback=None,
    **settings,
):
    """Estimate α for many pairs, on this machine or a cluster, and keep every result.

    A script that calls this must do so under ``if __name__ == "__main__":``, because workers are
    processes of their own.

    Parameters
    ----------
    pairs : path of a manifest, or sequence of Pair (paths relative to where this runs)
    out : path
        The folder; made, or gone on with where it holds the same settings and inputs.
    size : int, optional
        Images are resampled so that their longest axis has this many voxels: α is labelled at the
        resolution where it will be used. As they are by default.
    structures : str, path or dict, optional
        Merged structures for Dice (`structures_of`); every label by default.
    workers : int, optional
        Processes on this machine, which share its cores; one per core by default.
    scheduler : str, optional
        Address of a Dask scheduler instead; its workers must see the files and `out`.
    backend : {"numpy", "cupy"}
        "cupy": one worker per GPU.
    retry_failed : bool
        Do failed pairs again; finished ones are never done again.
    save_registrations : bool
        Keep every registration as well (tens of MB per pair at 128³).
    callback : callable, optional
        Called with (pairs done, all pairs, the new row).
    settings
        Keywords of `map_alpha`.

    Returns
    -------
    list of dict
        A row per pair, in order: what ``labels.csv`` holds.

    Raises
    ------
    InputError
        One line: a bad manifest or setting; a folder of other settings or changed inputs; a folder
        that another run is working on; a disk that is full.
    ImportError
        Dask is not installed: ``pip install 'fourierreg[label]'``.
    """
    if isinstance(pairs, str | Path):
        pairs = read_pairs(pairs)
    else:
        pairs = [absolute(Pair(*p)) for p in pairs]
        check_pairs(pairs)
    task = {
        "size": None if size is None else checks.count("size", size, minimum=16),
        "structures": None if structures is None else structures_of(structures),
        "backend": backend,
        "settings": checked_settings(settings),
    }
    out = Path(out)
    with LabelFolder(out, task) as folder:
        digests = folder.check_inputs(pairs)
        rows = {key_of(p): folder.row(p) for p in pairs}
        skipped = {DONE} if retry_failed else {DONE, FAILED}
        todo = [p for p in pairs if (rows[key_of(p)] or {}).get("state") not in skipped]
        done = len(pairs) - len(todo)
        jobs = [
            (
                pair,
                task,
                [digests[name] for name in files_of(pair)],
                str(folder.registration(pair)) if save_registrations else None,
            )
            for pair in todo
        ]
        try:
            with engine.pool(workers, scheduler, backend, len(todo)) as run:
                for index, row in run(label_pair, jobs):
                    if isinstance(row, Exception):
                        row = _failure(*jobs[index][:3], row)
                    folder.keep(todo[index], row)
                    done += 1
                    rows[key_of(todo[index])] = row
                    if callback is not None:
                        callback(done, len(pairs), row)
        finally:  # an interrupted run leaves the table of what it did
            table = [rows[key_of(pair)] for pair in pairs if rows[key_of(pair)] is not None]
            if table:
                folder.write_table(table)
    return table


def checked_settings(settings):
    """Keywords of `map_alpha` that a whole table may share, those that are not its defaults; a line
    on one that is none."""
    parameters = inspect.signature(map_alpha).parameters
    known = set(parameters) - NOT_SETTINGS
    for name in settings:
        if name not in known:
            raise InputError(
                f"{name}: no setting of label_pairs; expected one of {', '.join(sorted(known))}"
            )
    try:
        plain = json.loads(json.dumps(settings))
    except TypeError as error:
        raise InputError(f"settings: expected numbers, words and lists ({error})") from error
    return {name: value for name, value in plain.items() if value != parameters[name].default}


def label_pair(pair, task, digests, keep_at):
    """The row of one pair; what goes wrong with its files stands in the row.

    Runs on a worker: everything it takes and gives is plain data.
    """
    with _ONE_PER_PROCESS:
        return _label_pair(pair, task, digests, keep_at)


def _label_pair(pair, task, digests, keep_at):
    began = time.perf_counter()
    set_backend(task["backend"])
    try:
        images = [
            resized(read_image(path, name), task["size"])
            for name, path in zip(("source", "target"), pair[:2], strict=True)
        ]
        result = map_alpha(*images, **task["settings"])
        row = describe(pair, result, digests)
        if pair.source_labels:
            row |= overlaps(pair, result, task["structures"])
        if keep_at is not None:
            Path(keep_at).mkdir(parents=True, exist_ok=True)
            result.save(Path(keep_at) / "velocity.npz")
    except (ValueError, TypeError, RuntimeError, OSError, ArithmeticError, MemoryError) as error:
        row = _failure(pair, task, digests, error)
    row["seconds"] = round(time.perf_counter() - began, 2)
    row["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S")
    return {key: None if value != value else value for key, value in row.items()}  # no NaN in JSON


def _failure(pair, task, digests, error):
    text = " ".join(str(error).split()) or type(error).__name__
    return {**identity_of(pair, digests), "state": FAILED, "status": text}


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
