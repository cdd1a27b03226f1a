"""α, Dice, folds and time of `map_alpha` against `modes`, on real pairs. Resumable.

    python benchmarks/modes.py --data FOLDER --pairs 1000-1001 1007-1012
    python benchmarks/modes.py --summary

--summary prints the table without running anything.
"""

import argparse
import time

import brains
import numpy as np
import tables

import fourierreg
from fourierreg.image.metrics import jacobian_statistics, mean_dice, root_mean_square

TABLE = "modes.csv"


def run(name, source, target, modes, num_steps):
    """Row of the table for one estimate."""
    (image, labels, spacing), (fixed, truth, _) = source, target
    began = time.perf_counter()
    result = fourierreg.map_alpha(image, fixed, spacing=spacing, modes=modes, num_steps=num_steps)
    seconds = time.perf_counter() - began
    warped = fourierreg.warp(labels, result.displacement, spacing, order=0)
    low, high = result.alpha_interval
    jacobian = jacobian_statistics(result.jacobian_determinant)
    return {
        "pair": name,
        "modes": modes,
        "num_steps": num_steps,
        "alpha": f"{result.alpha:.3f}",
        "low": f"{low:.3f}",
        "high": f"{high:.3f}",
        "sigma": f"{result.sigma:.4f}",
        "decimation": f"{result.decimation:.4f}",
        "dice_before": f"{mean_dice(labels, truth):.4f}",
        "dice": f"{mean_dice(warped, truth):.4f}",
        "min_jacobian": f"{jacobian['min']:.3f}",
        "folds": jacobian["folds"],
        "rms": f"{root_mean_square(result.deformed, fixed):.4f}",
        "seconds": f"{seconds:.1f}",
        "status": result.status,
    }


def summary():
    """Print the table, sorted by pair, steps and modes."""
    rows = sorted(
        tables.read(TABLE), key=lambda r: (r["pair"], int(r["num_steps"]), int(r["modes"]))
    )
    for r in rows:
        print(
            f"{r['pair']} {r['modes']:>3s} modes, {r['num_steps']:>2s} steps: α {r['alpha']} "
            f"({r['low']} to {r['high']}), Dice {r['dice_before']} → {r['dice']}, min J "
            f"{r['min_jacobian']}, {r['folds']} folds, rms {r['rms']}, {r['seconds']} s"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    brains.add_arguments(parser)
    parser.add_argument("--modes", type=int, nargs="+", default=[8, 12, 16, 20, 24, 32])
    parser.add_argument("--num-steps", type=int, nargs="+", default=[5])
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        warm = np.random.default_rng(0).random((32, 32, 32)).astype(np.float32)
        fourierreg.map_alpha(warm, warm[::-1], modes=6)  # compiles
        for name, source, target in brains.pairs(options):
            for modes in options.modes:
                for num_steps in options.num_steps:
                    if not tables.has(TABLE, pair=name, modes=modes, num_steps=num_steps):
                        tables.append(TABLE, run(name, source, target, modes, num_steps))
    summary()


if __name__ == "__main__":
    main()
