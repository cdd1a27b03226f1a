"""The process Keras is imported into: TensorFlow's messages, and memory of a GPU shared with CuPy.

TensorFlow and JAX allocate most of a GPU when they first use it, and CuPy, which registers images
in the same process, would find none left. Labels come from processes of their own, which free their
memory when they end (`fourierreg.data.cluster`); `train` has CuPy free its idle memory first.
"""

import contextlib
import os

LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
ON_DEMAND = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def allocate_on_demand():
    """Before Keras is imported: have its backend allocate GPU memory as needed, unless the user
    set these variables."""
    for name, value in ON_DEMAND.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def quiet():
    """Silence stderr, compiled code included, inside the block; exceptions are still raised.

    Nothing is silenced where the user has set TF_CPP_MIN_LOG_LEVEL.
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
