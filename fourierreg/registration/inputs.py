"""From the arguments of a public call to a `Problem`.

Images are checked, scaled, resampled onto one grid and padded.
"""

from dataclasses import dataclass

import numpy as np

from fourierreg import checks
from fourierreg.backend import array_module, backend_of
from fourierreg.errors import InputError, InputTypeError
from fourierreg.image.domain import Domain, padded_domain
from fourierreg.image.geometry import (
    Geometry,
    foreground_scale,
    is_nibabel,
    resample_onto,
    smoothed_for,
)
from fourierreg.model.full_grid import FullGridProblem
from fourierreg.model.full_grid import check as check_full_grid
from fourierreg.model.model import Model
from fourierreg.model.problem import Problem
from fourierreg.spectral.metric import Metric
from fourierreg.spectral.operators import default_reference_length

NEAR_ZERO = 1e-6  # of an image's range: smaller values are background


@dataclass(frozen=True)
class Inputs:
    """What a registration starts from.

    Attributes
    ----------
    problem : Problem
        Of one pair, on the padded grid, with weight 1.
    metric : Metric
        On the padded grid; its reference length is that of the images' own field of view.
    model : Model
    domain : Domain
    geometry : Geometry or None
        Of the target, where images came as nibabel images.
    source_geometry : Geometry or None
    original : ndarray or None
        The source on its own grid, scaled, from which `deformed` is interpolated once.
    scales : tuple of float
        What the intensities of source and target were divided by.
    """

    problem: Problem
    metric: Metric
    model: Model
    domain: Domain
    geometry: Geometry | None
    source_geometry: Geometry | None
    original: object
    scales: tuple


def read_inputs(source, target, model, *, alpha, spacing=None, mask=None, pad=True):
    """Check every argument once and build the `Inputs`."""
    alpha = checks.positive("alpha", alpha)
    geometry = source_geometry = original = None
    scales = (1.0, 1.0)
    if is_nibabel(source) or is_nibabel(target):
        _check_nibabel(source, target, spacing)
        geometry, source_geometry = Geometry.of(target), Geometry.of(source)
        spacing = geometry.spacing
        original, source_scale = _scaled(source)
        target, target_scale = _scaled(target)
        source, scales = original, (source_scale, target_scale)
        if not source_geometry.matches(geometry):
            source = _onto_target_grid(original, source_geometry, geometry)
    source = _without_near_zero(checks.image("source", source))
    target = _without_near_zero(checks.image("target", target))
    checks.same_shape("source", source, "target", target)
    spacing = checks.spacing(spacing, target.ndim)
    mask = checks.mask(mask, target)
    if model.space == "bandlimited":
        checks.modes(model.modes, tuple(target.shape))
    else:
        check_full_grid(backend_of(source), model)
    domain = padded_domain(source, target, pad)
    if model.reference_length is None:  # of the images, not of the padded grid
        length = default_reference_length(target.shape, spacing)
        metric = model.with_fields(reference_length=length).metric(
            domain.padded_shape, spacing, alpha
        )
    else:
        metric = model.metric(domain.padded_shape, spacing, alpha)
    kind = FullGridProblem if model.space == "full" else Problem
    problem = kind.of_pair(
        domain.pad(source),
        domain.pad(target),
        spacing,
        mask=None if mask is None else domain.pad(mask),
        similarity=model.similarity,
        **model.flow(),
    )
    return Inputs(problem, metric, model, domain, geometry, source_geometry, original, scales)


def _check_nibabel(source, target, spacing):
    if not (is_nibabel(source) and is_nibabel(target)):
        raise InputTypeError(
            "source, target: expected two arrays or two nibabel images; got one of each"
        )
    if spacing is not None:
        raise InputError("spacing: nibabel images bring their own; leave it out")


def _onto_target_grid(original, source_geometry, geometry):
    """The source on the grid of the target, low-passed first where that is coarser."""
    coarser = geometry.spacing_along(source_geometry)
    smooth = smoothed_for(original, source_geometry, coarser)
    source = resample_onto(smooth, source_geometry, geometry)
    if not np.any(source):
        raise InputError(
            "source: does not overlap the target in scanner space: check the affines "
            "(fslorient, nibabel), or align the images first"
        )
    return source


def _without_near_zero(image):
    """An image with values below `NEAR_ZERO` of its range set to zero.

    Resampling leaves them around a brain: they would count as foreground, and subnormal numbers
    slow every pass over the voxels fourfold.
    """
    xp = array_module(image)
    threshold = NEAR_ZERO * float(xp.max(image) - xp.min(image))
    return xp.where(xp.abs(image) < threshold, image.dtype.type(0), image)


def _scaled(image):
    """Voxels of a nibabel image divided by the 99.5th percentile of its foreground."""
    data = np.asanyarray(image.dataobj)
    if data.dtype.kind not in "biuf":
        raise InputTypeError(f"image: expected real-valued voxels; got dtype {data.dtype}")
    if data.ndim == 4 and data.shape[3] == 1:
        data = data[..., 0]
    if data.ndim != 3:
        raise InputError(
            f"image: expected a 3D volume; got shape {data.shape}: extract one volume first"
        )
    data = np.ascontiguousarray(data, dtype=np.float32)
    scale = foreground_scale(data)
    return data / np.float32(scale if scale > 0 else 1.0), scale
