"""What a prediction saves as the start of an estimate, and what it changes. Resumable.

    python benchmarks/predictor_refine.py --work WORK --pairs 10

Held-out pairs of `predictor.py`, with the prediction of a network that has not seen the people. The
marginal estimate starts at the default α, at the prediction, and at
five times and a fifth of it, as if it were wrong: one after the other in one run.
"""

import argparse
import time

import numpy as np
import tables
from predictor_registrations import chosen_pairs, images_of

import fourierreg

TABLE = "predictor_refine.csv"
STARTS = {"default": None, "prediction": 1.0, "five times": 5.0, "a fifth": 0.2}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="predictor-labels")
    parser.add_argument("--pairs", type=int, default=10)
    options = parser.parse_args()
    for row in chosen_pairs(options.pairs):
        if tables.has(TABLE, number=row["number"]):
            continue
        images = images_of(options.work, row)
        made = {"number": row["number"], "predicted": f"{float(row['predicted']):.4g}"}
        setting = {"posterior": "marginal", "model": fourierreg.Model(integrator="rk4")}
        predicted = float(row["predicted"])
        for name, start in STARTS.items():
            used = {} if start is None else {"alpha0": start * predicted}
            began = time.perf_counter()
            found = fourierreg.map_alpha(*images, **setting, **used)
            made[f"{name}_seconds"] = f"{time.perf_counter() - began:.2f}"
            made[f"{name}_iterations"] = len(found.history)
            made[f"{name}_alpha"] = f"{found.alpha:.4g}"
            made[f"{name}_converged"] = found.converged
        tables.append(TABLE, made)
        print(made, flush=True)
    rows = tables.read(TABLE)
    for name in list(STARTS)[1:]:
        columns = {
            key: [float(r[f"{name}_{key}"]) / float(r[f"default_{key}"]) for r in rows]
            for key in ("seconds", "iterations", "alpha")
        }
        print(
            f"start at {name}: {np.median(columns['seconds']):.2f} of the time and "
            f"{np.median(columns['iterations']):.2f} of the iterations of the default start; "
            f"ln α differs by {np.max(np.abs(np.log(columns['alpha']))):.3f} at most; "
            f"{sum(r[f'{name}_converged'] == 'True' for r in rows)} of {len(rows)} converged"
        )


if __name__ == "__main__":
    main()
