"""Convergence of α and energy (Fig. 3): joint and marginal posterior, ten seeds. Resumable.

    python benchmarks/convergence.py

Bull-eye pairs as in recovery.py; the same runs are added to its table. "algorithm 1" minimizes the
joint posterior by the optimizer of the paper; the other methods use quasi-Newton. At most `ROWS`
evenly spaced iterations of a run are stored.
"""

import argparse

import numpy as np
import recovery
import tables

TABLE, ROWS = "convergence.csv", 40
METHODS = ("marginal", "joint", "algorithm 1")


def run(alpha, seed, method):
    """Run one estimate and yield its rows of the table."""
    if method == "algorithm 1":
        options = {"posterior": "joint", "optimizer": "gradient-descent"}
        _, result = recovery.estimate(alpha, seed, **options)
    else:
        key = {"alpha": alpha, "seed": seed, "posterior": method, "jacobian": "exact"}
        row, result = recovery.run(**key)
        if not tables.has(recovery.TABLE, **key):
            tables.append(recovery.TABLE, row)
    history = result.history
    stored = np.unique(
        np.linspace(0, len(history) - 1, min(ROWS, len(history))).round().astype(int)
    )
    for i in stored:
        record = history[i]
        yield {
            "alpha": alpha,
            "seed": seed,
            "method": method,
            "iteration": record.iteration,
            "grid": "x".join(map(str, record.shape)),
            "estimate": f"{record.alpha:.4g}",
            "sigma": f"{record.sigma:.4g}",
            "objective": f"{record.objective:.1f}",
            "found": not result.status.startswith("No interior"),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--alphas", type=float, nargs="+", default=[3.0, 6.0, 11.0])
    options = parser.parse_args()
    for seed in range(options.seeds):
        for alpha in options.alphas:
            for method in METHODS:
                if not tables.has(TABLE, alpha=alpha, seed=seed, method=method):
                    rows = list(run(alpha, seed, method))
                    tables.extend(TABLE, rows)
                    print(alpha, seed, method, rows[-1]["estimate"], flush=True)


if __name__ == "__main__":
    main()
