"""Atomic file writes: a file is written under a temporary name and renamed when complete."""

import contextlib
import csv
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

PARTIAL_PREFIX = ".part-"


@contextlib.contextmanager
def atomic_write(path: Path | str, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file that is renamed to `path` if the block raises no exception."""
    with temporary_path(path) as temporary, open(temporary, mode) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def temporary_path(path: Path | str) -> Iterator[str]:
    """Temporary path in the folder of `path`, with the same suffix, renamed to `path` on success.

    If the block raises an exception, the temporary file is deleted and `path` is unchanged.
    """
    path = Path(path)
    suffix = "".join(path.suffixes[-2:])
    handle, name = tempfile.mkstemp(prefix=PARTIAL_PREFIX, suffix=suffix, dir=path.parent)
    os.close(handle)
    try:
        yield name
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def remove_partial_files(folder: Path | str) -> None:
    """Delete the temporary files that killed processes left in a folder and its subfolders.

    No other process may be writing to the folder.
    """
    for path in Path(folder).rglob(f"{PARTIAL_PREFIX}*"):
        path.unlink(missing_ok=True)


def write_json(path: Path | str, content: Any) -> None:
    """Write a JSON file atomically; ValueError where it has NaN or infinity, which JSON lacks."""
    with atomic_write(path) as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")


def write_table(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV table atomically; its columns are the union of the keys of all rows."""
    with atomic_write(path) as file:
        write_rows(file, rows)


def write_rows(file: IO[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a CSV table to an open file; its columns are the union of the keys of all rows."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _umask() -> int:
    """File mode creation mask of the process."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
