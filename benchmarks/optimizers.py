"""Joint posterior by quasi-Newton and by Algorithm 1, from α0 = 1, 3, 7, 15. Resumable.

    python benchmarks/optimizers.py
    python benchmarks/optimizers.py --summary

Bull-eye pairs as in recovery.py. u is Algorithm 1's stop rate; its initial registration counts.
"""

import argparse
import math

import numpy as np
import recovery
import tables

from fourierreg.registration.algorithm_1 import GradientDescent

TABLE = "optimizers.csv"
STARTS = (1.0, 3.0, 7.0, 15.0)
OPTIMIZERS = {
    "quasi-newton": "quasi-newton",
    "gradient-descent u=1e-06": GradientDescent(stop_rate=1e-6),
    "gradient-descent u=1e-07": GradientDescent(stop_rate=1e-7),
}


def run(alpha, seed, alpha0, optimizer):
    """One row."""
    options = {"posterior": "joint", "alpha0": alpha0, "optimizer": OPTIMIZERS[optimizer]}
    _, result = recovery.estimate(alpha, seed, **options)
    return {
        "alpha": alpha,
        "seed": seed,
        "alpha0": alpha0,
        "optimizer": optimizer,
        "estimate": f"{result.alpha:.4g}",
        "objective": f"{result.history[-1].objective:.2f}",
        "iterations": len(result.history),
        "seconds": f"{result.seconds:.1f}",
        "status": result.status,
    }


def summary():
    """Per α and optimiser: the estimates from all starts, and what they cost."""
    table = [r for r in tables.read(TABLE) if not r["status"].startswith("No interior")]
    keys = sorted({(float(r["alpha"]), r["optimizer"]) for r in table}, key=str)
    reference = {
        (r["alpha"], r["seed"]): np.median(
            [
                float(x["estimate"])
                for x in table
                if (x["alpha"], x["seed"], x["optimizer"])
                == (r["alpha"], r["seed"], "quasi-newton")
            ]
        )
        for r in table
    }
    for alpha, optimizer in keys:
        mine = [r for r in table if (float(r["alpha"]), r["optimizer"]) == (alpha, optimizer)]
        gaps = [math.log(float(r["estimate"]) / reference[r["alpha"], r["seed"]]) for r in mine]
        print(
            f"α = {alpha:4g} {optimizer:26s} {len(mine):3d} runs: ln α off the median of "
            f"quasi-Newton by {min(gaps):+.3f} to {max(gaps):+.3f}; median iterations "
            f"{np.median([int(r['iterations']) for r in mine]):.0f}, "
            f"{np.median([float(r['seconds']) for r in mine]):.1f} s"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--alphas", type=float, nargs="+", default=[3.0, 6.0, 11.0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        for seed in range(options.seeds):
            for alpha in options.alphas:
                for alpha0 in STARTS:
                    for optimizer in OPTIMIZERS:
                        key = {
                            "alpha": alpha,
                            "seed": seed,
                            "alpha0": alpha0,
                            "optimizer": optimizer,
                        }
                        if not tables.has(TABLE, **key):
                            tables.append(TABLE, run(**key))
    summary()


if __name__ == "__main__":
    main()
