"""From the arguments of a public call to a problem: images checked, scaled, placed and padded; the
noise they are taken to have."""

from dataclasses import dataclass

import numpy as np

from fourierreg import checks
from fourierreg.backend import array_module
from fourierreg.errors import InputError, InputTypeError
from fourierreg.geodesic.shooting import DYNAMICS, INTEGRATORS
from fourierreg.image.domain import Domain, padded_domain
from fourierreg.image.geometry import (
    Geometry,
    foreground_scale,
    is_nibabel,
    resample_onto,
    smoothed_for,
)
from fourierreg.image.similarity import similarity_of
from fourierreg.model import full_grid as spatial
from fourierreg.model.full_grid import FullGridProblem
from fourierreg.model.problem import Problem
from fourierreg.model.uncertainty import NUM_SAMPLES
from fourierreg.registration.multiresolution import Noise
from fourierreg.spectral.metric import Metric
from fourierreg.spectral.operators import default_reference_length

SPACES = ("bandlimited", "full")
DUST = 1e-6  # of an image's range
# Euler steps by number of axes. In 3D five give the Dice and the α of ten in three quarters of the
# time; in 2D, where time is no matter, ten are closer to the continuous geodesic.
NUM_STEPS = {2: 10, 3: 5}


@dataclass(frozen=True)
class Setup:
    """What a registration starts from.

    Attributes
    ----------
    problem : Problem
        On the padded grid, with weight 1.
    metric : Metric
        Of the padded grid; its reference length is that of the images' own field of view.
    domain : Domain
    geometry : Geometry or None
        Of the target, where images came as nibabel images.
    source_geometry : Geometry or None
    original : ndarray or None
        The source on its own grid, scaled: what `deformed` samples once.
    scales : tuple of float
        What source and target were divided by.
    """

    problem: Problem
    metric: Metric
    domain: Domain
    geometry: Geometry | None
    source_geometry: Geometry | None
    original: object
    scales: tuple


def prepare(
    source,
    target,
    *,
    spacing,
    modes,
    alpha,
    power,
    reference_length,
    velocity_scale,
    mask,
    num_steps,
    integrator,
    dynamics,
    pad,
    space,
    similarity="ssd",
):
    """Check every argument once and build the `Setup`."""
    if num_steps is not None:
        checks.count("num_steps", num_steps)
    checks.choice("integrator", integrator, INTEGRATORS)
    checks.choice("dynamics", dynamics, tuple(DYNAMICS))
    checks.choice("space", space, SPACES)
    similarity = similarity_of(similarity)
    alpha = checks.positive("alpha", alpha)
    geometry = source_geometry = original = None
    scales = (1.0, 1.0)
    if is_nibabel(source) or is_nibabel(target):
        if not (is_nibabel(source) and is_nibabel(target)):
            raise InputTypeError(
                "source, target: expected two arrays or two nibabel images; got one of each"
            )
        if spacing is not None:
            raise InputError("spacing: nibabel images bring their own; leave it out")
        geometry, source_geometry = Geometry.of(target), Geometry.of(source)
        spacing = geometry.spacing
        original, source_scale = _scaled(source)
        target, target_scale = _scaled(target)
        source, scales = original, (source_scale, target_scale)
        if not source_geometry.matches(geometry):
            coarser = geometry.spacing_along(source_geometry)
            smooth = smoothed_for(original, source_geometry, coarser)
            source = resample_onto(smooth, source_geometry, geometry)
            if not np.any(source):
                raise InputError(
                    "source: does not overlap the target in scanner space: check the affines "
                    "(fslorient, nibabel), or align the images first"
                )
    source = _without_dust(checks.image("source", source))
    target = _without_dust(checks.image("target", target))
    checks.same_shape("source", source, "target", target)
    spacing = checks.spacing(spacing, target.ndim)
    mask = checks.mask(mask, target)
    if space == "bandlimited":
        checks.modes(modes, tuple(target.shape))
    if reference_length is None:
        reference_length = default_reference_length(target.shape, spacing)
    domain = padded_domain(source, target, pad)
    metric = Metric.create(
        domain.padded_shape,
        spacing=spacing,
        modes=domain.padded_shape if space == "full" else modes,
        alpha=alpha,
        power=power,
        reference_length=reference_length,
        velocity_scale=velocity_scale,
    )
    if space == "full":
        spatial.check(source, integrator, dynamics)
    problem = (FullGridProblem if space == "full" else Problem)(
        domain.pad(source),
        domain.pad(target),
        spacing,
        1.0,
        mask=None if mask is None else domain.pad(mask),
        num_steps=NUM_STEPS[target.ndim] if num_steps is None else num_steps,
        integrator=integrator,
        dynamics=dynamics,
        similarity=similarity,
    )
    return Setup(problem, metric, domain, geometry, source_geometry, original, scales)


def noise_model(sigma, decimation):
    """`Noise` from the arguments `sigma` and `decimation`."""
    if decimation is not None:
        decimation = checks.positive("decimation", decimation)
        if decimation > 1:
            raise InputError(
                f"decimation: expected a fraction of voxels, at most 1; got {decimation}"
            )
    if isinstance(sigma, str):
        if sigma != "estimate":
            raise InputError(f"sigma: expected a number above 0, or 'estimate'; got {sigma!r}")
        return Noise(1.0, 1.0, True, fixed_decimation=decimation)
    return Noise(checks.positive("sigma", sigma), 1.0 if decimation is None else decimation, False)


def sample_count(uncertainty, problem):
    """Posterior samples that the argument `uncertainty` asks for."""
    if uncertainty is False or uncertainty is None:
        return 0
    if uncertainty is True:
        uncertainty = NUM_SAMPLES
    checks.count("uncertainty", uncertainty)
    if not problem.similarity.gaussian:
        raise InputError(
            "uncertainty: needs a likelihood, which this similarity is not; use similarity='ssd'"
        )
    if isinstance(problem, FullGridProblem):
        raise InputError("uncertainty: not available with space='full'; use space='bandlimited'")
    return uncertainty


def _without_dust(image):
    """An image with values below `DUST` of its range set to zero.

    Resampling leaves them around a brain: they would count as foreground, and where they are
    subnormal numbers every pass over the voxels takes four times its time.
    """
    xp = array_module(image)
    dust = DUST * float(xp.max(image) - xp.min(image))
    return xp.where(xp.abs(image) < dust, image.dtype.type(0), image)


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
