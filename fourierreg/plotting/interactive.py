"""Interactive view of a 3D registration in JupyterLab."""

from collections.abc import Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure

from fourierreg.backend import to_numpy
from fourierreg.errors import InputError
from fourierreg.plotting.views import map_views, orthogonal_views
from fourierreg.registration.result import Registration

LOG_JACOBIAN = "ln det"  # name of the layer of ln det Dφ⁻¹
MIN_DETERMINANT = 1e-3  # lower bound before the logarithm


def interactive_view(result: Registration, target: Any = None) -> Any:
    """Show the deformed source and, over it, ln det Dφ⁻¹, optionally with the target.

    ln det Dφ⁻¹ is shown where the deformed source is not zero.

    Parameters
    ----------
    result : Registration
        In 3D.
    target : array or nibabel image, optional
        On the grid of the registration.

    Returns
    -------
    ipyniivue.NiiVue, or matplotlib.figure.Figure
        A static figure of three planes if ipyniivue is not installed.

    Raises
    ------
    InputError
        The registration is 2D.
    """
    if len(result.spacing) != 3:
        raise InputError("result: expected a registration in 3D; got one in 2D: use overview")
    log_jacobian = np.log(np.maximum(to_numpy(result.jacobian_determinant), MIN_DETERMINANT))
    deformed = to_numpy(result.deformed)
    # Outside a brain only the prior determines the deformation.
    log_jacobian = np.where(deformed != 0, log_jacobian, 0.0)
    layers = {"deformed source": deformed, LOG_JACOBIAN: log_jacobian}
    if target is not None:
        values = target.get_fdata() if hasattr(target, "get_fdata") else to_numpy(target)
        layers = {"target": values, **layers}
    try:
        import ipyniivue
    except ModuleNotFoundError:
        return _static_figure(layers, result.spacing)
    affine = np.diag([*result.spacing, 1.0]) if result.geometry is None else result.geometry.matrix
    viewer = ipyniivue.NiiVue(height=420)
    viewer.load_volumes(
        [
            ipyniivue.Volume(
                data=nib.Nifti1Image(values.astype(np.float32), affine).to_bytes(),
                name=f"{name}.nii",
                **(_overlay_style(values) if name == LOG_JACOBIAN else {}),
            )
            for name, values in layers.items()
        ]
    )
    return viewer


def _overlay_style(values: np.ndarray) -> dict[str, Any]:
    """Colors and opacity of a signed map over an image; values near zero are transparent."""
    maximum = float(np.abs(values).max()) or 1.0
    return {
        "colormap": "warm",
        "colormap_negative": "winter",
        "cal_min": 0.1 * maximum,
        "cal_max": maximum,
        "opacity": 0.4,
    }


def _static_figure(layers: Mapping[str, np.ndarray], spacing: Sequence[float]) -> Figure:
    """Figure with a row of three planes for each layer."""
    figure = Figure(figsize=(9, 3.1 * len(layers)), layout="constrained")
    axes = figure.subplots(len(layers), 3)
    for row, (name, values) in zip(axes, layers.items(), strict=True):
        row[0].set_ylabel(name)
        if name == LOG_JACOBIAN:
            figure.colorbar(map_views(row, values, spacing=spacing), ax=row, label="ln det Dφ⁻¹")
        else:
            orthogonal_views(row, values, spacing=spacing)
    return figure
