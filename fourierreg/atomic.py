"""Files that are complete or absent: written beside their final name, then renamed."""

import contextlib
import csv
import os
import tempfile
from pathlib import Path

PREFIX = ".part-"


@contextlib.contextmanager
def replacing(path, mode="w"):
    """Open a temporary file that takes the name `path` only when the block ends well."""
    with temporary_path(path) as temporary, open(temporary, mode) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def temporary_path(path):
    """A path beside `path`, with the same ending, renamed to it when the block ends well."""
    path = Path(path)
    suffix = "".join(path.suffixes[-2:])
    handle, name = tempfile.mkstemp(prefix=PREFIX, suffix=suffix, dir=path.parent)
    os.close(handle)
    try:
        yield name
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def remove_leftovers(folder):
    """Delete what killed processes had begun to write in a folder and below; nobody else may be
    writing there."""
    for path in Path(folder).rglob(f"{PREFIX}*"):
        path.unlink(missing_ok=True)


def write_table(path, rows):
    """A CSV table of dictionaries, all or nothing: every column that any row has."""
    with replacing(path) as file:
        write_rows(file, rows)


def write_rows(file, rows):
    """The same into an open file."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
