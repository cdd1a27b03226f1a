"""`fourierreg bids`."""

import json
import sys
from pathlib import Path

from fourierreg.cli.common import Progress
from fourierreg.cli.options import COMMON, add_options
from fourierreg.errors import InputError


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "bids",
        help="T1w scans of a BIDS data set to a template",
        description=run.__doc__,
        epilog="Scans with a skull need brain masks, sub-…_desc-brain_mask.nii.gz on the grid of "
        "the scan: below INPUT/derivatives, or in the folder of --masks.",
    )
    parser.add_argument("input", metavar="INPUT", help="root of a BIDS data set")
    parser.add_argument("output", metavar="OUTPUT", help="folder of the derivatives")
    parser.add_argument("level", choices=["participant", "group"])
    parser.add_argument("--participant-label", nargs="+", metavar="LABEL", help="default all")
    parser.add_argument("--masks", metavar="FOLDER", help="of brain masks")
    parser.add_argument("--template", help="skull-stripped image (default ICBM 2009c)")
    parser.add_argument("--space", metavar="NAME", help="name of that template in file names")
    add_options(parser, "--quality")
    add_options(parser, "--size", default=128, help="voxels per axis of the cube (default 128)")
    add_options(parser, *COMMON, "--backend")
    parser.set_defaults(run=run)


def run(options):
    """Register every T1w scan of a BIDS data set to a template, at its own α (participant), and
    summarize the data set in a table and a page that has the doubtful ones first (group).
    Participants that are done are skipped."""
    from fourierreg.backend import set_backend
    from fourierreg.bids.scans import chosen_scans

    set_backend(options.backend)
    scans = chosen_scans(options.input, options.participant_label)
    output = Path(options.output)
    if output.resolve() == Path(options.input).resolve():
        raise InputError("OUTPUT: expected another folder than INPUT; give INPUT/derivatives/…")
    return (_participants if options.level == "participant" else _group)(options, scans, output)


def _participants(options, scans, output):
    """Register scans one by one; a scan that fails does not stop the others."""
    from fourierreg.bids.names import describe_dataset
    from fourierreg.bids.participant import register_scan, template_space
    from fourierreg.bids.scans import find_mask
    from fourierreg.results.folder import make_output_folder

    source = Path(options.input)
    folders = [source / "derivatives"] if options.masks is None else [Path(options.masks)]
    if options.masks is not None and not folders[0].is_dir():
        raise InputError(f"--masks: no folder {options.masks}; check the path")
    space = template_space(options.template, options.space, options.size)
    make_output_folder(output)
    describe_dataset(output, source)
    outcomes = []
    for number, scan in enumerate(scans, start=1):
        try:
            with Progress(f"{scan.prefix}, {number} of {len(scans)}", options) as progress:
                new, warnings = register_scan(
                    scan,
                    find_mask(scan, folders),
                    output,
                    space,
                    options.quality or "default",
                    options.arguments,
                    progress,
                )
        except (ValueError, RuntimeError, OSError) as error:
            text = " ".join(str(error).split())
            outcomes.append({"scan": scan.prefix, "error": text})
            print(f"{scan.prefix} failed: {text}", file=sys.stderr)
            continue
        outcomes.append({"scan": scan.prefix, "new": new, "warnings": warnings})
        if not (options.quiet or options.json):
            print(f"{scan.prefix}: {'done' if new else 'done before'}", flush=True)
        for text in warnings:
            print(f"{scan.prefix}: warning: {text}", file=sys.stderr)
    done = sum("error" not in outcome for outcome in outcomes)
    if options.json:
        print(json.dumps(outcomes, indent=1))
    elif not options.quiet:
        print(f"{done} of {len(scans)} scans in {output}")
    return 0 if done == len(scans) else 1


def _group(options, scans, output):
    """Write the table and the page of a data set."""
    from fourierreg.bids.group import write_group

    missing = write_group(output, scans)
    if options.json:
        print(json.dumps({"output": str(output / "group_T1w.tsv"), "not_registered": missing}))
    elif not options.quiet:
        if missing:
            print(f"not registered: {', '.join(missing)}")
        print(f"written to {output / 'group_T1w.tsv'} and {output / 'group_T1w.html'}")
    return 1 if missing else 0
