"""`fourierreg apply`."""

import json
from pathlib import Path

from fourierreg.cli.common import add_common_options


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "apply", help="warp anything with a saved registration", description=run.__doc__
    )
    parser.add_argument("directory", metavar="DIR", help="output folder of a run")
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("-o", "--output", required=True, metavar="FILE")
    parser.add_argument("--inverse", action="store_true", help="from the target to the source")
    parser.add_argument("--labels", action="store_true", help="nearest neighbour, dtype kept")
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(options):
    """Resample an image or label map through a saved registration, in one interpolation."""
    import numpy as np

    from fourierreg import output
    from fourierreg.data.nifti import InputError, read_image, read_labels
    from fourierreg.image.geometry import Geometry

    result = output.load(options.directory)
    if result.geometry is None:
        raise InputError("DIR: this registration was made from arrays; use fourierreg.warp")
    read = read_labels if options.labels else read_image
    image = read(options.image, "IMAGE")
    target = Path(options.output)
    if not target.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"--output: expected a name ending in .nii or .nii.gz; got {target}")
    output.prepare_folder(target.parent)
    data = np.asanyarray(image.dataobj)
    moved = output.warp_onto(
        result,
        data,
        Geometry.of(image),
        inverse=options.inverse,
        order=0 if options.labels else 1,
    )
    try:
        output.save_nifti(output.volume(moved, result.geometry), target)
    except OSError as error:
        raise output.disk_error(target.parent, error) from error
    if options.json:
        print(json.dumps({"output": str(target)}))
    return 0
