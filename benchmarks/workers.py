"""Pairs per minute: two workers of one thread, one of one, and one that uses both cores.

    python benchmarks/workers.py --data FOLDER

The same pairs, resampled to 64³, three times in one run; every worker labels a pair of its own
first, so that starting it and compiling are not counted.
"""

import argparse
import tempfile
import time
from pathlib import Path

import tables

import fourierreg
from fourierreg.data import cluster as engine
from fourierreg.data.manifest import find_scans, make_pairs

TABLE, SIZE = "workers.csv", 64
SETTINGS = {"two workers, one thread each": (2, 1), "one worker, one thread": (1, 1)}
SETTINGS["one worker, both cores"] = (1, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--count", type=int, default=8)
    options = parser.parse_args()
    pairs = make_pairs(find_scans(options.data), num_pairs=options.count)
    rows, usual = [], engine.threads_of
    for name, (workers, threads) in SETTINGS.items():
        engine.threads_of = lambda count, fixed=threads: fixed
        ends = []
        with tempfile.TemporaryDirectory() as folder:
            fourierreg.label_pairs(
                pairs,
                Path(folder),
                size=SIZE,
                workers=workers,
                callback=lambda *call, ends=ends: ends.append(time.perf_counter()),
            )
        counted = ends[workers - 1 :]  # from where every worker has finished one
        rate = 60 * (len(counted) - 1) / (counted[-1] - counted[0])
        rows.append({"workers": workers, "threads": threads, "pairs_per_minute": f"{rate:.2f}"})
        print(f"{name:30s} {rate:.2f} pairs per minute", flush=True)
    engine.threads_of = usual
    tables.replace(TABLE, rows)


if __name__ == "__main__":
    main()
