"""Folder of a label run: the estimates of α of many pairs, one row file per finished pair.

The folder has ``label.json`` with the settings of all pairs, ``rows/KEY.json`` with the row of a
pair, written when it is done, ``labels.csv`` with the rows of all pairs and, on request,
``registrations/KEY/velocity.npz``.
"""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from fourierreg import __version__
from fourierreg.atomic import atomic_write, remove_partial_files, write_table
from fourierreg.data.manifest import Pair
from fourierreg.data.nifti import sha256
from fourierreg.errors import InputError

FORMAT = 1
HEADER, TABLE, ROWS, REGISTRATIONS = "label.json", "labels.csv", "rows", "registrations"
DONE, FAILED = "done", "failed"


def pair_key(pair: Pair) -> str:
    """Name of a pair's files in the folder: a digest of its two image paths."""
    return hashlib.sha256(f"{pair.source}\n{pair.target}".encode()).hexdigest()[:16]


def input_files(pair: Pair) -> list[str]:
    """Paths of the images and labels of a pair, without empty ones."""
    return [name for name in pair[:4] if name]


def input_columns(pair: Pair, digests: Sequence[str | None]) -> dict[str, Any]:
    """Columns of a row that identify its pair: the fields of `Pair` and the digests of its files.

    Parameters
    ----------
    pair : Pair
    digests : sequence of str or None
        SHA-256 of each of `input_files`, None for a missing file.
    """
    hashes = dict(zip(input_files(pair), digests, strict=True))
    return {
        **pair._asdict(),
        "source_sha256": hashes[pair.source],
        "target_sha256": hashes[pair.target],
        "labels_sha256": " ".join(str(hashes[name]) for name in pair[2:4] if name),
    }


class LabelFolder:
    """Context manager of the folder of a label run, which locks it against other processes.

    Parameters
    ----------
    path : Path
        Created if missing.
    task : dict
        Settings of all pairs: "size", "structures", "backend" and "settings".

    Raises
    ------
    InputError
        Another process has the folder locked, it has labels made with other settings, or it cannot
        be written to.
    """

    def __init__(self, path: Path, task: Mapping[str, Any]) -> None:
        self.path, self.task = path, task

    def __enter__(self) -> "LabelFolder":
        try:
            (self.path / ROWS).mkdir(parents=True, exist_ok=True)
            self.lock = filelock.FileLock(self.path / ".lock", timeout=0)
            self.lock.acquire()
        except filelock.Timeout as error:
            raise InputError(
                f"out: another run is writing to {self.path}; wait for it, or give another folder"
            ) from error
        except OSError as error:
            raise self._disk_error(error) from error
        try:
            remove_partial_files(self.path)
            self._ensure_header()
        except BaseException:
            self.lock.release()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.lock.release()

    def _ensure_header(self) -> None:
        """Write the header, or check that the existing one has the same settings."""
        header = {"format": FORMAT, "fourierreg": __version__, **self.task}
        header = json.loads(json.dumps(header))
        path = self.path / HEADER
        if not path.exists():
            self._write(path, header)
            return
        found = json.loads(path.read_text())
        before, now = ({**h.pop("settings"), **h} for h in (found, header))
        changed = sorted(k for k in {*before, *now} if before.get(k) != now.get(k))
        if changed:
            raise InputError(
                f"out: {self.path} holds labels made with other values of "
                f"{', '.join(changed)}; give another folder, or the values in {HEADER}"
            )

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a JSON file atomically."""
        try:
            with atomic_write(path) as file:
                json.dump(content, file, indent=1)
        except OSError as error:
            raise self._disk_error(error) from error

    def _disk_error(self, error: OSError) -> InputError:
        return InputError(
            f"out: cannot write to {self.path} ({error.strerror}); finished pairs are kept: "
            "free space and run again"
        )

    def row_path(self, pair: Pair) -> Path:
        """File of the row of a pair."""
        return (self.path / ROWS / f"{pair_key(pair)}.json").resolve()

    def registration_folder(self, pair: Pair) -> Path:
        """Folder for the registration of a pair."""
        return (self.path / REGISTRATIONS / pair_key(pair)).resolve()

    def read_row(self, pair: Pair) -> dict[str, Any] | None:
        """Row of a finished or failed pair, or None."""
        path = self.row_path(pair)
        return json.loads(path.read_text()) if path.exists() else None

    def write_row(self, pair: Pair, row: Mapping[str, Any]) -> None:
        """Write the row of a finished or failed pair."""
        self._write(self.row_path(pair), row)

    def check_inputs(self, pairs: Sequence[Pair]) -> dict[str, str | None]:
        """Compute the digests of all files; check that those of finished pairs are unchanged.

        Returns
        -------
        dict
            SHA-256 of each path, None for a missing file.

        Raises
        ------
        InputError
            A finished pair was labeled from files with other contents.
        """
        digests: dict[str, str | None] = {}
        for name in sorted({name for pair in pairs for name in input_files(pair)}):
            digests[name] = sha256(name) if Path(name).is_file() else None
        for pair in pairs:
            row = self.read_row(pair)
            if row is None or row["state"] != DONE:
                continue
            current = input_columns(pair, [digests[name] for name in input_files(pair)])
            changed = [key for key, value in current.items() if row.get(key) != value]
            if changed:
                raise InputError(
                    f"pairs: {pair.source} to {pair.target} was labeled from other inputs "
                    f"({', '.join(changed)} changed); give another folder for the new ones"
                )
        return digests

    def write_table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write ``labels.csv``; its columns are the union of the keys of all rows."""
        try:
            write_table(self.path / TABLE, rows)
        except OSError as error:
            raise self._disk_error(error) from error


def read_table(folder: Path | str) -> list[dict[str, str]]:
    """Rows of ``labels.csv`` in the folder of a label run, with values as text.

    Raises
    ------
    InputError
        The folder has no such table.
    """
    path = Path(folder) / TABLE
    if not path.is_file():
        raise InputError(f"folder: no {TABLE} in {folder}; give the folder of a finished label run")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
