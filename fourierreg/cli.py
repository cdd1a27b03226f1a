"""The command line: one thin function per subcommand."""

import argparse
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

from fourierreg import __version__

DEMO_SIGMA = 0.15  # noise of the pair that `demo` makes, in units of intensity

EPILOG = """\
examples:
  fourierreg demo
  fourierreg map-alpha source.nii.gz target.nii.gz -o run/
  fourierreg register source.nii.gz target.nii.gz --alpha 3 -o run/
  fourierreg apply run/ source_labels.nii.gz --labels -o moved_labels.nii.gz
  antsApplyTransforms -d 3 -i source.nii.gz -r target.nii.gz -t run/1Warp.nii.gz -o moved.nii.gz
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv=None):
    """Run the command line; returns the exit code (0, 2 for bad input, 130 when interrupted)."""
    options = _parser().parse_args(argv)
    options.arguments = [str(a) for a in (sys.argv[1:] if argv is None else argv)]
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("fourierreg: interrupted; nothing incomplete was left behind", file=sys.stderr)
        return 130
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        if not _is_for_the_user(error):
            raise
        print(f"fourierreg {options.command}: {error}", file=sys.stderr)
        return 2
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(signum, frame):
    raise KeyboardInterrupt


def _is_for_the_user(error):
    """Whether an exception comes from a check (its own module raised it), not from a bug."""
    traceback = error.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    name = traceback.tb_frame.f_globals.get("__name__", "")
    return name.split(".")[0] == "fourierreg"


def _parser():
    parser = _Parser(
        prog="fourierreg",
        description="Register a pair of images and infer the regularization strength α.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fourierreg {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_Parser
    )

    demo = commands.add_parser(
        "demo", help="recover a known α on a template brain", description=_demo.__doc__
    )
    demo.add_argument("-o", "--output", default="fourierreg-demo", metavar="DIR")
    demo.add_argument("--alpha", type=float, default=5.0, help="true α (default 5)")
    demo.add_argument("--size", type=int, default=64, help="voxels per axis (default 64)")
    demo.add_argument("--seed", type=int, default=0)
    _common(demo)
    demo.set_defaults(run=_demo)

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
    fixed.set_defaults(run=_register)

    move = commands.add_parser(
        "apply", help="warp anything with a saved registration", description=_apply.__doc__
    )
    move.add_argument("directory", metavar="DIR", help="output folder of a run")
    move.add_argument("image", metavar="IMAGE")
    move.add_argument("-o", "--output", required=True, metavar="FILE")
    move.add_argument("--inverse", action="store_true", help="from the target to the source")
    move.add_argument("--labels", action="store_true", help="nearest neighbour, dtype kept")
    _common(move)
    move.set_defaults(run=_apply)
    return parser


def _common(parser):
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no table")
    parser.add_argument("--json", action="store_true", help="print result.json instead of a table")
    parser.add_argument("--backend", default="numpy", help="numpy (default) or cupy")


def _pair_arguments(parser):
    parser.add_argument("source", metavar="SOURCE", help="3D NIfTI image, skull-stripped")
    parser.add_argument("target", metavar="TARGET", help="3D NIfTI image, affinely aligned to it")
    parser.add_argument("-o", "--output", required=True, metavar="DIR")
    parser.add_argument("--modes", type=int, default=16, help="band per axis (default 16)")
    parser.add_argument("--sigma", default="estimate", help='noise σ, or "estimate" (default)')
    parser.add_argument("--decimation", type=float, help="ρ, the fraction of independent voxels")
    parser.add_argument("--num-steps", type=int, help="of the geodesic (default 5)")
    parser.add_argument("--velocity-scale", type=float, help="s in mm (default ℓ/8)")
    parser.add_argument("--mask", help="voxels of the target that count")
    parser.add_argument("--source-labels", help="labels on the source, for Dice")
    parser.add_argument("--target-labels", help="labels on the target, for Dice")
    _common(parser)


def _demo(options):
    """Take a real template brain out of an installed package, deform it by a velocity drawn at a
    known α, add noise, and recover α with its interval."""
    from fourierreg import checks, map_alpha, output
    from fourierreg.backend import set_backend
    from fourierreg.data.template import TRUE_STEPS, simulated_target, template_brain
    from fourierreg.image.geometry import Geometry
    from fourierreg.metrics import root_mean_square

    set_backend(options.backend)
    checks.positive("--alpha", options.alpha)
    checks.count("--size", options.size, minimum=32)
    folder = output.prepare_folder(options.output)
    source, affine = template_brain(options.size)
    geometry = Geometry((options.size,) * 3, tuple(map(tuple, affine)))
    sigma = DEMO_SIGMA
    target, truth = simulated_target(
        source, geometry.spacing, alpha=options.alpha, sigma=sigma, seed=options.seed
    )
    images = [output.volume(data, geometry) for data in (source, target)]
    parameters = {
        "size": options.size,
        "seed": options.seed,
        "alpha_true": options.alpha,
        "sigma": sigma,
        "num_steps": TRUE_STEPS,
    }
    with _Progress("inferring α", options) as progress:
        result = map_alpha(
            source,
            target,
            spacing=geometry.spacing,
            sigma=sigma,
            num_steps=TRUE_STEPS,
            callback=progress,
        )
    result = replace(result, geometry=geometry, source_geometry=geometry)
    report = output.describe(result, {"template": "ICBM 2009a"}, parameters, options.arguments)
    output.save_nifti(images[0], folder / "source.nii.gz")
    output.save_nifti(images[1], folder / "target.nii.gz")
    output.write(folder, result, source, target, report)
    rows = [
        ("true α", f"{options.alpha:.3g}"),
        *_alpha_rows(result),
        ("largest displacement", f"{abs(truth).max():.1f} mm"),
        (
            "rms residual",
            f"{root_mean_square(source, target):.4f} before, "
            f"{root_mean_square(result.deformed, target):.4f} after",
        ),
    ]
    return _finish(options, rows, report, folder, result)


def _map_alpha(options):
    """Infer the regularization strength α of a pair of images, with a 95 % interval, and register
    the source to the target at it."""
    from fourierreg import map_alpha

    parameters = {
        "posterior": options.posterior,
        "alpha0": options.alpha0,
        "alpha_prior": options.alpha_prior,
    }
    return _run_pair(options, map_alpha, parameters, "inferring α")


def _register(options):
    """Register the source to the target at a given regularization strength α."""
    from fourierreg import register

    return _run_pair(options, register, {"alpha": options.alpha}, "registering")


def _run_pair(options, function, parameters, doing):
    """Read, compute, write: what `map-alpha` and `register` share."""
    from fourierreg import output
    from fourierreg.backend import set_backend
    from fourierreg.data.nifti import InputError, read_image, read_labels
    from fourierreg.image.geometry import Geometry, foreground_scale, resample_onto

    set_backend(options.backend)
    files = {"source": options.source, "target": options.target}
    source, target = (read_image(path, name) for name, path in files.items())
    labels = _read_label_pair(options, read_labels, InputError)
    parameters |= {
        "modes": options.modes,
        "sigma": _sigma(options.sigma),
        "decimation": options.decimation,
        "num_steps": options.num_steps,
        "velocity_scale": options.velocity_scale,
    }
    mask = None
    if options.mask is not None:
        files["mask"] = options.mask
        mask = read_labels(options.mask, "--mask").get_fdata() != 0
    folder = output.prepare_folder(options.output)
    with _Progress(doing, options) as progress:
        result = function(source, target, mask=mask, callback=progress, **parameters)
    parameters["num_steps"] = result.num_steps
    inputs = {
        name: {"path": str(path), "sha256": output.sha256(path)} for name, path in files.items()
    }
    for name, image in (("source", source), ("target", target)):
        inputs[name]["divided_by"] = foreground_scale(image.get_fdata())
    report = output.describe(result, inputs, parameters, options.arguments)
    rows = _alpha_rows(result)
    if labels is not None:
        report["dice"] = _dice(result, *labels)
        affine_only, after = report["dice"]["mean_before"], report["dice"]["mean_after"]
        rows.append(("mean Dice", f"{affine_only:.3f} before, {after:.3f} after"))
    moved = resample_onto(source.get_fdata(), Geometry.of(source), result.geometry)
    scale = inputs["source"]["divided_by"], inputs["target"]["divided_by"]
    output.write(folder, result, moved / scale[0], target.get_fdata() / scale[1], report)
    return _finish(options, rows, report, folder, result)


def _read_label_pair(options, read_labels, error):
    """Both label maps, or None; one without the other is refused."""
    given = options.source_labels, options.target_labels
    if given == (None, None):
        return None
    if None in given:
        raise error("--source-labels, --target-labels: expected both or neither")
    return read_labels(given[0], "--source-labels"), read_labels(given[1], "--target-labels")


def _dice(result, source_labels, target_labels):
    """Dice of every label before (headers only) and after."""
    import numpy as np

    from fourierreg import output
    from fourierreg.image.geometry import Geometry, resample_onto
    from fourierreg.metrics import dice

    data, truth = np.asanyarray(source_labels.dataobj), np.asanyarray(target_labels.dataobj)
    geometry = Geometry.of(source_labels)
    if truth.shape != result.geometry.shape:
        truth = resample_onto(truth, Geometry.of(target_labels), result.geometry, order=0)
    before = dice(resample_onto(data, geometry, result.geometry, order=0), truth)
    after = dice(output.warp_onto(result, data, geometry, order=0), truth)
    return {
        "mean_before": sum(before.values()) / len(before),
        "mean_after": sum(after.values()) / len(after),
        "before": before,
        "after": after,
    }


def _apply(options):
    """Resample an image or label map through a saved registration, in one interpolation."""
    import numpy as np

    from fourierreg import output
    from fourierreg.data.nifti import InputError, read_image, read_labels
    from fourierreg.image.geometry import Geometry

    result = output.load(options.directory)
    if result.geometry is None:
        raise InputError("DIR: this registration was made from arrays; use fourierreg.warp")
    read = read_labels if options.labels else read_image
    image = read(options.image, "IMAGE")
    target = Path(options.output)
    if not target.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"--output: expected a name ending in .nii or .nii.gz; got {target}")
    output.prepare_folder(target.parent)
    data = np.asanyarray(image.dataobj)
    moved = output.warp_onto(
        result,
        data,
        Geometry.of(image),
        inverse=options.inverse,
        order=0 if options.labels else 1,
    )
    try:
        output.save_nifti(output.volume(moved, result.geometry), target)
    except OSError as error:
        raise output.disk_error(target.parent, error) from error
    if options.json:
        print(json.dumps({"output": str(target)}))
    return 0


def _sigma(text):
    """The value of --sigma: a number or "estimate"."""
    try:
        return float(text)
    except ValueError:
        return text


def _alpha_rows(result):
    rows = [("α", f"{result.alpha:.3g}")]
    interval = result.alpha_interval
    if interval is not None:
        rows.append(("95 % interval", f"{interval[0]:.3g} to {interval[1]:.3g}"))
    return [
        *rows,
        ("smoothing length", f"{result.smoothing_length:.1f} mm"),
        ("noise σ, decimation ρ", f"{result.sigma:.3g}, {result.decimation:.2g}"),
    ]


def _finish(options, rows, report, folder, result):
    """Print a table or JSON; a run that did not converge says so and ends with 1."""
    jacobian = report["jacobian"]
    rows = [
        *rows,
        ("smallest Jacobian, folds", f"{jacobian['min']:.2f}, {jacobian['folds']}"),
        ("time", f"{report['seconds']:.0f} s, {report['iterations']} iterations"),
        ("status", result.status),
        ("written to", str(folder)),
    ]
    if options.json:
        print(json.dumps(report, indent=2))
    elif not options.quiet:
        width = max(len(name) for name, _ in rows)
        print("\n".join(f"{name:{width}}  {value}" for name, value in rows))
    return 0 if result.converged else 1


class _Progress:
    """A progress bar fed by the optimiser's callback; appears after two seconds."""

    def __init__(self, doing, options):
        self.doing, self.disable = doing, options.quiet or options.json

    def __enter__(self):
        from tqdm import tqdm

        self.bar = tqdm(
            desc=self.doing,
            mininterval=0.5,
            unit=" it",
            delay=2,
            disable=self.disable,
            leave=False,
            file=sys.stderr,
        )
        return self

    def __call__(self, record):
        size = "×".join(map(str, record.shape))
        self.bar.set_postfix_str(
            f"α {record.alpha:.3g}, grid {size}, energy {record.prior + record.likelihood:.4g}",
            refresh=False,
        )
        self.bar.update()

    def __exit__(self, *error):
        self.bar.close()


if __name__ == "__main__":
    sys.exit(main())
