"""From a pair of images to α by a network: architectures, data, training, prediction. Keras 3."""

from fourierreg.learning.quiet import quiet
from fourierreg.learning.sharing import take_memory_on_demand

take_memory_on_demand()
try:
    with quiet():
        import keras  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"networks need Keras and one of its backends ({error}): pip install 'fourierreg[learn]', "
        "or set KERAS_BACKEND to one that is installed (tensorflow, jax, torch)"
    ) from error
