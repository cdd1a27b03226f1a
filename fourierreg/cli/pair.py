"""`fourierreg map-alpha` and `fourierreg register`: a pair of files."""

import contextlib
import os

from fourierreg.cli.common import (
    Progress,
    add_common_options,
    alpha_rows,
    finish,
    noise_of,
    read_label_pair,
    without_nan,
    write_pair,
)
from fourierreg.errors import InputError


def add_to(commands):
    """Add the commands to the parser."""
    infer = commands.add_parser(
        "map-alpha", help="infer α for a pair, and register it", description=_map_alpha.__doc__
    )
    _pair_arguments(infer)
    infer.add_argument("--posterior", choices=["marginal", "joint"], default="marginal")
    infer.add_argument("--alpha0", type=float, default=3.0, help="where the search starts")
    infer.add_argument(
        "--alpha-prior",
        type=float,
        nargs=2,
        metavar=("SHAPE", "SCALE"),
        help="Gamma prior of α (default: flat in ln α)",
    )
    infer.set_defaults(run=_map_alpha)

    fixed = commands.add_parser(
        "register", help="register at a given α", description=_register.__doc__
    )
    _pair_arguments(fixed)
    fixed.add_argument("--alpha", type=float, required=True)
    fixed.add_argument(
        "--similarity", choices=["ssd", "ncc", "lncc", "mi"], default="ssd", help="default ssd"
    )
    fixed.add_argument("--weight", type=float, help="γ of the similarity, instead of σ and ρ")
    fixed.set_defaults(run=_register)


def _pair_arguments(parser):
    parser.add_argument("source", metavar="SOURCE", help="3D NIfTI image, skull-stripped")
    parser.add_argument("target", metavar="TARGET", help="3D NIfTI image, affinely aligned to it")
    parser.add_argument("-o", "--output", required=True, metavar="DIR")
    parser.add_argument("--modes", type=int, default=16, help="band per axis (default 16)")
    parser.add_argument("--sigma", help='noise σ, or "estimate" (default, for ssd)')
    parser.add_argument("--decimation", type=float, help="ρ, the fraction of independent voxels")
    parser.add_argument("--num-steps", type=int, help="of the geodesic (default 5)")
    parser.add_argument(
        "--dynamics",
        choices=["epdiff", "stationary"],
        default="epdiff",
        help="geodesic (default), or the flow of a stationary velocity",
    )
    parser.add_argument("--velocity-scale", type=float, help="s in mm (default ℓ/8)")
    parser.add_argument("--max-iterations", type=int, help="of one fit, on any grid")
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="also write uncertainty.nii.gz: standard deviation of the displacement in mm, one "
        "volume per array axis",
    )
    parser.add_argument("--mask", help="voxels of the target that count")
    parser.add_argument("--source-labels", help="labels on the source, for Dice")
    parser.add_argument("--target-labels", help="labels on the target, for Dice")
    add_common_options(parser, backend=True)


def _map_alpha(options):
    """Infer the regularization strength α of a pair of images, with a 95 % interval, and register
    the source to the target at it."""
    from fourierreg import map_alpha

    parameters = {
        "posterior": options.posterior,
        "alpha0": options.alpha0,
        "alpha_prior": options.alpha_prior,
    }
    if options.sigma is None:
        options.sigma = "estimate"
    return _run_pair(options, map_alpha, parameters, "inferring α")


def _register(options):
    """Register the source to the target at a given regularization strength α."""
    from fourierreg import register

    parameters = {
        "alpha": options.alpha,
        "similarity": options.similarity,
        "weight": options.weight,
    }
    return _run_pair(options, register, parameters, "registering")


def _run_pair(options, function, parameters, doing):
    """Read, compute, write: what `map-alpha` and `register` share."""
    from fourierreg.backend import set_backend
    from fourierreg.data.nifti import read_image
    from fourierreg.results import folder as output

    set_backend(options.backend)
    files = {"source": options.source, "target": options.target}
    source, target = (read_image(path, name) for name, path in files.items())
    labels = read_label_pair(options)
    parameters |= {
        "modes": options.modes,
        "sigma": noise_of(options.sigma),
        "decimation": options.decimation,
        "num_steps": options.num_steps,
        "dynamics": options.dynamics,
        "velocity_scale": options.velocity_scale,
        "uncertainty": options.uncertainty,
    }
    if options.max_iterations is not None:
        parameters["max_iterations"] = options.max_iterations
    mask = None
    if options.mask is not None:
        files["mask"] = options.mask
        mask = _mask_on(target, options.mask)
    new = not os.path.exists(options.output)
    folder = output.prepare_folder(options.output)
    try:
        with Progress(doing, options) as progress:
            result = function(source, target, mask=mask, callback=progress, **parameters)
    except BaseException:
        if new:  # nothing was computed: leave nothing
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    parameters["num_steps"] = result.num_steps
    rows, extra = alpha_rows(result), {}
    if labels is not None:
        extra["dice"] = _dice(result, *labels)
        before, after = (extra["dice"][f"mean_{when}"] for when in ("before", "after"))
        if before is not None:
            rows.append(("mean Dice", f"{before:.3f} before, {after:.3f} after"))
    report = write_pair(folder, result, source, target, files, parameters, options, extra)
    return finish(options, rows, report, folder, result)


def _mask_on(target, path):
    """Voxels of a mask, which must lie on the target's grid."""
    from fourierreg.data.nifti import read_labels
    from fourierreg.image.geometry import Geometry

    mask = read_labels(path, "--mask")
    if not Geometry.of(mask).matches(Geometry.of(target)):
        raise InputError(
            f"--mask: {path} lies on another grid than the target (shape or affine); resample it "
            "there (antsApplyTransforms -n NearestNeighbor)"
        )
    return mask.get_fdata() != 0


def _dice(result, source_labels, target_labels):
    """Dice of every label before (headers only) and after."""
    from fourierreg.image.metrics import overlaps_of

    found = overlaps_of(result, source_labels, target_labels)
    before, after = found.pop("mean")
    return without_nan(
        {
            "mean_before": before,
            "mean_after": after,
            "before": {name: values[0] for name, values in found.items()},
            "after": {name: values[1] for name, values in found.items()},
        }
    )
