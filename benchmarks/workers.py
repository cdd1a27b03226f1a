"""Throughput of `label_pairs` in pairs per minute against number of workers and threads.

    python benchmarks/workers.py --data FOLDER

The same pairs, resampled to 64³, for each setting. The first pair of every worker is not counted,
which excludes its start and compilation.
"""

import argparse
import tempfile
import time
from pathlib import Path

import tables

import fourierreg
from fourierreg.data import cluster
from fourierreg.data.pairing import make_pairs
from fourierreg.data.scans import find_scans

TABLE, SIZE = "workers.csv", 64
SETTINGS = {"two workers, one thread each": (2, 1), "one worker, one thread": (1, 1)}
SETTINGS["one worker, both cores"] = (1, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of prepared brains")
    parser.add_argument("--count", type=int, default=8, help="number of pairs")
    options = parser.parse_args()
    pairs = make_pairs(find_scans(options.data), num_pairs=options.count)
    rows, default = [], cluster.threads_per_worker
    for name, (workers, threads) in SETTINGS.items():
        cluster.threads_per_worker = lambda count, fixed=threads: fixed
        finished = []
        with tempfile.TemporaryDirectory() as folder:
            fourierreg.label_pairs(
                pairs,
                Path(folder),
                size=SIZE,
                workers=workers,
                callback=lambda *call, times=finished: times.append(time.perf_counter()),
            )
        counted = finished[workers - 1 :]  # from where every worker has finished one
        rate = 60 * (len(counted) - 1) / (counted[-1] - counted[0])
        rows.append({"workers": workers, "threads": threads, "pairs_per_minute": f"{rate:.2f}"})
        print(f"{name:30s} {rate:.2f} pairs per minute", flush=True)
    cluster.threads_per_worker = default
    tables.replace(TABLE, rows)


if __name__ == "__main__":
    main()
