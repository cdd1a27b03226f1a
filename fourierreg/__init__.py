"""Diffeomorphic image registration in a bandlimited Fourier space, with an inferred α.

`map_alpha` infers the regularization strength α of a pair of images, with an error bar, and
registers them; `register` does so at a given α. The same code runs under NumPy and CuPy:
`set_backend("cupy")`.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "set_backend": "fourierreg.backend",
    "get_backend": "fourierreg.backend",
    "use_backend": "fourierreg.backend",
    "to_numpy": "fourierreg.backend",
    "Metric": "fourierreg.spectral.metric",
    "sample_velocity": "fourierreg.geodesic.prior",
    "shoot": "fourierreg.geodesic.shooting",
    "warp": "fourierreg.image.deformation",
    "register": "fourierreg.registration.register",
    "map_alpha": "fourierreg.registration.map_alpha",
    "map_alpha_batch": "fourierreg.registration.map_alpha_batch",
    "Registration": "fourierreg.registration.result",
    "Model": "fourierreg.model.model",
    "prepare_brain": "fourierreg.preparation.brain",
    "simulate_pairs": "fourierreg.simulation.folder",
    "label_pairs": "fourierreg.labelling.run",
    "build_network": "fourierreg.learning.network",
    "train": "fourierreg.learning.training",
    "load_model": "fourierreg.learning.pretrained",
    "predict_alpha": "fourierreg.learning.prediction",
    "predict_pairs": "fourierreg.learning.prediction",
}

__all__ = [*_EXPORTS, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'fourierreg' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
