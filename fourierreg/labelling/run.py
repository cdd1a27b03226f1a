"""α for many pairs: the run over them.

A second run goes on where the first stopped (`LabelFolder`).
"""

import inspect
import json
from pathlib import Path

from fourierreg import checks
from fourierreg.data import cluster as engine
from fourierreg.data.manifest import Pair, absolute, check_pairs, read_pairs
from fourierreg.data.structures import structures_of
from fourierreg.errors import InputError
from fourierreg.labelling.folder import DONE, FAILED, LabelFolder, files_of, key_of
from fourierreg.labelling.worker import failure, label_batch
from fourierreg.registration.map_alpha import map_alpha

NOT_SETTINGS = {"source", "target", "spacing", "mask", "callback", "uncertainty", "similarity"}
BATCH = {"numpy": 1, "cupy": 32}  # pairs that a worker estimates together


def label_pairs(
    pairs,
    out,
    *,
    size=None,
    structures=None,
    workers=None,
    scheduler=None,
    backend="numpy",
    batch=None,
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
    batch : int, optional
        Pairs that a worker estimates together (`map_alpha_batch`); by default one on a CPU, and on
        a GPU 32, of which so many at a time as its memory holds.
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
    checks.choice("backend", backend, tuple(BATCH))
    if batch is not None:
        checks.count("batch", batch)
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
        together = BATCH[backend] if batch is None else batch
        jobs = [
            (
                chosen,
                task,
                [[digests[name] for name in files_of(pair)] for pair in chosen],
                [str(folder.registration(p)) if save_registrations else None for p in chosen],
            )
            for chosen in (todo[i : i + together] for i in range(0, len(todo), together))
        ]
        try:
            with engine.pool(workers, scheduler, backend, len(jobs)) as run:
                for index, found in run(label_batch, jobs):
                    if isinstance(found, Exception):
                        found = [failure(*of, found) for of in zip(*jobs[index][::2], strict=True)]
                    for pair, row in zip(jobs[index][0], found, strict=True):
                        folder.keep(pair, row)
                        done += 1
                        rows[key_of(pair)] = row
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
