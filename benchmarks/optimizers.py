"""Quasi-Newton and Algorithm 1 on the joint posterior, from α0 = 1, 3, 7, 15. Resumable.

    python benchmarks/optimizers.py
    python benchmarks/optimizers.py --summary

Bull-eye pairs as in recovery.py. u is the stop rate of Algorithm 1. Its iterations include those of
the initial registration.
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
    """Row of the table for one estimate."""
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
    """Print, per α and optimizer, the differences between starts, iterations and time."""
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
        selected = [r for r in table if (float(r["alpha"]), r["optimizer"]) == (alpha, optimizer)]
        differences = [
            math.log(float(r["estimate"]) / reference[r["alpha"], r["seed"]]) for r in selected
        ]
        print(
            f"α = {alpha:4g} {optimizer:26s} {len(selected):3d} runs: ln α minus the median of "
            f"quasi-Newton {min(differences):+.3f} to {max(differences):+.3f}; median iterations "
            f"{np.median([int(r['iterations']) for r in selected]):.0f}, "
            f"{np.median([float(r['seconds']) for r in selected]):.1f} s"
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
