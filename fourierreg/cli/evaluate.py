"""`fourierreg evaluate`."""

import json

from fourierreg.cli.common import (
    read_label_pair,
    refuse_labels_of_label_run,
    without_nan,
)
from fourierreg.cli.options import COMMON, LABELS, add_options


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate", help="quality of a run, or of a table of runs", description=run.__doc__
    )
    parser.add_argument("directory", metavar="DIR", help="of map-alpha, register or label")
    add_options(parser, *LABELS, "--structures", *COMMON)
    parser.set_defaults(run=run)


def run(options):
    """Print the quality of a folder's registrations: α, Jacobian, inverse consistency, and Dice of
    every (merged) structure before and after."""
    from fourierreg.data.structures import resolve_structures
    from fourierreg.results.evaluation import (
        evaluate_label_run,
        evaluate_registration,
        is_label_run,
    )

    if is_label_run(options.directory):
        refuse_labels_of_label_run(options)
        report = evaluate_label_run(options.directory)
    else:
        structures = None if options.structures is None else resolve_structures(options.structures)
        report = evaluate_registration(options.directory, read_label_pair(options), structures)
    if options.json:
        print(json.dumps(without_nan(report), indent=1, allow_nan=False))
    elif not options.quiet:
        _print(report)
    return 0


def _print(report):
    width = max(len(name) for name in report)
    for name, value in report.items():
        if name != "dice":
            print(f"{name.replace('_', ' '):{width}}  {_text(value)}")
    if "dice" in report:
        width = max(len("Dice"), *(len(name) for name in report["dice"]))
        print(f"\n{'Dice':{width}}  before  after")
        for name, (before, after) in report["dice"].items():
            print(f"{name:{width}}  {before:6.3f}  {after:5.3f}")


def _text(value):
    if isinstance(value, list | tuple):
        return " to ".join(_text(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
