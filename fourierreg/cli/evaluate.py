"""`fourierreg evaluate`."""

import json

from fourierreg.cli.common import (
    add_common_options,
    no_labels_of_a_table,
    read_label_pair,
    without_nan,
)


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate", help="how good a run, or a table of runs, is", description=run.__doc__
    )
    parser.add_argument("directory", metavar="DIR", help="of map-alpha, register or label")
    parser.add_argument("--source-labels", help="labels on the source, for Dice")
    parser.add_argument("--target-labels", help="labels on the target, for Dice")
    parser.add_argument(
        "--structures", help="neuromorphometrics, or a CSV table with columns value,structure"
    )
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(options):
    """Print what a folder's registrations are worth: α, Jacobian, inverse consistency, Dice of
    every (merged) structure before and after."""
    from fourierreg.data.structures import structures_of
    from fourierreg.results.evaluation import evaluate_run, evaluate_table, is_table

    if is_table(options.directory):
        no_labels_of_a_table(options)
        report = evaluate_table(options.directory)
    else:
        structures = None if options.structures is None else structures_of(options.structures)
        report = evaluate_run(options.directory, read_label_pair(options), structures)
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
