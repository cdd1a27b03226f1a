"""`fourierreg simulate`."""

import json

from fourierreg.cli.common import Count
from fourierreg.cli.options import COMMON, MODEL, add_options, model_of_options


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "simulate", help="pairs of a known α from given images", description=run.__doc__
    )
    parser.add_argument("folder", metavar="FOLDER", help="scans, as for `fourierreg pairs`")
    add_options(parser, "--output")
    parser.add_argument("--num-pairs", type=int, required=True)
    parser.add_argument(
        "--alphas",
        type=float,
        nargs=2,
        default=[3.0, 12.0],
        metavar=("LOW", "HIGH"),
        help="range of α, log-uniform (default 3 12)",
    )
    parser.add_argument("--sigma", type=float, default=0.03, help="of the noise (default 0.03)")
    add_options(parser, "--size", *MODEL)
    parser.add_argument(
        "--splits", metavar="PAIRS.csv", help="manifest whose subjects' splits hold"
    )
    add_options(parser, "--workers", "--seed", *COMMON)
    parser.set_defaults(run=run)


def run(options):
    """Deform images by geodesics drawn from the prior at known α, add noise, and write the pairs
    with a manifest that holds the truth."""
    from fourierreg.data.manifest import read_pairs
    from fourierreg.data.scans import find_scans
    from fourierreg.results.folder import make_output_folder
    from fourierreg.simulation.folder import MANIFEST, simulate_pairs

    scans, splits = find_scans(options.folder), None
    if options.splits is not None:
        splits = {}
        for pair in read_pairs(options.splits):
            splits |= {pair.source_subject: pair.split, pair.target_subject: pair.split}
    make_output_folder(options.output)
    with Count("simulating", "pairs", options) as progress:
        rows = simulate_pairs(
            scans,
            options.output,
            options.num_pairs,
            alphas=options.alphas,
            sigma=options.sigma,
            seed=options.seed,
            size=options.size,
            model=model_of_options(options),
            splits=splits,
            workers=options.workers,
            callback=progress,
        )
    if options.json:
        print(json.dumps(rows, indent=1))
    elif not options.quiet:
        print(f"{len(rows)} pairs in {options.output}/{MANIFEST}")
    return 0
