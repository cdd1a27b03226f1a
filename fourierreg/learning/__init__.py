"""Neural networks that predict α from a pair of images: data, training and prediction (Keras 3)."""

from fourierreg.errors import MissingDependencyError
from fourierreg.learning.environment import allocate_on_demand, silence_stderr

allocate_on_demand()
try:
    with silence_stderr():
        import keras  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        f"networks need Keras and one of its backends ({error}): pip install 'fourierreg[learn]', "
        "or set KERAS_BACKEND to one that is installed (tensorflow, jax, torch)"
    ) from error
