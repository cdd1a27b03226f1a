"""A view of a 3D registration to turn and scroll through, in JupyterLab."""

import nibabel as nib
import numpy as np

from fourierreg.backend import to_numpy
from fourierreg.errors import InputError


def interactive_view(result, target=None):
    """The deformed source, the target and, over them, ln det Dφ⁻¹ where the deformed source is not
    zero, to scroll through.

    Parameters
    ----------
    result : Registration
        In 3D.
    target : array or nibabel image, optional
        On the registration's grid.

    Returns
    -------
    ipyniivue.NiiVue, or matplotlib.figure.Figure
        Three planes that do not move, where ipyniivue is not installed.

    Raises
    ------
    ValueError
        A registration in 2D.
    """
    if len(result.spacing) != 3:
        raise InputError(
            "result: expected a registration in 3D; got one in 2D, for which there is overview"
        )
    log_j = np.log(np.maximum(to_numpy(result.jacobian_determinant), 1e-3))
    deformed = to_numpy(result.deformed)
    log_j = np.where(deformed != 0, log_j, 0.0)  # around a brain it is the prior's alone
    layers = {"deformed source": deformed, "ln det": log_j}
    if target is not None:
        values = target.get_fdata() if hasattr(target, "get_fdata") else to_numpy(target)
        layers = {"target": values, **layers}
    try:
        from ipyniivue import NiiVue, Volume
    except ModuleNotFoundError:
        return _static(layers, result.spacing)
    matrix = np.diag([*result.spacing, 1.0]) if result.geometry is None else result.geometry.matrix
    reach = float(np.abs(log_j).max()) or 1.0
    styles = {
        "ln det": {
            "colormap": "warm",
            "colormap_negative": "winter",
            "cal_min": 0.1 * reach,
            "cal_max": reach,
            "opacity": 0.4,
        }
    }
    viewer = NiiVue(height=420)
    viewer.load_volumes(
        [
            Volume(
                data=nib.Nifti1Image(values.astype(np.float32), matrix).to_bytes(),
                name=f"{name}.nii",
                **styles.get(name, {}),
            )
            for name, values in layers.items()
        ]
    )
    return viewer


def _static(layers, spacing):
    """The same in three planes."""
    from matplotlib.figure import Figure

    from fourierreg.plotting.views import map_views, orthogonal_views

    figure = Figure(figsize=(9, 3.1 * len(layers)), layout="constrained")
    axes = figure.subplots(len(layers), 3)
    for line, (name, values) in zip(axes, layers.items(), strict=True):
        line[0].set_ylabel(name)
        if name == "ln det":
            figure.colorbar(map_views(line, values, spacing=spacing), ax=line, label="ln det Dφ⁻¹")
        else:
            orthogonal_views(line, values, spacing=spacing)
    return figure
