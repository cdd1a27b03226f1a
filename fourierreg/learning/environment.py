"""Process settings for Keras: TensorFlow's log messages, and GPU memory shared with CuPy.

By default TensorFlow and JAX allocate most of a GPU when they first use it, which leaves no memory
for registrations by CuPy in the same process. Workers that label pairs are separate processes and
free their memory when they end (`fourierreg.data.cluster`); `train` frees the unused blocks of
CuPy's memory pools first.
"""

import contextlib
import os
from collections.abc import Iterator

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
ON_DEMAND = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def allocate_on_demand() -> None:
    """Make the backend of Keras allocate GPU memory as needed; call it before Keras is imported.

    Environment variables that the user has set are kept.
    """
    for name, value in ON_DEMAND.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def silence_stderr() -> Iterator[None]:
    """Discard what is written to stderr, by compiled code too; exceptions are still raised.

    Nothing is discarded if the user has set ``TF_CPP_MIN_LOG_LEVEL``.
    """
    if LOG_LEVEL in os.environ:
        yield
        return
    os.environ[LOG_LEVEL] = "3"
    try:
        saved = os.dup(2)
    except OSError:  # no stderr
        yield
        return
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
