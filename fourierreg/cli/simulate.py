"""`fourierreg simulate`."""

import json

from fourierreg.cli.common import Count, add_common_options


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "simulate", help="pairs of a known α from given images", description=run.__doc__
    )
    parser.add_argument("folder", metavar="FOLDER", help="scans, as for `fourierreg pairs`")
    parser.add_argument("-o", "--output", required=True, metavar="DIR")
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
    parser.add_argument("--size", type=int, help="resample to so many voxels on the longest axis")
    parser.add_argument("--modes", type=int, default=16, help="band per axis (default 16)")
    parser.add_argument("--velocity-scale", type=float, help="s in mm (default ℓ/8)")
    parser.add_argument(
        "--splits", metavar="PAIRS.csv", help="manifest whose subjects' splits hold"
    )
    parser.add_argument("--workers", type=int, help="processes (default one per core)")
    parser.add_argument("--seed", type=int, default=0)
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(options):
    """Deform images by geodesics drawn from the prior at known α, add noise, and write the pairs
    with a manifest that holds the truth."""
    from fourierreg.data.manifest import find_scans, read_pairs
    from fourierreg.results.folder import prepare_folder
    from fourierreg.simulation.folder import MANIFEST, simulate_pairs

    scans, splits = find_scans(options.folder), None
    if options.splits is not None:
        splits = {}
        for pair in read_pairs(options.splits):
            splits |= {pair.source_subject: pair.split, pair.target_subject: pair.split}
    prepare_folder(options.output)
    with Count("simulating", "pairs", options) as progress:
        rows = simulate_pairs(
            scans,
            options.output,
            options.num_pairs,
            alphas=options.alphas,
            sigma=options.sigma,
            seed=options.seed,
            size=options.size,
            modes=options.modes,
            velocity_scale=options.velocity_scale,
            splits=splits,
            workers=options.workers,
            callback=progress,
        )
    if options.json:
        print(json.dumps(rows, indent=1))
    elif not options.quiet:
        print(f"{len(rows)} pairs in {options.output}/{MANIFEST}")
    return 0
