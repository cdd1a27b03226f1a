"""`fourierreg evaluate`."""

import json

from fourierreg.cli.common import add_common_options


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate", help="how good a run, or a table of runs, is", description=run.__doc__
    )
    parser.add_argument("directory", metavar="DIR", help="of map-alpha, register or label")
    parser.add_argument("--source-labels", help="labels on the source, for Dice")
    parser.add_argument("--target-labels", help="labels on the target, for Dice")
    parser.add_argument(
        "--structures", help="neuromorphometrics, or a CSV table with columns value,structure"
    )
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(options):
    """Print what a folder's registrations are worth: α, Jacobian, inverse consistency, Dice of
    every (merged) structure before and after."""
    from pathlib import Path

    from fourierreg.data.label_folder import TABLE

    of_many = (Path(options.directory) / TABLE).is_file()
    report = (_of_table if of_many else _of_run)(options)
    if options.json:
        print(json.dumps(report, indent=1))
    elif not options.quiet:
        _print(report)
    return 0


def _of_run(options):
    """The registration in a folder."""
    from fourierreg import output
    from fourierreg.cli.pair import read_label_pair
    from fourierreg.data.labelling import overlaps_of
    from fourierreg.data.structures import structures_of
    from fourierreg.metrics import inverse_consistency, jacobian_statistics

    labels = read_label_pair(options)
    structures = None if options.structures is None else structures_of(options.structures)
    result = output.load(options.directory)
    around = inverse_consistency(result.displacement, result.inverse_displacement, result.spacing)
    jacobian = jacobian_statistics(result.jacobian_determinant)
    report = {
        "pairs": 1,
        "alpha": result.alpha,
        "alpha_interval_95": result.alpha_interval,
        "status": result.status,
        **{f"jacobian_{name}": value for name, value in jacobian.items()},
        "inverse_consistency_rms_mm": around["rms"],
        "inverse_consistency_max_mm": around["max"],
    }
    if labels is not None:
        report["dice"] = overlaps_of(result, *labels, structures)
    return report


def _of_table(options):
    """The finished rows of a label run."""
    import numpy as np
    from scipy.stats import spearmanr

    from fourierreg.data.label_folder import DONE, read_table

    rows = read_table(options.directory)
    done = [row for row in rows if row["state"] == DONE]
    report = {"pairs": len(rows), "failed": len(rows) - len(done)}
    if not done:
        return report

    def numbers(name):
        return np.array([float(row[name] or "nan") for row in done])

    alpha = numbers("alpha")
    report |= {
        "converged": sum(row["converged"] == "True" for row in done),
        "alpha_median": float(np.median(alpha)),
        "alpha_range": [float(alpha.min()), float(alpha.max())],
        "alpha_sd_median": float(np.nanmedian(numbers("alpha_sd"))),
        "folds": int(numbers("folds").sum()),
        "jacobian_min": float(numbers("min_jacobian").min()),
        "jacobian_sd_log_median": float(np.median(numbers("sd_log_jacobian"))),
        "inverse_consistency_rms_mm_median": float(np.median(numbers("inverse_consistency_mm"))),
        "seconds_median": float(np.median(numbers("seconds"))),
    }
    if len(done) > 2:
        moved = numbers("rms_displacement_mm")
        report["spearman_alpha_displacement"] = float(spearmanr(alpha, moved).statistic)
    if "dice" in done[0]:
        names = [name[5:] for name in done[0] if name.startswith("dice_") and "before" not in name]
        report["dice"] = {
            "mean": [float(np.nanmean(numbers(n))) for n in ("dice_before", "dice")],
            **{
                n: [float(np.nanmean(numbers(f"{k}_{n}"))) for k in ("dice_before", "dice")]
                for n in names
            },
        }
    return report


def _print(report):
    width = max(len(name) for name in report)
    for name, value in report.items():
        if name != "dice":
            print(f"{name.replace('_', ' '):{width}}  {_text(value)}")
    if "dice" in report:
        width = max(len("Dice"), *(len(name) for name in report["dice"]))
        print(f"\n{'Dice':{width}}  before  after")
        for name, (before, after) in report["dice"].items():
            print(f"{name:{width}}  {before:6.3f}  {after:5.3f}")


def _text(value):
    if isinstance(value, list | tuple):
        return " to ".join(_text(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
