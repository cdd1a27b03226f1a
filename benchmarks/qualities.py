"""Settings of `register` on real pairs: exponent c, α, weight, window, modes and iterations.

    python benchmarks/qualities.py --data FOLDER --pairs 1000-1001 1006-1010 [--backend cupy]

The qualities of `fourierreg.registration.quality` were chosen from its table: means over the pairs
of Dice (all labels of more than 50 voxels) and landmark error, and the smallest Jacobian
determinants. Resumable; `--data` may be given several times, and pairs are looked for in each.
"""

import argparse
import time
from pathlib import Path

import brains
import numpy as np
import tables
from rivals import landmark_error, mean_dice

import fourierreg
from fourierreg.backend import to_numpy
from fourierreg.image.similarity import LocalCorrelation
from fourierreg.model.model import Model
from fourierreg.registration.quality import Quality

TABLE = "qualities.csv"
DEFAULT, ACCURATE = (60, 50, 14), (60, 80, 25)  # iterations
# modes, power c, α, weight γ, radius in mm, iterations
SETTINGS = [
    *((32, 2, alpha, 0.1, 3.2, DEFAULT) for alpha in (4, 3, 2, 6)),
    *((48, 2, alpha, 0.1, 3.2, ACCURATE) for alpha in (4, 3, 2, 6)),
    *((32, 2, 4, weight, 3.2, DEFAULT) for weight in (0.05, 0.15)),
    *((32, 2, 4, 0.1, radius, DEFAULT) for radius in (1.7, 4.8)),
    (32, 1.75, 6, 0.1, 3.2, DEFAULT),
    (32, 2.25, 3, 0.1, 3.2, DEFAULT),
    (32, 1.5, 8, 0.1, 3.2, DEFAULT),
    (48, 2, 4, 0.1, 3.2, (60, 100, 60)),
]


def key_of(setting):
    """Columns of a setting."""
    names = ("modes", "power", "alpha", "weight", "radius_mm")
    return {**dict(zip(names, setting, strict=False)), "iterations": " ".join(map(str, setting[5]))}


def register(setting, pair, points):
    """Seconds, Dice, landmark error and smallest determinant of one pair."""
    modes, power, alpha, weight, radius, iterations = setting
    model = Model(modes=modes, power=power, similarity=LocalCorrelation(radius))
    (image, labels, spacing), (fixed, truth, _) = pair
    began = time.perf_counter()
    result = fourierreg.register(
        image, fixed, spacing=spacing, quality=Quality(model, float(alpha), weight, iterations)
    )
    seconds, u = time.perf_counter() - began, to_numpy(result.displacement)
    with fourierreg.use_backend("numpy"):
        dice = mean_dice(fourierreg.warp(labels, u, spacing, order=0), truth)
    smallest = float(result.jacobian_determinant.min())
    return seconds, dice, landmark_error(u, spacing, *points), smallest


def row(setting, pairs, device):
    """Row of the table: means over the pairs."""
    found = np.array([register(setting, pair, points) for pair, points in pairs])
    seconds, dice, landmarks, smallest = found.T
    return {
        **key_of(setting),
        "pairs": len(pairs),
        "device": device,
        "seconds": f"{seconds.mean():.2f}",
        "dice": f"{dice.mean():.4f}",
        "landmarks_mm": f"{np.nanmean(landmarks):.3f}",
        "smallest_jacobians": " ".join(f"{j:.3f}" for j in sorted(smallest)[:3]),
    }


def load(folders, names):
    """Images and landmarks of pairs, from the first folder that has them."""
    for name in names:
        ids = name.split("-")
        folder = next(f for f in folders if (Path(f) / f"{ids[0]}_t1.nii.gz").exists())
        pair = [brains.load(folder, one) for one in ids]
        yield pair, [brains.landmarks(folder, one) for one in ids]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", action="append", required=True, help="folder of brain images")
    parser.add_argument("--pairs", nargs="+", required=True, help="ids SOURCE-TARGET")
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--device", default="two cores", help="name in the table")
    options = parser.parse_args()
    fourierreg.set_backend(options.backend)
    pairs = list(load(options.data, options.pairs))
    for setting in SETTINGS:
        if not tables.has(TABLE, **key_of(setting)):
            tables.append(TABLE, row(setting, pairs, options.device))
    for r in tables.read(TABLE):
        print("  ".join(f"{name} {value}" for name, value in r.items()))


if __name__ == "__main__":
    main()
