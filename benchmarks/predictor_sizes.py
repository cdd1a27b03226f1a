"""Predictions of one pair at several resolutions, beside the estimates at those. Resumable.

    python benchmarks/predictor_sizes.py --data OASIS IXI --work WORK --pairs 6

Pairs as they are, held out of the network's training. A network resamples what it is given to its
own grid (64³), so that its α is always that of the estimate there.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import tables
from predictor import NETWORK, PREDICTIONS
from predictor_labels import TABLE as LABELS
from predictor_labels import scans_of

import fourierreg
from fourierreg.data.nifti import read_image, resized

TABLE, SIZES = "predictor_sizes.csv", (48, 64, 96, 128)


def pairs_of(count):
    """Fold and people of held-out pairs as they are."""
    labels = {(row["number"], row["repeat"]): row for row in tables.read(LABELS)}
    found = {}
    for row in tables.read(PREDICTIONS):
        label = labels[row["number"], row["repeat"]]
        bare = label["source_condition"] == label["target_condition"] == "none"
        own = (row["architecture"], row["variant"]) == NETWORK and row["fold"].isdigit()
        if bare and own:
            found[label["source"], label["target"]] = row["fold"]
    step = max(1, len(found) // count)
    return [(fold, *people) for people, fold in list(found.items())[::step]][:count]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--work", default="predictor-labels")
    parser.add_argument("--pairs", type=int, default=6)
    options = parser.parse_args()
    people = scans_of(options.data)
    for fold, source, target in pairs_of(options.pairs):
        name = "-".join((*NETWORK, fold))
        model = fourierreg.load_model(Path(options.work) / f"{name}.keras")
        for size in SIZES:
            if tables.has(TABLE, source=source, target=target, size=size):
                continue
            images = [resized(read_image(people[one][0], one), size) for one in (source, target)]
            fourierreg.predict_alpha(model, *images)
            began = time.perf_counter()
            predicted = fourierreg.predict_alpha(model, *images)
            seconds = time.perf_counter() - began
            estimate = fourierreg.map_alpha(
                *images, posterior="marginal", model=fourierreg.Model(integrator="rk4")
            )
            row = {"source": source, "target": target, "size": size}
            row |= {"predicted": f"{predicted.alpha:.4g}", "seconds": f"{seconds:.3f}"}
            tables.append(TABLE, row | {"estimated": f"{estimate.alpha:.4g}"})
            print(row, estimate.alpha, flush=True)
    rows = tables.read(TABLE)
    at_64 = {(r["source"], r["target"]): r for r in rows if r["size"] == "64"}
    for size in SIZES:
        own = [r for r in rows if r["size"] == str(size)]
        gaps = {
            key: np.log([float(r[key]) / float(at_64[r["source"], r["target"]][key]) for r in own])
            for key in ("predicted", "estimated")
        }
        seconds = np.median([float(r["seconds"]) for r in own])
        text = ", ".join(
            f"{key} {np.exp(np.median(values)):.3f} of that at 64³ (sd of ln α {values.std():.3f})"
            for key, values in gaps.items()
        )
        print(f"{size}³: {text}; a prediction takes {seconds:.2f} s")


if __name__ == "__main__":
    main()
