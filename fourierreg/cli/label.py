"""`fourierreg label`."""

import json
import sys

from fourierreg.cli.common import Count, add_common_options, noise_of


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser("label", help="α for many pairs", description=run.__doc__)
    parser.add_argument("pairs", metavar="PAIRS", help="CSV or TSV with columns source,target,…")
    parser.add_argument("-o", "--output", required=True, metavar="DIR")
    parser.add_argument("--size", type=int, help="resample to so many voxels on the longest axis")
    parser.add_argument(
        "--structures", help="neuromorphometrics, or a CSV table with columns value,structure"
    )
    parser.add_argument("--workers", type=int, help="processes here (default one per core)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a running Dask scheduler")
    parser.add_argument(
        "--batch", type=int, help="pairs a worker estimates together (default 1; 32 on a GPU)"
    )
    parser.add_argument("--retry-failed", action="store_true", help="do failed pairs again")
    parser.add_argument("--save-registrations", action="store_true", help="keep them all")
    parser.add_argument("--modes", type=int, default=16, help="band per axis (default 16)")
    parser.add_argument("--sigma", help='noise σ, or "estimate" (default)', default="estimate")
    parser.add_argument("--decimation", type=float, help="ρ, the fraction of independent voxels")
    parser.add_argument(
        "--alpha0", type=float, default=3.0, help="where searches start (default 3)"
    )
    parser.add_argument(
        "--dynamics",
        choices=["epdiff", "stationary"],
        default="epdiff",
        help="geodesic (default), or the flow of a stationary velocity",
    )
    parser.add_argument("--posterior", choices=["marginal", "joint"], default="marginal")
    parser.add_argument("--num-steps", type=int, help="of the geodesic (default 5)")
    parser.add_argument("--velocity-scale", type=float, help="s in mm (default ℓ/8)")
    add_common_options(parser, backend=True)
    parser.set_defaults(run=run)


def run(options):
    """Infer α for every pair of a manifest and write one row per pair to DIR/labels.csv.

    A run that was stopped goes on where it was when the same command is given again.
    """
    from fourierreg.labelling.folder import DONE, TABLE
    from fourierreg.labelling.run import label_pairs

    with Count("labelling", "pairs", options) as progress:
        rows = label_pairs(
            options.pairs,
            options.output,
            size=options.size,
            structures=options.structures,
            workers=options.workers,
            scheduler=options.scheduler,
            backend=options.backend,
            batch=options.batch,
            retry_failed=options.retry_failed,
            save_registrations=options.save_registrations,
            callback=lambda done, total, row: progress(done, total),
            modes=options.modes,
            sigma=noise_of(options.sigma),
            decimation=options.decimation,
            alpha0=options.alpha0,
            dynamics=options.dynamics,
            posterior=options.posterior,
            num_steps=options.num_steps,
            velocity_scale=options.velocity_scale,
        )
    failed = [row for row in rows if row["state"] != DONE]
    if options.json:
        print(json.dumps(rows, indent=1))
    for row in failed:
        print(f"failed: {row['source']} to {row['target']}: {row['status']}", file=sys.stderr)
    if not options.json and not options.quiet:
        print(f"{len(rows) - len(failed)} of {len(rows)} pairs in {options.output}/{TABLE}")
    return 1 if failed else 0
