"""TensorFlow's notes on the processor, which it writes to the terminal whoever imports it."""

import contextlib
import os

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


@contextlib.contextmanager
def quiet():
    """Nothing on stderr, not even from compiled code, within the block; errors still are raised.

    Where the user has set TF_CPP_MIN_LOG_LEVEL, their wish stands.
    """
    if LEVEL in os.environ:
        yield
        return
    os.environ[LEVEL] = "3"
    try:
        kept = os.dup(2)
    except OSError:  # no stderr
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
