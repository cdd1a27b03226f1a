"""`fourierreg pairs`."""

import json

from fourierreg.cli.common import add_common_options


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "pairs", help="a manifest of pairs from a folder of scans", description=run.__doc__
    )
    parser.add_argument("folder", metavar="FOLDER", help="BIDS-like, or SUBJECT_….nii.gz")
    parser.add_argument("-o", "--output", required=True, metavar="PAIRS.csv")
    parser.add_argument("--num-pairs", type=int, help="so many (default all)")
    parser.add_argument(
        "--fractions",
        type=float,
        nargs=3,
        default=[0.70, 0.15, 0.15],
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="of the subjects (default 0.7 0.15 0.15)",
    )
    parser.add_argument("--seed", type=int, default=0)
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(options):
    """List ordered pairs of scans of different subjects, split by subject: scans of one person
    never stand on both sides of a split, and a pair lies within one."""
    from collections import Counter
    from pathlib import Path

    from fourierreg.data.manifest import find_scans, make_pairs, split_subjects, write_pairs
    from fourierreg.results.folder import prepare_folder

    scans = find_scans(options.folder)
    splits = split_subjects((s.subject for s in scans), options.fractions, options.seed)
    pairs = make_pairs(scans, splits, num_pairs=options.num_pairs, seed=options.seed)
    prepare_folder(Path(options.output).parent)
    write_pairs(options.output, pairs)
    counts = dict(Counter(pair.split for pair in pairs))
    if options.json:
        print(json.dumps({"output": options.output, "pairs": counts, "subjects": splits}))
    elif not options.quiet:
        subjects = Counter(splits.values())
        for split, count in counts.items():
            print(f"{split:10s} {subjects[split]:4d} subjects {count:6d} pairs")
        print(f"written to {options.output}")
    return 0
