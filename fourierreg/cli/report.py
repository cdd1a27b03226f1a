"""`fourierreg report`."""

import json

from fourierreg.cli.common import add_common_options, no_labels_of_a_table, read_label_pair
from fourierreg.errors import InputError


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "report", help="one HTML page on a run, or on a table of runs", description=run.__doc__
    )
    parser.add_argument("directory", metavar="DIR", help="of map-alpha, register, demo or label")
    parser.add_argument("-o", "--output", required=True, metavar="FILE.html")
    parser.add_argument("--source-labels", help="labels on the source, for Dice")
    parser.add_argument("--target-labels", help="labels on the target, for Dice")
    parser.add_argument(
        "--structures", help="neuromorphometrics, or a CSV table with columns value,structure"
    )
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(options):
    """Write one self-contained HTML page: pictures, α with its interval, Dice, Jacobian, the
    parameters, and how to cite."""
    from pathlib import Path

    from fourierreg.atomic import replacing
    from fourierreg.data.structures import structures_of
    from fourierreg.results import folder as output
    from fourierreg.results.evaluation import is_table
    from fourierreg.results.report import page

    target = Path(options.output)
    if target.suffix != ".html":
        raise InputError(f"--output: expected a name ending in .html; got {target}")
    output.prepare_folder(target.parent)
    if is_table(options.directory):
        no_labels_of_a_table(options)
    structures = None if options.structures is None else structures_of(options.structures)
    text = page(options.directory, read_label_pair(options), structures)
    try:
        with replacing(target, "wb") as file:
            file.write(text.encode())
    except OSError as error:
        raise output.disk_error(target.parent, error) from error
    if options.json:
        print(json.dumps({"output": str(target)}))
    elif not options.quiet:
        print(f"written to {target}")
    return 0
