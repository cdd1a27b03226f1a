"""Label run: estimation of α for many pairs by a pool of workers.

A repeated run resumes: pairs with a row in the folder are not estimated again (`LabelFolder`).
"""

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fourierreg import checks
from fourierreg.data.cluster import JobRunner, num_gpus, worker_pool
from fourierreg.data.manifest import Pair, check_pairs, read_pairs, with_absolute_paths
from fourierreg.data.structures import resolve_structures
from fourierreg.errors import InputError
from fourierreg.labelling.folder import DONE, FAILED, LabelFolder, input_files, pair_key
from fourierreg.labelling.worker import failure_row, label_batch
from fourierreg.model.model import MODEL_KEYWORDS, model_of
from fourierreg.registration.map_alpha import map_alpha

# Keywords of `map_alpha` that differ between pairs or have no column in a row.
EXCLUDED_SETTINGS = {
    "source",
    "target",
    "spacing",
    "mask",
    "callback",
    "uncertainty",
    "evidence",
}
MAX_JOB = 256  # pairs of a worker's job on a GPU, which streams them
SCHEDULED_JOB = 32  # the same with a scheduler, the number of whose workers may change

Row = dict[str, Any]


def label_pairs(
    pairs: Path | str | Sequence[Pair],
    out: Path | str,
    *,
    size: int | None = None,
    structures: Mapping[Any, Any] | Path | str | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    backend: str = "numpy",
    batch: int | None = None,
    retry_failed: bool = False,
    save_registrations: bool = False,
    callback: Callable[[int, int, Row], object] | None = None,
    **settings: Any,
) -> list[Row]:
    """Estimate α for many pairs, on this machine or a cluster, and save every result.

    A script must call this under ``if __name__ == "__main__":``, because workers are processes that
    import the script.

    Parameters
    ----------
    pairs : path of a manifest, or sequence of Pair
        Relative paths of a sequence are resolved against the current directory.
    out : path
        Folder of the run. If it exists with the same settings and inputs, the run resumes.
    size : int, optional
        Number of voxels of the longest axis that images are resampled to, so that α is estimated at
        the resolution at which it will be used. By default images are not resampled.
    structures : str, path or dict, optional
        Merged structures for Dice (`resolve_structures`); by default every label.
    workers : int, optional
        Number of processes on this machine, which divide its cores; by default one per core.
    scheduler : str, optional
        Address of a Dask scheduler to use instead; its workers must have access to the files and
        `out`.
    backend : {"numpy", "cupy"}
        With "cupy" there is one worker per GPU by default.
    batch : int, optional
        Number of pairs that a worker estimates as one batch (`map_alpha_batch`); by default 1 with
        "numpy", and with "cupy" as many as the free memory of the GPU holds.
    retry_failed : bool
        Estimate failed pairs again. Finished pairs are never estimated again.
    save_registrations : bool
        Save every registration (tens of MB per pair at 128³).
    callback : callable, optional
        Called with (number of pairs done, number of pairs, the new row).
    **settings
        Keywords of `map_alpha`.

    Returns
    -------
    list of dict
        A row per pair, in order, as in ``labels.csv``.

    Raises
    ------
    InputError
        The manifest or a setting is invalid; the folder has other settings or inputs, is in use by
        another run, or cannot be written to.
    MissingDependencyError
        Dask is not installed: ``pip install 'fourierreg[label]'``.
    """
    pairs = _resolve_pairs(pairs)
    checks.choice("backend", backend, ("numpy", "cupy"))
    if batch is not None:
        checks.count("batch", batch)
    task = {
        "size": None if size is None else checks.count("size", size, minimum=16),
        "structures": None if structures is None else resolve_structures(structures),
        "backend": backend,
        "settings": checked_settings(settings),
    }
    with LabelFolder(Path(out), task) as folder:
        digests = folder.check_inputs(pairs)
        rows = {pair_key(p): folder.read_row(p) for p in pairs}
        skipped = {DONE} if retry_failed else {DONE, FAILED}
        todo = [p for p in pairs if (rows[pair_key(p)] or {}).get("state") not in skipped]
        done = len(pairs) - len(todo)
        if backend == "numpy":
            batch = length = batch or 1
        else:
            length = _job_length(len(todo), workers, scheduler)
        jobs = [
            _job(todo[i : i + length], folder, digests, save_registrations, batch)
            for i in range(0, len(todo), length)
        ]

        def keep(pair: Pair, row: Row) -> None:
            nonlocal done
            folder.write_row(pair, row)
            done += 1
            rows[pair_key(pair)] = row
            if callback is not None:
                callback(done, len(pairs), row)

        try:
            with worker_pool(workers, scheduler, backend, len(jobs)) as run:
                _run_jobs(run, jobs, keep)
        finally:  # an interrupted run also writes the table of its finished pairs
            table = [found for pair in pairs if (found := rows[pair_key(pair)]) is not None]
            if table:
                folder.write_table(table)
    return table


def _resolve_pairs(pairs: Path | str | Sequence[Pair]) -> list[Pair]:
    """Validated pairs with absolute paths, from a manifest or a sequence."""
    if isinstance(pairs, str | Path):
        return read_pairs(pairs)
    resolved = [with_absolute_paths(Pair(*p)) for p in pairs]
    check_pairs(resolved)
    return resolved


def _job_length(pairs: int, workers: int | None, scheduler: str | None) -> int:
    """Pairs of a job on a GPU: an equal share for each worker, few where a scheduler has them."""
    if scheduler is not None:
        return SCHEDULED_JOB
    return max(1, min(MAX_JOB, math.ceil(pairs / (workers or num_gpus()))))


def _job(
    pairs: Sequence[Pair],
    folder: LabelFolder,
    digests: Mapping[str, str | None],
    save_registrations: bool,
    batch: int | None,
) -> tuple[Any, ...]:
    """Arguments of `label_batch` for some pairs."""
    return (
        pairs,
        folder.task,
        [[digests[name] for name in input_files(pair)] for pair in pairs],
        [str(folder.registration_folder(p)) if save_registrations else None for p in pairs],
        [str(folder.row_path(pair)) for pair in pairs],
        batch,
    )


def _run_jobs(
    run: JobRunner, jobs: Sequence[tuple[Any, ...]], keep: Callable[[Pair, Row], None]
) -> None:
    """Run jobs, and keep the row of each pair as soon as it is done. A job that failed gives failed
    rows to the pairs that it has not finished."""
    kept: set[tuple[int, int]] = set()

    def reported(index: int, content: tuple[int, Row]) -> None:
        place, row = content
        if (index, place) not in kept:
            kept.add((index, place))
            keep(jobs[index][0][place], row)

    for index, rows in run(label_batch, jobs, reported):
        if isinstance(rows, Exception):
            inputs = zip(jobs[index][0], jobs[index][2], strict=True)
            rows = [failure_row(*own, rows) for own in inputs]
        for place, row in enumerate(rows):
            reported(index, (place, row))


def checked_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check the keywords of `map_alpha` for a label run; return those that are not defaults.

    Raises
    ------
    InputError
        A keyword is unknown, or a value cannot be written as JSON.
    """
    parameters = inspect.signature(map_alpha).parameters
    known = set(parameters) - EXCLUDED_SETTINGS
    for name in settings:
        if name not in known:
            raise InputError(
                f"{name}: not a setting of label_pairs; expected one of {', '.join(sorted(known))}"
            )
    try:
        plain = json.loads(json.dumps({k: v for k, v in settings.items() if k != "model"}))
    except TypeError as error:
        raise InputError(f"settings: expected numbers, words and lists ({error})") from error
    fields = {name: plain.pop(name, None) for name in MODEL_KEYWORDS}
    given = [settings.get("model"), *fields.values()]
    if plain.get("posterior") != "predictive" or any(value is not None for value in given):
        model = model_of(settings.get("model"), **fields).to_dict()
        plain |= {name: model.pop(name) for name in MODEL_KEYWORDS if name in model}
        if model:  # else it is that of the quality
            plain["model"] = model
    return {name: value for name, value in plain.items() if value != parameters[name].default}
