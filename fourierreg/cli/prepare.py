"""`fourierreg prepare`."""

import json
import sys

from fourierreg.cli.common import Count
from fourierreg.cli.options import COMMON, add_options
from fourierreg.errors import InputError


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "prepare", help="T1 scans onto a common cube", description=run.__doc__
    )
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="T1 scans, skull-stripped")
    add_options(parser, "--output")
    parser.add_argument("--labels", nargs="+", metavar="LABELS", help="one per image, in order")
    parser.add_argument(
        "--masks", nargs="+", metavar="MASK", help="brains, one per image, in order"
    )
    parser.add_argument("--template", help="skull-stripped image (default ICBM 2009c)")
    add_options(parser, "--size", default=128, help="voxels per axis (default 128)")
    parser.add_argument("--spacing", type=float, help="mm per voxel (default 204.8 / size)")
    parser.add_argument("--no-n4", action="store_true", help="do not correct the bias field")
    parser.add_argument("--no-affine", action="store_true", help="already in the template's space")
    add_options(parser, *COMMON)
    parser.set_defaults(run=run)


def run(options):
    """Bring T1 scans to a template's space on a cube: N4 bias correction, affine of twelve degrees
    of freedom, one interpolation, intensities in [0, 1]; labels alongside. Every scan gives
    NAME.nii.gz, NAME_labels.nii.gz, NAME_affine.mat (ITK; `apply` takes it) and NAME.json."""
    from fourierreg.preparation.files import prepare_files
    from fourierreg.results.folder import make_output_folder

    folder = make_output_folder(options.output)
    for name, given in (("--labels", options.labels), ("--masks", options.masks)):
        if given is not None and len(given) != len(options.images):
            raise InputError(
                f"{name}: expected one per image, {len(options.images)}; got {len(given)}"
            )
    with Count("preparing", "scans", options) as progress:
        progress(0, len(options.images))  # the first takes a minute
        reports = prepare_files(
            options.images,
            folder,
            labels=options.labels,
            masks=options.masks,
            template=options.template,
            size=options.size,
            spacing=options.spacing,
            bias_correction=not options.no_n4,
            affine=not options.no_affine,
            callback=progress,
        )
    failed = [r for r in reports if "error" in r]
    for report in reports:
        for text in report.get("warnings", []):
            print(f"warning: {report['image']}: {text}", file=sys.stderr)
    for report in failed:
        print(f"failed: {report['image']}: {report['error']}", file=sys.stderr)
    if options.json:
        print(json.dumps(reports, indent=1))
    elif not options.quiet:
        print(f"{len(reports) - len(failed)} of {len(reports)} scans in {folder}")
    return 1 if failed else 0
