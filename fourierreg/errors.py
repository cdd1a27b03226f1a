"""Errors that users can mend: the command line prints them in one line, without a traceback.

So does it with a full disk (OSError) and memory that ran out (MemoryError). Every other exception
is a bug of this package, or of a library, and keeps its traceback.
"""


class InputError(ValueError):
    """Arguments or files that cannot be used: one line that says which argument, what was expected,
    what came and what to do."""


class InputTypeError(InputError, TypeError):
    """As `InputError`, for a value of the wrong type."""


class MissingDependencyError(InputError, ImportError):
    """A package of one of the extras is not installed; the line says how to install it."""


class BackendUnavailableError(InputError, RuntimeError):
    """There is no GPU, or none that can be used; or kernels cannot run in this process, a fork."""
