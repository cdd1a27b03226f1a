"""`fourierreg map-alpha` and `fourierreg register`: a pair of files."""

import contextlib
import os
import sys

from fourierreg.cli.common import (
    Progress,
    alpha_rows,
    finish,
    read_label_pair,
    without_nan,
    write_run,
)
from fourierreg.cli.options import (
    COMMON,
    LABELS,
    MODEL,
    OTHER_FIELDS,
    add_options,
    given_fields,
    model_keywords,
    sigma_of,
)
from fourierreg.errors import InputError

CT_LOWEST = -500.0  # lower values are those of air in Hounsfield units


def add_to(commands):
    """Add the commands to the parser."""
    infer = commands.add_parser(
        "map-alpha",
        help="infer α for a pair, and register it",
        description=_map_alpha.__doc__,
        epilog="By default α is inferred from held-out voxels, in the model of the quality; with "
        "an option of the model, the noise or the prior from the marginal posterior.",
    )
    _add_pair_arguments(infer)
    add_options(infer, "--quality", "--posterior", "--similarity", "--alpha0")
    infer.add_argument(
        "--alpha-prior",
        type=float,
        nargs=2,
        metavar=("SHAPE", "SCALE"),
        help="Gamma prior of α (default: flat in ln α)",
    )
    infer.set_defaults(run=_map_alpha)

    fixed = commands.add_parser(
        "register",
        help="register at a given α",
        description=_register.__doc__,
        epilog="The defaults of the model's options are those of the quality; without one, but "
        "with --alpha or --similarity, the paper's model with an accurate flow.",
    )
    _add_pair_arguments(fixed)
    add_options(fixed, "--quality")
    fixed.add_argument("--alpha", type=float, help="default: that of the quality")
    add_options(fixed, "--similarity")
    fixed.add_argument("--weight", type=float, help="γ of the similarity, instead of σ and ρ")
    fixed.set_defaults(run=_register)


def _add_pair_arguments(parser):
    parser.add_argument("source", metavar="SOURCE", help="3D NIfTI image, skull-stripped")
    parser.add_argument("target", metavar="TARGET", help="3D NIfTI image, affinely aligned to it")
    add_options(parser, "--output", *MODEL, "--sigma", "--decimation", "--max-iterations")
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="also write uncertainty.nii.gz: standard deviation of the displacement in mm, one "
        "volume per array axis",
    )
    parser.add_argument(
        "--evidence", action="store_true", help="also estimate the log evidence of the model"
    )
    parser.add_argument("--mask", help="voxels of the target that count")
    parser.add_argument(
        "--window",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="clip intensities to this range first, such as 0 80 for the brain in CT",
    )
    add_options(parser, *LABELS, *COMMON, "--backend")


def _map_alpha(options):
    """Infer the regularization strength α of a pair of images, with a 95 % interval, and register
    the source to the target at it."""
    from fourierreg import map_alpha

    parameters = given_fields(options, "quality", "posterior", "similarity", "alpha0")
    parameters["alpha_prior"] = options.alpha_prior
    return _run_pair(options, map_alpha, {**parameters, **model_keywords(options)}, "inferring α")


def _register(options):
    """Register the source to the target at a given regularization strength α."""
    from fourierreg import register
    from fourierreg.model.model import MODEL_KEYWORDS

    others = given_fields(options, *OTHER_FIELDS)
    keywords = given_fields(options, "quality", "alpha", "weight", "similarity", *MODEL_KEYWORDS)
    if others:
        keywords["model"] = others
    if not keywords.keys() & {"quality", "alpha", "similarity", "model"}:
        keywords["quality"] = "default"  # as the function does; recorded with the result
    return _run_pair(options, register, keywords, "registering")


def _run_pair(options, function, parameters, doing):
    """Read, compute, write: shared by `map-alpha` and `register`."""
    from fourierreg.backend import set_backend
    from fourierreg.data.nifti import read_image
    from fourierreg.results import folder as output

    set_backend(options.backend)
    files = {"source": options.source, "target": options.target}
    source, target = (
        _windowed(read_image(path, name), options, name) for name, path in files.items()
    )
    for image, name in zip((source, target), files, strict=True):
        _hint_at_skull(image, options, name)
    labels = read_label_pair(options)
    parameters |= {
        "sigma": sigma_of(options.sigma),
        "decimation": options.decimation,
        "uncertainty": options.uncertainty,
        "evidence": options.evidence,
    }
    if options.max_iterations is not None:
        parameters["max_iterations"] = options.max_iterations
    mask = None
    if options.mask is not None:
        files["mask"] = options.mask
        mask = _mask_on(target, options.mask)
    new = not os.path.exists(options.output)
    folder = output.make_output_folder(options.output)
    try:
        with output.claimed(folder):
            with Progress(doing, options) as progress:
                result = function(source, target, mask=mask, callback=progress, **parameters)
            return _write(options, folder, result, (source, target), labels, files, parameters)
    except BaseException:
        if new:  # nothing was written: leave no folder
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def _write(options, folder, result, images, labels, files, parameters):
    """Write the files of a run and print its table; returns the exit code."""
    parameters["num_steps"] = result.model.num_steps
    rows, extra = alpha_rows(result), {}
    if result.log_evidence is not None:
        error = f"{result.log_evidence:.1f} ± {result.log_evidence_error:.1f} nats"
        rows.append(("log evidence", error))
    if labels is not None:
        extra["dice"] = _dice(result, *labels)
        before, after = (extra["dice"][f"mean_{when}"] for when in ("before", "after"))
        if before is not None:
            rows.append(("mean Dice", f"{before:.3f} before, {after:.3f} after"))
    report = write_run(folder, result, *images, files, parameters, options, extra)
    return finish(options, rows, report, folder, result)


def _windowed(image, options, name):
    """An image whose intensities are clipped to a range, if one is given."""
    import numpy as np

    from fourierreg.image.geometry import Geometry

    if options.window is None:
        lowest = float(np.min(image.dataobj))
        if lowest < CT_LOWEST and not options.quiet:
            print(
                f"{name}: values down to {lowest:g}, as computed tomography has: --window LOW HIGH "
                "keeps air and bone from ruling the registration (0 80 for the brain)",
                file=sys.stderr,
            )
        return image
    low, high = options.window
    if not low < high:
        raise InputError(f"--window: expected a lower and a higher number; got {low:g} {high:g}")
    data = np.clip(image.get_fdata(dtype=np.float32), low, high)
    if data.min() == data.max():
        raise InputError(f"--window: no voxel of {name} lies between {low:g} and {high:g}")
    return Geometry.of(image, name).image(data)


def _hint_at_skull(image, options, name):
    """Say so where the foreground is larger than a brain, as that of a head is."""
    import numpy as np

    from fourierreg.image.foreground import background_of
    from fourierreg.image.geometry import Geometry
    from fourierreg.preparation.brain import BRAIN_LITERS

    if options.quiet or options.mask is not None:
        return
    grid = Geometry.of(image, name)
    data = image.get_fdata(dtype=np.float32)
    background = background_of(data)
    if background.threshold < 0:  # of a crop, all of which is foreground
        return
    inside = background.foreground(data)
    liters = float(np.mean(inside)) * float(np.prod(np.multiply(grid.shape, grid.spacing))) / 1e6
    if liters > BRAIN_LITERS[1]:
        print(
            f"{name}: its foreground has {liters:.1f} liters, more than a brain: if it is a head, "
            "strip the skull first and run `fourierreg prepare` (the guide says how, Raw scans)",
            file=sys.stderr,
        )


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
    from fourierreg.image.metrics import dice_before_and_after

    found = dice_before_and_after(result, source_labels, target_labels)
    before, after = found.pop("mean")
    return without_nan(
        {
            "mean_before": before,
            "mean_after": after,
            "before": {name: values[0] for name, values in found.items()},
            "after": {name: values[1] for name, values in found.items()},
        }
    )
