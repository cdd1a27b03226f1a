"""`fourierreg demo`."""

from dataclasses import replace

from fourierreg.cli.common import Progress, add_common_options, alpha_rows, finish

DEMO_SIGMA = 0.15  # noise of the pair that `demo` makes, in units of intensity


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo", help="recover a known α on a template brain", description=run.__doc__
    )
    parser.add_argument("-o", "--output", default="fourierreg-demo", metavar="DIR")
    parser.add_argument("--alpha", type=float, default=5.0, help="true α (default 5)")
    parser.add_argument("--size", type=int, default=64, help="voxels per axis (default 64)")
    parser.add_argument("--seed", type=int, default=0)
    add_common_options(parser, backend=True)
    parser.set_defaults(run=run)


def run(options):
    """Take a real template brain out of an installed package, deform it by a velocity drawn at a
    known α, add noise, and recover α with its interval."""
    from fourierreg import checks, map_alpha
    from fourierreg.backend import set_backend
    from fourierreg.data.template import template_brain
    from fourierreg.image.geometry import Geometry
    from fourierreg.image.metrics import root_mean_square
    from fourierreg.results import folder as output
    from fourierreg.simulation.pair import NUM_STEPS, simulate_pair

    set_backend(options.backend)
    checks.positive("--alpha", options.alpha)
    checks.count("--size", options.size, minimum=32)
    folder = output.prepare_folder(options.output)
    source, affine = template_brain(options.size)
    geometry = Geometry((options.size,) * 3, tuple(map(tuple, affine)))
    sigma = DEMO_SIGMA
    pair = simulate_pair(
        source,
        alpha=options.alpha,
        sigma=sigma,
        seed=options.seed,
        spacing=geometry.spacing,
        foreground=True,
    )
    target = pair.target
    images = [output.volume(data, geometry) for data in (source, target)]
    parameters = {
        "size": options.size,
        "seed": options.seed,
        "alpha_true": options.alpha,
        "sigma": sigma,
        "num_steps": NUM_STEPS,
    }
    with Progress("inferring α", options) as progress:
        result = map_alpha(
            source,
            target,
            spacing=geometry.spacing,
            sigma=sigma,
            num_steps=NUM_STEPS,
            callback=progress,
        )
    result = replace(result, geometry=geometry, source_geometry=geometry)
    report = output.describe(result, {"template": "ICBM 2009a"}, parameters, options.arguments)
    output.save_nifti(images[0], folder / "source.nii.gz")
    output.save_nifti(images[1], folder / "target.nii.gz")
    output.write(folder, result, source, target, report)
    rows = [
        ("true α", f"{options.alpha:.3g}"),
        *alpha_rows(result),
        ("largest displacement", f"{abs(pair.displacement).max():.1f} mm"),
        (
            "rms residual",
            f"{root_mean_square(source, target):.4f} before, "
            f"{root_mean_square(result.deformed, target):.4f} after",
        ),
    ]
    return finish(options, rows, report, folder, result)
