"""From the arguments of a public call to a `Problem`.

Images are checked, scaled, resampled onto one grid and padded.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fourierreg import checks
from fourierreg.backend import Array, array_module, asarray, backend_of
from fourierreg.errors import InputError, InputTypeError
from fourierreg.image.domain import Domain, padded_domain
from fourierreg.image.foreground import Background, background_of, compared, is_cut
from fourierreg.image.geometry import (
    Geometry,
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


def shape_of(image: Any) -> tuple[int, ...]:
    """Voxels along each axis of an image that was given, () where it does not say."""
    return tuple(getattr(image, "shape", ()))[:3]


@dataclass(frozen=True)
class Inputs:
    """What a registration starts from.

    Attributes
    ----------
    problem : Problem
        Of one pair, on the padded grid, with weight 1; backgrounds are subtracted.
    inside : bool array
        Voxels of the padded grid that count as data: foreground of either image, within the mask.
    background : float
        Of the source, in the units of `original`.
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
    inside: Array
    background: float
    metric: Metric
    model: Model
    domain: Domain
    geometry: Geometry | None = None
    source_geometry: Geometry | None = None
    original: object = None
    scales: tuple = (1.0, 1.0)


def read_inputs(source, target, model, *, alpha, spacing=None, mask=None, pad=True):
    """Check every argument once and build the `Inputs`."""
    alpha = checks.positive("alpha", alpha)
    read = _read_nibabel if is_nibabel(source) or is_nibabel(target) else _read_arrays
    images, spacing, shown, origin = read(source, target, spacing)
    source, target = map(checks.image, ("source", "target"), images)
    checks.same_shape("source", source, "target", target)
    backgrounds = background_of(source), background_of(target)
    mask = checks.mask(_mask_array(mask, origin.get("geometry")), target)
    mask, inside = _counted(source, target, backgrounds, mask, shown)
    source, target = map(_without_background, (source, target), backgrounds)
    spacing = checks.spacing(spacing, target.ndim)
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
    background = backgrounds[0].value
    return Inputs(problem, domain.pad(inside), background, metric, model, domain, **origin)


def _read_arrays(source, target, spacing):
    """Two arrays, their spacing, the voxels that each shows, and no geometry."""
    (source, seen), (target, also_seen) = map(_unmasked, (source, target))
    return (source, target), spacing, (seen, also_seen), {}


def _read_nibabel(source, target, spacing):
    """Two scaled images on the grid of the target, its spacing, the voxels that the source covers,
    and where they come from, as fields of `Inputs`."""
    _check_nibabel(source, target, spacing)
    geometry, source_geometry = Geometry.of(target, "target"), Geometry.of(source, "source")
    original, source_scale = _scaled(source)
    target, target_scale = _scaled(target)
    moving, covered = original, None
    if not source_geometry.matches(geometry):
        moving, covered = _onto_target_grid(original, source_geometry, geometry)
    origin = {
        "geometry": geometry,
        "source_geometry": source_geometry,
        "original": original,
        "scales": (source_scale, target_scale),
    }
    return (moving, target), geometry.spacing, (covered,), origin


def _mask_array(mask: Any, geometry: Geometry | None) -> Any:
    """The voxels of a mask that may be a nibabel image on the grid of the target."""
    if not is_nibabel(mask):
        return mask
    if geometry is None or not Geometry.of(mask, "mask").matches(geometry):
        raise InputError(
            "mask: expected an image on the grid of the target; resample it there (nearest "
            "neighbor), or give an array"
        )
    return np.asanyarray(mask.dataobj).reshape(_volume_shape(mask))


def _unmasked(image: Any) -> tuple[Any, np.ndarray | None]:
    """An image without what a masked array masks, and the voxels it shows (None: all)."""
    if not isinstance(image, np.ma.MaskedArray) or image.mask is np.ma.nomask:
        return image, None
    shown = ~np.ma.getmaskarray(image)
    return image.filled(np.median(image.data[shown]) if shown.any() else 0), shown


def _counted(
    source: Array,
    target: Array,
    backgrounds: tuple[Background, Background],
    mask: Array | None,
    shown: tuple[np.ndarray | None, ...],
) -> tuple[Array | None, Array]:
    """Voxels that are compared (None: all), and those of them that count as data.

    Far from the foreground a noisy background is not compared: with a similarity that is blind to
    contrast its noise would count as much as the object.
    """
    of_source, of_target = backgrounds
    inside = of_source.foreground(source) | of_target.foreground(target)
    for seen in shown:
        if seen is not None:
            mask = asarray(seen) if mask is None else mask & asarray(seen)
    if mask is not None and bool((inside & mask).any()):
        inside = inside & mask
    elif mask is not None:
        raise InputError("mask: expected voxels of the images' foreground; got background alone")
    if not (of_source.is_clean and of_target.is_clean):
        near = compared(inside)
        mask = near if mask is None else mask & near
    return mask, inside


def _volume_shape(image: Any) -> tuple[int, ...]:
    """Shape of a nibabel image without a fourth axis of one volume."""
    shape = tuple(image.shape)
    return shape[:3] if shape[3:] == (1,) else shape


def _check_nibabel(source, target, spacing):
    for name, image in (("source", source), ("target", target)):
        checks.refuse_foreign(name, image)
    if not (is_nibabel(source) and is_nibabel(target)):
        raise InputTypeError(
            "source, target: expected two arrays or two nibabel images; got one of each"
        )
    for name, image in (("source", source), ("target", target)):
        if len(_volume_shape(image)) != 3 or 1 in _volume_shape(image):
            raise InputError(
                f"{name}: expected a volume with three axes; got shape {image.shape}: take one "
                "volume (image.slicer), and register slices as 2D arrays, with their spacing"
            )
    if spacing is not None:
        raise InputError("spacing: nibabel images bring their own; leave it out")


def _onto_target_grid(original, source_geometry, geometry):
    """The source on the grid of the target, low-passed first where that is coarser; and the voxels
    that it covers, or None where what it does not cover is background."""
    background = background_of(original)
    data = original - np.float32(background.value)
    coarser = geometry.spacing_along(source_geometry)
    smooth = smoothed_for(data, source_geometry, coarser)
    source, covered = resample_onto(smooth, source_geometry, geometry), None
    if not np.any(source):
        raise InputError(
            "source: does not overlap the target in scanner space: check the affines "
            "(fslorient, nibabel), or align the images first"
        )
    if is_cut(original, background):
        everywhere = np.ones(original.shape, np.float32)
        covered = resample_onto(everywhere, source_geometry, geometry, order=0) > 0
        source = resample_onto(smooth, source_geometry, geometry, extend=True)
    return source + np.float32(background.value), None if np.all(covered) else covered


def _without_background(image, background):
    """An image with a background of zero, where it has one.

    Values near zero are zero: resampling leaves them around a brain, and subnormal numbers slow
    every pass over the voxels fourfold.
    """
    xp = array_module(image)
    image = image - image.dtype.type(background.value)
    threshold = NEAR_ZERO * float(xp.max(image) - xp.min(image))
    return xp.where(xp.abs(image) < threshold, image.dtype.type(0), image)


def _scaled(image):
    """Voxels of a nibabel image divided by the 99.5th percentile of its foreground.

    A background other than zero stays.
    """
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
    scale = background_of(data).scale
    return data / np.float32(scale if scale > 0 else 1.0), scale
