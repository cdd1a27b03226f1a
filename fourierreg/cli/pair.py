"""`fourierreg map-alpha` and `fourierreg register`: a pair of files."""

from fourierreg.cli.common import Progress, add_common_options, alpha_rows, finish


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
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="also write uncertainty.nii.gz: standard deviation of the displacement in mm, one "
        "volume per array axis",
    )
    parser.add_argument("--mask", help="voxels of the target that count")
    parser.add_argument("--source-labels", help="labels on the source, for Dice")
    parser.add_argument("--target-labels", help="labels on the target, for Dice")
    add_common_options(parser)


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
    from fourierreg import output
    from fourierreg.backend import set_backend
    from fourierreg.data.nifti import read_image, read_labels

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
    mask = None
    if options.mask is not None:
        files["mask"] = options.mask
        mask = read_labels(options.mask, "--mask").get_fdata() != 0
    folder = output.prepare_folder(options.output)
    with Progress(doing, options) as progress:
        result = function(source, target, mask=mask, callback=progress, **parameters)
    parameters["num_steps"] = result.num_steps
    rows, extra = alpha_rows(result), {}
    if labels is not None:
        extra["dice"] = _dice(result, *labels)
        affine_only, after = extra["dice"]["mean_before"], extra["dice"]["mean_after"]
        rows.append(("mean Dice", f"{affine_only:.3f} before, {after:.3f} after"))
    report = write_pair(folder, result, source, target, files, parameters, options, extra)
    return finish(options, rows, report, folder, result)


def write_pair(folder, result, source, target, files, parameters, options, extra):
    """Write the folder of a run on two images; returns its report.

    Parameters
    ----------
    folder : Path
    result : Registration
    source, target : nibabel images
    files : dict
        Name to path of every input.
    parameters : dict
        Keywords that repeat the run from Python.
    options : argparse.Namespace
    extra : dict
        What else the report says.
    """
    from fourierreg import output
    from fourierreg.data.nifti import sha256
    from fourierreg.image.geometry import Geometry, foreground_scale, resample_onto

    inputs = {name: {"path": str(path), "sha256": sha256(path)} for name, path in files.items()}
    for name, image in (("source", source), ("target", target)):
        inputs[name]["divided_by"] = foreground_scale(image.get_fdata())
    report = {**output.describe(result, inputs, parameters, options.arguments), **extra}
    moved = resample_onto(source.get_fdata(), Geometry.of(source), result.geometry)
    scale = inputs["source"]["divided_by"], inputs["target"]["divided_by"]
    output.write(folder, result, moved / scale[0], target.get_fdata() / scale[1], report)
    return report


def read_label_pair(options):
    """Both label maps, or None; one without the other is refused."""
    from fourierreg.data.nifti import InputError, read_labels

    given = options.source_labels, options.target_labels
    if given == (None, None):
        return None
    if None in given:
        raise InputError("--source-labels, --target-labels: expected both or neither")
    return read_labels(given[0], "--source-labels"), read_labels(given[1], "--target-labels")


def _dice(result, source_labels, target_labels):
    """Dice of every label before (headers only) and after."""
    from fourierreg.data.labelling import overlaps_of

    found = overlaps_of(result, source_labels, target_labels)
    before, after = found.pop("mean")
    return {
        "mean_before": before,
        "mean_after": after,
        "before": {name: values[0] for name, values in found.items()},
        "after": {name: values[1] for name, values in found.items()},
    }


def noise_of(text):
    """The value of --sigma: a number or "estimate"; None where not given."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text
