"""Iterations of every fit of an estimate of α, on real pairs and on simulated ones. Resumable.

    python benchmarks/iterations.py --data FOLDER --pairs 1000-1001
    python benchmarks/iterations.py --summary

Consecutive records of the history on one grid, at one α and one noise, are a fit. Simulated pairs
are those of `gpu.py`.
"""

import argparse
import itertools

import brains
import gpu
import numpy as np
import tables

import fourierreg
from fourierreg.data.template import FIELD_OF_VIEW

TABLE, SIZE, SIMULATED = "iterations.csv", 128, 2


def fits(result):
    """Iterations of every fit, in order: (voxels of the first axis, α, iterations)."""

    def key(record):
        return record.shape[0], record.alpha, record.sigma, record.decimation

    grouped = itertools.groupby(result.history, key=key)
    return [(found[0], found[1], len(list(records))) for found, records in grouped]


def count(name, source, target, spacing):
    """Add the rows of a pair in every setting of `gpu.py`."""
    for setting, keywords in gpu.SETTINGS.items():
        if tables.has(TABLE, pair=name, setting=setting):
            continue
        result = fourierreg.map_alpha(source, target, spacing=spacing, **keywords)
        rows = [
            {
                "pair": name,
                "setting": setting,
                "fit": number,
                "grid": grid,
                "alpha": f"{alpha:.4g}",
                "iterations": iterations,
            }
            for number, (grid, alpha, iterations) in enumerate(fits(result))
        ]
        tables.extend(TABLE, rows)


def summary():
    """Print fits and iterations of every pair and setting."""
    rows = tables.read(TABLE)
    for pair, setting in dict.fromkeys((r["pair"], r["setting"]) for r in rows):
        own = [r for r in rows if (r["pair"], r["setting"]) == (pair, setting)]
        counts = np.array([int(r["iterations"]) for r in own])
        print(
            f"{pair}, {setting}: {counts.sum()} iterations in {len(counts)} fits; the first "
            f"{counts[0]}, the median of the others {np.median(counts[1:]):.0f}, the most "
            f"{counts.max()}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    brains.add_arguments(parser)
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        for name, (source, _, spacing), (target, _, _) in brains.pairs(options):
            count(name, source, target, spacing)
        images = gpu.make_pairs(SIZE, SIMULATED)
        for number, (source, target) in enumerate(zip(*images, strict=True)):
            count(f"simulated {number}", source, target, FIELD_OF_VIEW / SIZE)
    summary()


if __name__ == "__main__":
    main()
