"""`fourierreg label`."""

import json
import sys
from pathlib import Path

from fourierreg.cli.common import Count
from fourierreg.cli.options import COMMON, MODEL, add_options, model_keywords, sigma_of


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser("label", help="α for many pairs", description=run.__doc__)
    parser.add_argument("pairs", metavar="PAIRS", help="CSV or TSV with columns source,target,…")
    add_options(parser, "--output", "--size", "--structures", "--workers")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a running Dask scheduler")
    parser.add_argument(
        "--batch",
        type=int,
        help="pairs a worker estimates as one batch (default 1; on a GPU as many as fit)",
    )
    parser.add_argument("--retry-failed", action="store_true", help="estimate failed pairs again")
    parser.add_argument(
        "--save-registrations", action="store_true", help="keep the registration of every pair"
    )
    add_options(parser, *MODEL, "--sigma", "--decimation")
    add_options(parser, "--posterior", default="marginal")
    add_options(parser, "--alpha0")
    add_options(parser, *COMMON, "--backend")
    parser.set_defaults(run=run)


def run(options):
    """Infer α for every pair of a manifest and write one row per pair to DIR/labels.csv.

    A run that was stopped resumes when the same command is given again.
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
            sigma=sigma_of(options.sigma),
            decimation=options.decimation,
            alpha0=options.alpha0,
            posterior=options.posterior,
            **model_keywords(options),
        )
    failed = [row for row in rows if row["state"] != DONE]
    if options.json:
        print(json.dumps(rows, indent=1))
    for row in failed:
        print(f"failed: {row['source']} to {row['target']}: {row['status']}", file=sys.stderr)
    if not options.json and not options.quiet:
        print(f"{len(rows) - len(failed)} of {len(rows)} pairs in {Path(options.output) / TABLE}")
    return 1 if failed else 0
