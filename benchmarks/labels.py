"""Labels of real pairs: α, its interval, Dice of nine structures, folds. Resumable.

    python benchmarks/labels.py --data FOLDER --work WORK

40 pairs at 64³, and 6 of them at 128³, drawn within splits by subject. The label runs are stored in
WORK; the tables contain the results without paths. The Spearman correlation tests the observation
of the paper that α is smaller where the deformation is larger.
"""

import argparse
from pathlib import Path

import numpy as np
import tables
from scipy.stats import spearmanr

import fourierreg
from fourierreg.data.pairing import make_pairs
from fourierreg.data.scans import find_scans
from fourierreg.data.splits import split_subjects
from fourierreg.data.structures import NEUROMORPHOMETRICS

COUNTS = {64: 40, 128: 6}
COLUMNS = (
    *("alpha", "alpha_low", "alpha_high", "converged", "shape", "spacing_mm", "modes"),
    *("velocity_scale_mm", "reference_length_mm", "sigma", "decimation", "rms_displacement_mm"),
    *("max_displacement_mm", "min_jacobian", "folds", "inverse_consistency_mm"),
    *("dice_before", "dice"),
)


def table_row(row):
    """A row of a label run without paths, rounded to four digits."""
    names = [*COLUMNS, *(f"{k}_{s}" for s in NEUROMORPHOMETRICS for k in ("dice_before", "dice"))]
    values = {name: row[name] for name in names}
    rounded = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in values.items()}
    pair = {"source": row["source_subject"], "target": row["target_subject"], "split": row["split"]}
    return {**pair, **rounded}


def summary(size):
    """Print medians, Dice per structure, and the correlation of α with the displacement."""
    rows = tables.read(f"labels_{size}.csv")

    def column(name):
        return np.array([float(row[name]) for row in rows])

    alpha, displacement = column("alpha"), column("rms_displacement_mm")
    width = np.log(column("alpha_high") / column("alpha_low")) / (2 * 1.96)
    print(
        f"{size}³: {len(rows)} pairs, α {np.median(alpha):.2f} ({alpha.min():.2f} to "
        f"{alpha.max():.2f}), sd of ln α {np.median(width):.3f}, "
        f"{int(column('folds').sum())} folds"
    )
    for name in ("", *(f"_{s}" for s in NEUROMORPHOMETRICS)):
        before, after = column(f"dice_before{name}").mean(), column(f"dice{name}").mean()
        print(f"  Dice {name[1:] or 'mean':12s} {before:.3f} affine only, {after:.3f} registered")
    found = spearmanr(alpha, displacement)
    rho, p = found.statistic, found.pvalue
    print(f"  Spearman correlation of α with rms displacement: {rho:+.2f} (p = {p:.2g})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of {id}_t1.nii.gz and {id}_label.nii.gz")
    parser.add_argument("--work", default="labels", help="folder of the label runs")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(COUNTS))
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    for size in options.sizes:
        if not options.summary:
            scans = find_scans(options.data)
            splits = split_subjects(s.subject for s in scans)
            pairs = make_pairs(scans, splits, num_pairs=COUNTS[size])
            rows = fourierreg.label_pairs(
                pairs,
                Path(options.work) / str(size),
                size=size,
                structures="neuromorphometrics",
                callback=lambda done, total, row: print(
                    f"{done}/{total}: α {row.get('alpha', 'failed')}, {row['seconds']} s",
                    flush=True,
                ),
            )
            tables.replace(
                f"labels_{size}.csv", [table_row(r) for r in rows if r["state"] == "done"]
            )
        summary(size)


if __name__ == "__main__":
    main()
