"""`fourierreg pairs`."""

import json

from fourierreg.cli.options import COMMON, add_options


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "pairs", help="a manifest of pairs from a folder of scans", description=run.__doc__
    )
    parser.add_argument("folder", metavar="FOLDER", help="BIDS-like, or SUBJECT_….nii.gz")
    parser.add_argument("-o", "--output", required=True, metavar="PAIRS.csv")
    parser.add_argument(
        "--suffix",
        help="last part of the names of the images, such as FLAIR (default: T1w where there are "
        "such, else every image that is not a label map or a mask)",
    )
    parser.add_argument("--num-pairs", type=int, help="this many (default all)")
    add_options(parser, "--fractions", help="of the subjects (default 0.7 0.15 0.15)")
    add_options(parser, "--seed")
    add_options(parser, *COMMON)
    parser.set_defaults(run=run)


def run(options):
    """List ordered pairs of scans of different subjects, split by subject: scans of one person
    are never on both sides of a split, and a pair lies within one."""
    from collections import Counter
    from pathlib import Path

    from fourierreg.data.manifest import write_pairs
    from fourierreg.data.pairing import make_pairs
    from fourierreg.data.scans import find_scans, subjects_without_scan
    from fourierreg.data.splits import split_subjects
    from fourierreg.results.folder import make_output_folder

    scans = find_scans(options.folder, options.suffix)
    splits = split_subjects((s.subject for s in scans), options.fractions, options.seed)
    pairs = make_pairs(scans, splits, num_pairs=options.num_pairs, seed=options.seed)
    make_output_folder(Path(options.output).parent)
    write_pairs(options.output, pairs)
    counts = dict(Counter(pair.split for pair in pairs))
    without = subjects_without_scan(options.folder, options.suffix)
    if options.json:
        report = {"output": options.output, "pairs": counts, "subjects": splits}
        print(json.dumps({**report, "without_image": without}))
    elif not options.quiet:
        subjects = Counter(splits.values())
        for split, count in counts.items():
            print(f"{split:10s} {subjects[split]:4d} subjects {count:6d} pairs")
        if without:
            print(f"left out, as they have no such image: {', '.join(without)}")
        print(f"written to {options.output}")
    return 0
