"""`fourierreg apply`."""

import sys
from pathlib import Path

from fourierreg.cli.common import read_affine_of, say_written
from fourierreg.cli.options import COMMON, add_options
from fourierreg.errors import InputError

FAR = 10.0  # mm between the middles of two grids
FAR_ALIGNED = 60.0  # of a scan after its affine, whose field of view may be lopsided


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "apply", help="warp anything with a saved registration", description=run.__doc__
    )
    parser.add_argument("directory", metavar="DIR", help="output folder of a run")
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="3D or 4D image")
    parser.add_argument(
        "--points",
        metavar="FILE",
        help="instead of an image: a table in mm with a header x,y,z (LPS, as ANTs has them) or "
        "r,a,s (RAS); streamlines (.trk, .tck); a surface (.surf.gii, or of FreeSurfer). Points go "
        "the other way than images: those of the target to the source, and with --inverse those "
        "of the source to the target",
    )
    parser.add_argument("-o", "--output", required=True, metavar="FILE")
    add_options(parser, "--inverse", "--affine", "--reference", "--reference-affine")
    parser.add_argument("--labels", action="store_true", help="nearest neighbor, dtype kept")
    parser.add_argument(
        "--fill", type=float, metavar="VALUE", help="outside the image's field of view (default 0)"
    )
    add_options(parser, *COMMON)
    parser.set_defaults(run=run)


def run(options):
    """Resample an image or label map through a saved registration, in one interpolation; or move
    points."""
    from fourierreg.results import folder as output

    result = output.load_registration(options.directory)
    if result.geometry is None:
        raise InputError("DIR: this registration was made from arrays; use fourierreg.warp")
    if (options.image is None) == (options.points is None):
        raise InputError("IMAGE: expected an image, or --points FILE; got both or none")
    target = Path(options.output)
    move = _points if options.points is not None else _image
    write = move(options, result, target)  # reads and computes; nothing is written yet
    output.make_output_folder(target.parent)
    try:
        write(target)
    except OSError as error:
        raise output.disk_error(target.parent, error) from error
    say_written(options, target)
    return 0


def _points(options, result, target):
    """Move points; returns a function that writes them to a file."""
    from fourierreg.data.points import read_points
    from fourierreg.image.points import move_points

    for name in ("reference", "reference_affine", "affine", "labels", "fill"):
        if getattr(options, name) not in (None, False):
            raise InputError(f"--{name.replace('_', '-')}: expected none for points; leave it out")
    points = read_points(options.points)
    if not target.name.lower().endswith(points.suffix):
        raise InputError(f"--output: expected a name ending in {points.suffix}; got {target}")
    u = result.inverse_displacement if options.inverse else result.displacement
    moved = move_points(points.ras, u, result.geometry)
    return lambda path: points.write(path, moved)


def _image(options, result, target):
    """Deform an image; returns a function that writes it to a file."""
    import numpy as np

    from fourierreg.data.nifti import copy_time, read_any, read_geometry
    from fourierreg.image.geometry import Geometry
    from fourierreg.results import folder as output

    if not target.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"--output: expected a name ending in .nii or .nii.gz; got {target}")
    image = read_any(options.image, "IMAGE", options.labels)
    if options.reference_affine is not None and options.reference is None:
        raise InputError("--reference-affine: expected --reference too, the scan it belongs to")
    ends = (result.source_geometry or result.geometry, result.geometry)
    ends = ends[::-1] if options.inverse else ends
    written = ends[1]
    if options.reference is not None:
        written = read_geometry(options.reference, "--reference")
    if options.affine is None:
        _hint_at_affine(Geometry.of(image, "IMAGE"), ends[0], options)
    data, fill = np.asanyarray(image.dataobj), options.fill or 0.0
    if not options.labels:
        data = np.where(np.isnan(data), np.float32(fill), data)  # as SPM writes outside the brain
    elif not (float(fill).is_integer() and _holds(data.dtype, int(fill))):
        raise InputError(
            f"--fill: expected a label that {data.dtype} holds; got {fill:g}: give one of those of "
            "the image"
        )
    moved = output.apply_registration(
        result,
        data,
        _in_common_space(Geometry.of(image, "IMAGE"), options.affine, "--affine", ends[0]),
        inverse=options.inverse,
        order=0 if options.labels else 1,
        reference=_in_common_space(
            written, options.reference_affine, "--reference-affine", ends[1]
        ),
        fill=fill,
    )
    deformed = output.scalar_image(moved, written)
    if moved.ndim == 4:
        copy_time(image.header, deformed.header)
    return lambda path: output.save_nifti(deformed, path)


def _hint_at_affine(geometry, registered, options):
    """Say so where an image has another position or extent than the one that was registered."""
    import numpy as np

    turned = np.abs(geometry.directions.T @ registered.directions).max(axis=0).min() < 0.999
    if (_apart(geometry, registered) > FAR or turned) and not options.quiet:
        print(
            "IMAGE: it lies elsewhere than the image that was registered; if it is the unprepared "
            "scan, give its --affine",
            file=sys.stderr,
        )


def _apart(grid, other):
    """Distance between the middles of two grids, mm."""
    import numpy as np
    from nibabel.affines import apply_affine

    first, second = (apply_affine(g.matrix, (np.array(g.shape) - 1) / 2) for g in (grid, other))
    return float(np.linalg.norm(first - second))


def _holds(dtype, value):
    """Whether a dtype of integers holds a value."""
    import numpy as np

    return dtype.kind == "b" or np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def _in_common_space(geometry, path, name, fixed):
    """Geometry of a scan in the space of the registration, where an affine leads there; `fixed` is
    the grid of the run's own image."""
    matrix = read_affine_of(path, name, geometry, fixed)
    if matrix is None:
        return geometry
    aligned = geometry.aligned_by(matrix)
    if _apart(aligned, fixed) > FAR_ALIGNED:
        print(
            f"{name}: with it the scan lies {_apart(aligned, fixed):.0f} mm from the image of the "
            "run; a matrix of flirt is taken as one whose -ref has the grid of that image",
            file=sys.stderr,
        )
    return aligned
