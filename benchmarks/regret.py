"""How far the α that is inferred is from the one that aligns best, by overlap and landmarks.

    python benchmarks/regret.py --data FOLDER --pairs 1000-1001 1006-1010

Registers each pair at α from 2 to 16 in factors of 1.4 in the model of the default quality, and
infers α from held-out voxels there; then the same for the marginal posterior in its own model (sum
of squares, 16 modes, c = 3), at α from 0.7 to 5.5. The regret is what the registration at the
inferred α lacks of the best of the sweep. Resumable.
"""

import argparse

import brains
import numpy as np
import tables
from rivals import landmark_error, mean_dice

import fourierreg

TABLE = "regret.csv"
SWEEPS = {"predictive": 2.0, "marginal": 0.7}  # the lowest α
COUNT, FACTOR = 7, 2**0.5


def registrations(how, source, target, spacing):
    """(how, `Registration`) of the sweep and of the inferred α."""
    keywords = {"quality": "default"} if how == "predictive" else {}
    for step in range(COUNT):
        alpha = SWEEPS[how] * FACTOR**step
        result = fourierreg.register(source, target, spacing=spacing, alpha=alpha, **keywords)
        yield "sweep", result
    yield "inferred", fourierreg.map_alpha(source, target, spacing=spacing, posterior=how)


def run(folder, name, pair, how):
    """Rows of one pair in one model."""
    (source, _, spacing), (target, truth, _) = pair
    labels, points = pair[0][1], [brains.landmarks(folder, one) for one in name.split("-")]
    for kind, result in registrations(how, source, target, spacing):
        u, interval = result.displacement, result.alpha_interval or (np.nan, np.nan)
        error = landmark_error(u, spacing, *points)
        yield {
            "pair": name,
            "posterior": how,
            "kind": kind,
            "alpha": f"{result.alpha:.3f}",
            "low": f"{interval[0]:.3f}",
            "high": f"{interval[1]:.3f}",
            "dice": f"{mean_dice(fourierreg.warp(labels, u, spacing, order=0), truth):.4f}",
            "landmarks_mm": f"{error:.3f}",
            "smallest_jacobian": f"{result.jacobian_determinant.min():.3f}",
            "seconds": f"{result.seconds:.1f}",
        }


def summarize(rows):
    """Print the regrets of every posterior."""
    for how in SWEEPS:
        dice, landmarks = [], []
        for name in dict.fromkeys(row["pair"] for row in rows):
            own = [row for row in rows if row["pair"] == name and row["posterior"] == how]
            inferred = [row for row in own if row["kind"] == "inferred"]
            if not inferred:
                continue
            sweep = [row for row in own if row["kind"] == "sweep"]
            dice.append(max(float(r["dice"]) for r in sweep) - float(inferred[0]["dice"]))
            best = min(float(r["landmarks_mm"]) for r in sweep)
            landmarks.append(float(inferred[0]["landmarks_mm"]) - best)
        if dice:
            print(
                f"{how}: {len(dice)} pairs, Dice below the best by {np.mean(dice):.4f} (at most "
                f"{max(dice):.4f}), landmarks above the best by {np.nanmean(landmarks):.2f} mm"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    brains.add_arguments(parser)
    options = parser.parse_args()
    rows = tables.read(TABLE)
    done = {(row["pair"], row["posterior"]) for row in rows}
    for name, *pair in brains.pairs(options):
        for how in SWEEPS:
            if (name, how) not in done:
                rows += run(options.data, name, pair, how)
                tables.replace(TABLE, rows)
    summarize(rows)


if __name__ == "__main__":
    main()
