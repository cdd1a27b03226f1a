"""`fourierreg demo`."""

from dataclasses import replace

from fourierreg.cli.common import Progress, alpha_rows, finish
from fourierreg.cli.options import COMMON, add_options

DEMO_SIGMA = 0.15  # noise of the pair that `demo` makes, in units of intensity


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo", help="recover a known α on a template brain", description=run.__doc__
    )
    add_options(parser, "--output", required=False, default="fourierreg-demo")
    parser.add_argument("--alpha", type=float, default=5.0, help="true α (default 5)")
    add_options(parser, "--size", default=64, help="voxels per axis (default 64)")
    add_options(parser, "--seed")
    add_options(parser, *COMMON, "--backend")
    parser.set_defaults(run=run)


def run(options):
    """Take a real template brain from an installed package, deform it by a velocity drawn at a
    known α, add noise, and recover α with its interval."""
    from fourierreg import checks
    from fourierreg.backend import set_backend
    from fourierreg.results import folder as output

    set_backend(options.backend)
    checks.positive("--alpha", options.alpha)
    checks.count("--size", options.size, minimum=32)
    folder = output.make_output_folder(options.output)
    with output.claimed(folder):
        return _register(options, folder)


def _register(options, folder):
    """Make the pair, register it and write the folder of a run; returns the exit code."""

    from fourierreg import map_alpha
    from fourierreg.data.template import template_brain
    from fourierreg.image.geometry import Geometry
    from fourierreg.results import folder as output
    from fourierreg.results.record import result_record
    from fourierreg.simulation.pair import NUM_STEPS, simulate_pair

    source, affine = template_brain(options.size)
    geometry = Geometry((options.size,) * 3, tuple(map(tuple, affine)))
    setting = {"spacing": geometry.spacing, "sigma": DEMO_SIGMA, "num_steps": NUM_STEPS}
    pair = simulate_pair(source, alpha=options.alpha, seed=options.seed, foreground=True, **setting)
    with Progress("inferring α", options) as progress:
        result = map_alpha(source, pair.target, callback=progress, **setting)
    result = replace(result, geometry=geometry, source_geometry=geometry)
    parameters = {
        "size": options.size,
        "seed": options.seed,
        "alpha_true": options.alpha,
        "sigma": DEMO_SIGMA,
        "num_steps": NUM_STEPS,
    }
    report = result_record(result, {"template": "ICBM 2009a"}, parameters, options.arguments)
    for name, data in (("source", source), ("target", pair.target)):
        output.save_nifti(output.scalar_image(data, geometry), folder / f"{name}.nii.gz")
    output.write_results(folder, result, source, pair.target, report)
    return finish(options, _rows(options.alpha, pair, result), report, folder, result)


def _rows(alpha, pair, result):
    """Rows of the closing table."""
    from fourierreg.image.metrics import root_mean_square

    before, after = (root_mean_square(a, pair.target) for a in (pair.source, result.deformed))
    return [
        ("true α", f"{alpha:.3g}"),
        *alpha_rows(result),
        ("largest displacement", f"{abs(pair.displacement).max():.1f} mm"),
        ("rms residual", f"{before:.4f} before, {after:.4f} after"),
    ]
