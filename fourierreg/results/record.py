"""``result.json``: the arguments that repeat a run, and its results in numbers."""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from fourierreg import __version__
from fourierreg.backend import get_backend
from fourierreg.backend.threads import num_threads
from fourierreg.data.nifti import sha256
from fourierreg.image.metrics import jacobian_statistics
from fourierreg.registration.result import Registration

RECORD = "result.json"
PACKAGES = ("numpy", "scipy", "numba", "nibabel")


def origin(arguments: Sequence[str]) -> dict[str, Any]:
    """What made a result, and when."""
    return {
        "fourierreg": __version__,
        "arguments": list(arguments),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def input_record(path: Path | str) -> dict[str, Any]:
    """Absolute path and digest of an input file."""
    return {"path": os.path.abspath(path), "sha256": sha256(path)}


def result_record(
    result: Registration,
    inputs: Mapping[str, Any],
    parameters: Mapping[str, Any],
    arguments: Sequence[str],
) -> dict[str, Any]:
    """Contents of ``result.json``: what repeats the registration, and its results in numbers.

    Parameters
    ----------
    result : Registration
    inputs : dict
        Path, digest and intensity scale of each input file, including a mask.
    parameters : dict
        Keywords that repeat the registration from Python.
    arguments : list of str
        Arguments of ``fourierreg`` that repeat it from the command line.
    """
    interval: Any = result.alpha_interval
    finite = interval is not None and all(np.isfinite(interval))
    return {
        **origin(arguments),
        "inputs": inputs,
        "parameters": parameters,
        "alpha": result.alpha,
        "posterior": result.posterior,
        "held_out": None if result.held_out is None else [list(pair) for pair in result.held_out],
        "alpha_interval_95": list(interval) if finite else None,
        "smoothing_length_mm": result.smoothing_length,
        "similarity": result.similarity,
        "weight": result.weight,
        "sigma": result.sigma,
        "decimation": result.decimation,
        "velocity_scale_mm": result.metric.velocity_scale,
        "reference_length_mm": result.metric.reference_length,
        "dynamics": result.model.dynamics,
        "space": result.model.space,
        "modes": list(result.metric.band.modes),
        "computation_shape": list(result.metric.band.shape),
        "converged": result.converged,
        "status": result.status,
        "warnings": list(result.warnings),
        "log_evidence": result.log_evidence,
        "log_evidence_error": result.log_evidence_error,
        "iterations": len(result.history),
        "seconds": round(result.seconds, 3),
        "jacobian": jacobian_statistics(result.jacobian_determinant),
        "backend": get_backend(),
        "versions": {"python": platform.python_version(), **_versions()},
        "threads": num_threads(),
    }


def _versions() -> dict[str, str]:
    """Versions of the installed dependencies."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
