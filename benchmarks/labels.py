"""Real pairs labelled end to end: α, interval, Dice of nine structures, folds. Resumable.

    python benchmarks/labels.py --data FOLDER --work WORK

40 pairs at 64³ and 6 of them at 128³, drawn within splits by subject; `fourierreg label` keeps its
folders in WORK, the tables here hold the numbers without paths. The Spearman correlation at the
end tests the paper's observation that α is smaller where the deformation is larger.
"""

import argparse
from pathlib import Path

import numpy as np
import tables
from scipy.stats import spearmanr

import fourierreg
from fourierreg.data.manifest import find_scans, make_pairs, split_subjects
from fourierreg.data.structures import NEUROMORPHOMETRICS

COUNTS = {64: 40, 128: 6}
COLUMNS = (
    *("alpha", "alpha_low", "alpha_high", "converged", "shape", "spacing_mm", "modes"),
    *("velocity_scale_mm", "reference_length_mm", "sigma", "decimation", "rms_displacement_mm"),
    *("max_displacement_mm", "min_jacobian", "folds", "inverse_consistency_mm"),
    *("dice_before", "dice"),
)


def short(row):
    """A row without paths, numbers to four digits."""
    names = [*COLUMNS, *(f"{k}_{s}" for s in NEUROMORPHOMETRICS for k in ("dice_before", "dice"))]
    values = {name: row[name] for name in names}
    plain = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in values.items()}
    who = {"source": row["source_subject"], "target": row["target_subject"], "split": row["split"]}
    return {**who, **plain}


def summary(size):
    """Medians, Dice per structure, and α against the size of the deformation."""
    rows = tables.read(f"labels_{size}.csv")

    def numbers(name):
        return np.array([float(row[name]) for row in rows])

    alpha, moved = numbers("alpha"), numbers("rms_displacement_mm")
    width = np.log(numbers("alpha_high") / numbers("alpha_low")) / (2 * 1.96)
    print(
        f"{size}³: {len(rows)} pairs, α {np.median(alpha):.2f} ({alpha.min():.2f} to "
        f"{alpha.max():.2f}), sd of ln α {np.median(width):.3f}, "
        f"{int(numbers('folds').sum())} folds"
    )
    for name in ("", *(f"_{s}" for s in NEUROMORPHOMETRICS)):
        before, after = numbers(f"dice_before{name}").mean(), numbers(f"dice{name}").mean()
        print(f"  Dice {name[1:] or 'mean':12s} {before:.3f} affine only, {after:.3f} after")
    found = spearmanr(alpha, moved)
    print(f"  Spearman of α with rms displacement: {found.statistic:+.2f} (p = {found.pvalue:.2g})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of {id}_t1.nii.gz and {id}_label.nii.gz")
    parser.add_argument("--work", default="labels", help="where the runs are kept")
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
            tables.replace(f"labels_{size}.csv", [short(r) for r in rows if r["state"] == "done"])
        summary(size)


if __name__ == "__main__":
    main()
