"""`fourierreg export`."""

from pathlib import Path

from fourierreg.cli.common import read_affine_of, say_written
from fourierreg.cli.options import COMMON, add_options
from fourierreg.errors import InputError

PROGRAMS = ("itk-h5", "ants", "fsl", "mrtrix", "spm", "freesurfer", "bids-x5")
EPILOG = """\
then, with the source and the target of the run:
  itk-h5      antsApplyTransforms -d 3 -i SOURCE -r TARGET -t FILE.h5 -o MOVED
  ants        antsApplyTransforms -d 3 -i SOURCE -r TARGET -t FILE.nii.gz -o MOVED
  fsl         applywarp --rel -i SOURCE -r TARGET -w FILE.nii.gz -o MOVED
  mrtrix      mrtransform SOURCE -warp FILE.nii.gz MOVED
  spm         Deformations (Util), pullback, FILE.nii
  freesurfer  mri_convert --apply_transform FILE.mgz SOURCE MOVED
  bids-x5     nitransforms.nonlinear.DenseFieldTransform.from_filename("FILE.x5")
"""


def add_to(commands):
    """Add the command to the parser."""
    import argparse

    parser = commands.add_parser(
        "export",
        help="the map of a run for another program",
        description=run.__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", metavar="DIR", help="output folder of a run")
    parser.add_argument("--to", dest="program", required=True, choices=PROGRAMS)
    parser.add_argument("-o", "--output", required=True, metavar="FILE")
    parser.add_argument(
        "--source",
        metavar="IMAGE",
        help="the image that will be moved, if its grid is not the source's",
    )
    add_options(parser, "--inverse", "--affine", "--reference", "--reference-affine", *COMMON)
    parser.set_defaults(run=run)


def run(options):
    """Write the map of a saved registration in the format of another program."""
    from fourierreg.data.nifti import read_geometry
    from fourierreg.results import folder as output
    from fourierreg.results.export import export, point_map

    result = output.load_registration(options.directory)
    if result.geometry is None:
        raise InputError("DIR: this registration was made from arrays, which have no space")
    for affine, image in (("affine", "source"), ("reference_affine", "reference")):
        if getattr(options, affine) is not None and getattr(options, image) is None:
            name = affine.replace("_", "-")
            raise InputError(f"--{name}: expected --{image} too, the scan it belongs to")
    ends = (result.source_geometry or result.geometry, result.geometry)
    grids = [
        None if path is None else read_geometry(path, f"--{name}")
        for name, path in (("source", options.source), ("reference", options.reference))
    ]
    fixed = reversed(ends) if options.inverse else ends
    affines = [
        read_affine_of(path, name, moving, grid)
        for path, name, moving, grid in zip(
            (options.affine, options.reference_affine),
            ("--affine", "--reference-affine"),
            grids,
            fixed,
            strict=True,
        )
    ]
    mapped = point_map(
        result,
        inverse=options.inverse,
        moving=grids[0],
        moving_affine=affines[0],
        grid=grids[1],
        grid_affine=affines[1],
    )
    target = Path(options.output)
    output.make_output_folder(target.parent)
    try:
        export(mapped, options.program, target)
    except OSError as error:
        raise output.disk_error(target.parent, error) from error
    say_written(options, target)
    return 0
