"""The folder of a label run: one file per finished pair, one process at a time.

It holds ``label.json`` (what every pair is estimated with), ``rows/KEY.json`` (one file per pair,
written when it is done), ``labels.csv`` (all of them, one row per pair) and, on request,
``registrations/KEY/velocity.npz``.
"""

import csv
import hashlib
import json
from pathlib import Path

from fourierreg import __version__
from fourierreg.atomic import remove_leftovers, replacing, write_table
from fourierreg.checks import required
from fourierreg.data.nifti import sha256
from fourierreg.errors import InputError

FORMAT = 1
HEADER, TABLE, ROWS, REGISTRATIONS = "label.json", "labels.csv", "rows", "registrations"
DONE, FAILED = "done", "failed"


def key_of(pair):
    """Name of a pair in its folder: a digest of its two paths."""
    return hashlib.sha256(f"{pair.source}\n{pair.target}".encode()).hexdigest()[:16]


def files_of(pair):
    """Paths of a pair, those it has."""
    return [name for name in pair[:4] if name]


def identity_of(pair, digests):
    """Columns that say which pair a row is of, and the content of its files."""
    hashes = dict(zip(files_of(pair), digests, strict=True))
    return {
        **pair._asdict(),
        "source_sha256": hashes[pair.source],
        "target_sha256": hashes[pair.target],
        "labels_sha256": " ".join(str(hashes[name]) for name in pair[2:4] if name),
    }


class LabelFolder:
    """The folder of a run: one process at a time, one file per finished pair."""

    def __init__(self, path, task):
        self.path, self.task = path, task

    def __enter__(self):
        filelock = required("filelock", "label")
        try:
            (self.path / ROWS).mkdir(parents=True, exist_ok=True)
            self.lock = filelock.FileLock(self.path / ".lock", timeout=0)
            self.lock.acquire()
        except filelock.Timeout as error:
            raise InputError(
                f"out: another run is working in {self.path}; wait for it, or give another folder"
            ) from error
        except OSError as error:
            raise self._disk_error(error) from error
        try:
            remove_leftovers(self.path)
            self._claim()
        except BaseException:
            self.lock.release()
            raise
        return self

    def __exit__(self, *error):
        self.lock.release()

    def _claim(self):
        """Write the header, or see that the one there says the same."""
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

    def _write(self, path, content):
        try:
            with replacing(path) as file:
                json.dump(content, file, indent=1)
        except OSError as error:
            raise self._disk_error(error) from error

    def _disk_error(self, error):
        return InputError(
            f"out: cannot write to {self.path} ({error.strerror}); what was finished is kept: "
            "free space and run again"
        )

    def _row_path(self, pair):
        return self.path / ROWS / f"{key_of(pair)}.json"

    def registration(self, pair):
        """Where the registration of a pair goes."""
        return (self.path / REGISTRATIONS / key_of(pair)).resolve()

    def row(self, pair):
        """The row of a pair that is finished or failed, or None."""
        path = self._row_path(pair)
        return json.loads(path.read_text()) if path.exists() else None

    def keep(self, pair, row):
        """Write the row of a pair: from here on it is not lost."""
        self._write(self._row_path(pair), row)

    def check_inputs(self, pairs):
        """Digest of every file; refused where a finished pair was made from another content."""
        digests = {}
        for name in sorted({name for pair in pairs for name in files_of(pair)}):
            digests[name] = sha256(name) if Path(name).is_file() else None
        for pair in pairs:
            row = self.row(pair)
            if row is None or row["state"] != DONE:
                continue
            now = identity_of(pair, [digests[name] for name in files_of(pair)])
            changed = [key for key, value in now.items() if row.get(key) != value]
            if changed:
                raise InputError(
                    f"pairs: {pair.source} to {pair.target} was labelled from other inputs "
                    f"({', '.join(changed)} changed); give another folder for the new ones"
                )
        return digests

    def write_table(self, rows):
        """``labels.csv``: every column that any row has."""
        try:
            write_table(self.path / TABLE, rows)
        except OSError as error:
            raise self._disk_error(error) from error


def read_table(folder):
    """Rows of a finished folder's ``labels.csv``, as text.

    Raises
    ------
    InputError
        There is none.
    """
    path = Path(folder) / TABLE
    if not path.is_file():
        raise InputError(f"folder: no {TABLE} in {folder}; give the folder of a finished label run")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
