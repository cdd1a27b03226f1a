"""Files that are complete or absent: written beside their final name, then renamed."""

import contextlib
import os
import tempfile
from pathlib import Path


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
    handle, name = tempfile.mkstemp(prefix=".part-", suffix=suffix, dir=path.parent)
    os.close(handle)
    try:
        yield name
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
