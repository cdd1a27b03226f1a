"""`fourierreg apply`."""

import json
from pathlib import Path

from fourierreg.cli.options import COMMON, add_options
from fourierreg.errors import InputError


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "apply", help="warp anything with a saved registration", description=run.__doc__
    )
    parser.add_argument("directory", metavar="DIR", help="output folder of a run")
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("-o", "--output", required=True, metavar="FILE")
    parser.add_argument("--inverse", action="store_true", help="from the target to the source")
    parser.add_argument(
        "--affine",
        metavar="FILE",
        help="IMAGE is an unprepared scan, and this the affine that `prepare` wrote for it (ITK)",
    )
    parser.add_argument("--reference", metavar="IMAGE", help="write on the grid of this image")
    parser.add_argument(
        "--reference-affine",
        metavar="FILE",
        help="the reference is an unprepared scan, and this the affine that `prepare` wrote for it",
    )
    parser.add_argument("--labels", action="store_true", help="nearest neighbor, dtype kept")
    add_options(parser, *COMMON)
    parser.set_defaults(run=run)


def run(options):
    """Resample an image or label map through a saved registration, in one interpolation."""
    import numpy as np

    from fourierreg.data.nifti import read_geometry, read_image, read_labels
    from fourierreg.image.geometry import Geometry
    from fourierreg.results import folder as output

    result = output.load_registration(options.directory)
    if result.geometry is None:
        raise InputError("DIR: this registration was made from arrays; use fourierreg.warp")
    if options.labels:
        image = read_labels(options.image, "IMAGE")
    else:
        image = read_image(options.image, "IMAGE", labels_option="--labels")
    target = Path(options.output)
    if not target.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"--output: expected a name ending in .nii or .nii.gz; got {target}")
    output.make_output_folder(target.parent)
    if options.reference_affine is not None and options.reference is None:
        raise InputError("--reference-affine: expected --reference too, the scan it belongs to")
    written = result.geometry
    if options.reference is not None:
        written = read_geometry(options.reference, "--reference")
    moved = output.apply_registration(
        result,
        np.asanyarray(image.dataobj),
        _in_common_space(Geometry.of(image), options.affine, "--affine"),
        inverse=options.inverse,
        order=0 if options.labels else 1,
        reference=_in_common_space(written, options.reference_affine, "--reference-affine"),
    )
    try:
        output.save_nifti(output.scalar_image(moved, written), target)
    except OSError as error:
        raise output.disk_error(target.parent, error) from error
    if options.json:
        print(json.dumps({"output": str(target)}))
    elif not options.quiet:
        print(f"written to {target}")
    return 0


def _in_common_space(geometry, path, name):
    """Geometry of a scan in the space of the registration."""
    if path is None:
        return geometry
    from fourierreg.preparation.affine import read_affine

    if not Path(path).is_file():
        raise InputError(f"{name}: no file {path}; give the NAME_affine.mat of `prepare`")
    return geometry.aligned_by(read_affine(path))
