"""From a pair of images to α by a network: architectures, data, training, prediction. Keras 3."""

from fourierreg.errors import MissingDependencyError
from fourierreg.learning.environment import allocate_on_demand, quiet

allocate_on_demand()
try:
    with quiet():
        import keras  # noqa: F401
except ImportError as error:
    raise MissingDependencyError(
        f"networks need Keras and one of its backends ({error}): pip install 'fourierreg[learn]', "
        "or set KERAS_BACKEND to one that is installed (tensorflow, jax, torch)"
    ) from error
