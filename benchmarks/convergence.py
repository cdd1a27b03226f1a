"""α and energy at every iteration, for Fig. 3: joint and marginal posterior, ten seeds. Resumable.

    python benchmarks/convergence.py

Bull-eye pairs as in recovery.py, whose table gets the rows of the same runs. "algorithm 1" is the
joint posterior by the paper's optimiser, the other two by quasi-Newton. At most `ROWS` iterations
of a run are kept, evenly spread.
"""

import argparse

import numpy as np
import recovery
import tables

TABLE, ROWS = "convergence.csv", 40
METHODS = ("marginal", "joint", "algorithm 1")


def run(alpha, seed, method):
    """Rows of one run."""
    if method == "algorithm 1":
        options = {"posterior": "joint", "optimizer": "gradient-descent"}
        _, result = recovery.estimate(alpha, seed, **options)
    else:
        key = {"alpha": alpha, "seed": seed, "posterior": method, "jacobian": "exact"}
        row, result = recovery.run(**key)
        if not tables.has(recovery.TABLE, **key):
            tables.append(recovery.TABLE, row)
    history = result.history
    kept = np.unique(np.linspace(0, len(history) - 1, min(ROWS, len(history))).round().astype(int))
    for i in kept:
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
