"""`fourierreg report`."""

from fourierreg.cli.common import read_label_pair, refuse_labels_of_label_run, say_written
from fourierreg.cli.options import COMMON, LABELS, add_options
from fourierreg.errors import InputError


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "report", help="one HTML page on a run, or on a table of runs", description=run.__doc__
    )
    parser.add_argument("directory", metavar="DIR", help="of map-alpha, register, demo or label")
    parser.add_argument("-o", "--output", required=True, metavar="FILE.html")
    add_options(parser, *LABELS, "--structures")
    parser.add_argument(
        "--beside",
        metavar="LABELS",
        help="folder of a label run of comparable pairs: the α of this run among theirs",
    )
    add_options(parser, *COMMON)
    parser.set_defaults(run=run)


def run(options):
    """Write one self-contained HTML page: pictures, α with its interval, Dice, Jacobian, the
    parameters, and how to cite."""
    from pathlib import Path

    from fourierreg.atomic import atomic_write
    from fourierreg.data.structures import resolve_structures
    from fourierreg.results import folder as output
    from fourierreg.results.evaluation import is_label_run
    from fourierreg.results.report import render_report

    target = Path(options.output)
    if target.suffix != ".html":
        raise InputError(f"--output: expected a name ending in .html; got {target}")
    output.make_output_folder(target.parent)
    if is_label_run(options.directory):
        refuse_labels_of_label_run(options)
    structures = None if options.structures is None else resolve_structures(options.structures)
    labels = read_label_pair(options)
    text = render_report(options.directory, labels, structures, options.beside)
    try:
        with atomic_write(target, "wb") as file:
            file.write(text.encode())
    except OSError as error:
        raise output.disk_error(target.parent, error) from error
    say_written(options, target)
    return 0
