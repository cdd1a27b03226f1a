"""How far the α that is inferred is from the one that aligns best, by overlap and landmarks.

    python benchmarks/regret.py --data FOLDER --pairs 1000-1001 1006-1010 [--backend cupy]

Registers each pair at seven α in factors of 1.4, and at the α that is inferred, everything else
being equal, in each of the ways to infer it:

- predictive: held-out voxels, in the model of the default quality;
- marginal: the marginal posterior of the Gaussian likelihood, noise of a registration at α = 3;
- profile: the same with noise estimated at every α, with 24 modes;
- windows: the marginal posterior of the likelihood whose windows have a gain, an offset and a
  variance of their own, with 24 modes and c = 1.5.

The regret is what the registration at the inferred α lacks of the best of the sweep. Resumable.
"""

import argparse
from typing import Any, NamedTuple

import brains
import numpy as np
import tables
from rivals import landmark_error, mean_dice

import fourierreg
from fourierreg.backend import to_numpy

TABLE = "regret.csv"
COUNT, FACTOR = 7, 2**0.5
LIMIT = {"max_iterations": 300}
WINDOWS = fourierreg.Model(modes=24, power=1.5, similarity="lncc-likelihood")


class Method(NamedTuple):
    """Keywords of `map_alpha`, those of `register` in the same model, and the lowest α."""

    infer: dict[str, Any]
    register: dict[str, Any]
    lowest: float


METHODS = {
    "predictive": Method({}, {"quality": "default"}, 2.0),
    "marginal": Method({"posterior": "marginal", **LIMIT}, LIMIT, 0.7),
    "profile": Method({"sigma": "profile", "modes": 24, **LIMIT}, {"modes": 24, **LIMIT}, 0.7),
    "windows": Method(
        {"model": WINDOWS, "alpha0": 20.0, **LIMIT}, {"model": WINDOWS, **LIMIT}, 8.0
    ),
}


def row(folder, name, pair, how, alpha):
    """Row of one registration, at an α or at the one that is inferred (None)."""
    (source, labels, spacing), (target, truth, _) = pair
    method, points = METHODS[how], [brains.landmarks(folder, one) for one in name.split("-")]
    if alpha is None:
        result = fourierreg.map_alpha(source, target, spacing=spacing, **method.infer)
    else:
        result = fourierreg.register(
            source, target, spacing=spacing, alpha=alpha, **method.register
        )
    u, interval = to_numpy(result.displacement), result.alpha_interval or (np.nan, np.nan)
    with fourierreg.use_backend("numpy"):
        warped = fourierreg.warp(labels, u, spacing, order=0)
    return {
        "pair": name,
        "method": how,
        "kind": "inferred" if alpha is None else "sweep",
        "alpha": f"{result.alpha:.3f}",
        "low": f"{interval[0]:.3f}",
        "high": f"{interval[1]:.3f}",
        "dice": f"{mean_dice(warped, truth):.4f}",
        "landmarks_mm": f"{landmark_error(u, spacing, *points):.3f}",
        "smallest_jacobian": f"{float(result.jacobian_determinant.min()):.3f}",
        "seconds": f"{result.seconds:.1f}",
    }


def alphas(how):
    """α of the sweep of a method, and None for the one that is inferred."""
    return [*(METHODS[how].lowest * FACTOR**step for step in range(COUNT)), None]


def summarize(rows):
    """Print the regrets of every method."""
    for how in METHODS:
        dice, landmarks = [], []
        for name in dict.fromkeys(row["pair"] for row in rows):
            own = [row for row in rows if row["pair"] == name and row["method"] == how]
            inferred = [row for row in own if row["kind"] == "inferred"]
            if not inferred:
                continue
            sweep = [row for row in own if row["kind"] == "sweep"]
            dice.append(max(float(r["dice"]) for r in sweep) - float(inferred[0]["dice"]))
            best = min(float(r["landmarks_mm"]) for r in sweep)
            landmarks.append(float(inferred[0]["landmarks_mm"]) - best)
        if dice:
            known = [x for x in landmarks if np.isfinite(x)] or [np.nan]
            print(
                f"{how}: {len(dice)} pairs, Dice below the best by {np.mean(dice):.4f} (at most "
                f"{max(dice):.4f}), landmarks above the best by {np.mean(known):.2f} mm"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    brains.add_arguments(parser)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--backend", choices=["numpy", "cupy"], default="numpy")
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    fourierreg.set_backend(options.backend)
    rows = tables.read(TABLE)
    done = {(row["pair"], row["method"]) for row in rows}
    for name, *pair in [] if options.summary else brains.pairs(options):
        for how in options.methods:
            if (name, how) not in done:
                rows += [row(options.data, name, pair, how, alpha) for alpha in alphas(how)]
                tables.replace(TABLE, rows)
    summarize(rows)


if __name__ == "__main__":
    main()
