"""`map_alpha` compared with SyN of ANTs and of DIPY: time, Dice, folds, residual. Resumable.

    python benchmarks/rivals.py --data FOLDER --pairs 1000-1001 1006-1010

Needs `pip install ".[benchmarks]"`. The time of `map_alpha` includes α, its interval and the
inverse map. All methods run one after the other on each pair.
"""

import argparse
import importlib
import time

import brains
import numpy as np
import tables

import fourierreg
from fourierreg.image.deformation import jacobian_determinant
from fourierreg.image.metrics import jacobian_statistics, mean_dice, root_mean_square

TABLE = "rivals.csv"


def ours(source, target, spacing):
    """`map_alpha` with its defaults: displacement and a note for the table."""
    result = fourierreg.map_alpha(source, target, spacing=spacing)
    low, high = result.alpha_interval
    note = (
        f"α {result.alpha:.2f} ({low:.2f} to {high:.2f}), σ {result.sigma:.3f}, "
        f"ρ {result.decimation:.3f}; {result.status}"
    )
    return result.displacement, note


def ours_rough(source, target, spacing):
    """`register` with more modes and a smaller α than inferred, which increases the overlap."""
    result = fourierreg.register(source, target, spacing=spacing, modes=20, alpha=2.0, num_steps=10)
    return result.displacement, result.status


def ants_syn(source, target, spacing):
    """SyNOnly of antspyx with mean squares, started from the identity; displacement in mm."""
    import ants

    moving, fixed = (ants.from_numpy(a, spacing=spacing) for a in (source, target))
    result = ants.registration(
        fixed, moving, "SyNOnly", initial_transform="identity", syn_metric="meansquares"
    )
    field = ants.image_read(result["fwdtransforms"][0]).numpy()
    return np.moveaxis(field, -1, 0).astype(np.float32), ""


def dipy_syn(source, target, spacing):
    """SyN of DIPY with cross-correlation and level_iters 10, 10, 5; displacement in mm."""
    from dipy.align.imwarp import SymmetricDiffeomorphicRegistration
    from dipy.align.metrics import CCMetric

    affine = np.diag([*spacing, 1.0])
    optimizer = SymmetricDiffeomorphicRegistration(metric=CCMetric(3), level_iters=[10, 10, 5])
    mapping = optimizer.optimize(target, source, static_grid2world=affine, moving_grid2world=affine)
    field = np.moveaxis(np.asarray(mapping.get_forward_field()), -1, 0)
    return np.ascontiguousarray(field, dtype=np.float32), ""


METHODS = {
    "fourierreg": ours,
    "fourierreg rough": ours_rough,
    "ANTs SyN mean squares": ants_syn,
    "DIPY SyN CC": dipy_syn,
}
LIBRARIES = {"ANTs SyN mean squares": "ants", "DIPY SyN CC": "dipy.align.imwarp"}


def row(pair, method, source, target):
    """Row of the table for one method and pair."""
    (image, labels, spacing), (fixed, truth, _) = source, target
    began = time.perf_counter()
    u, note = METHODS[method](image, fixed, spacing)
    seconds = time.perf_counter() - began
    warped = fourierreg.warp(labels, u, spacing, order=0)
    deformed = fourierreg.warp(image, u, spacing)
    inside = (slice(1, -1),) * 3  # finite differences at the border are invalid
    jacobian = jacobian_statistics(jacobian_determinant(u, spacing)[inside])
    return {
        "pair": pair,
        "method": method,
        "seconds": f"{seconds:.1f}",
        "dice_before": f"{mean_dice(labels, truth):.4f}",
        "dice": f"{mean_dice(warped, truth):.4f}",
        "min_jacobian": f"{jacobian['min']:.3f}",
        "folds": jacobian["folds"],
        "rms": f"{root_mean_square(deformed, fixed):.4f}",
        "note": note,
    }


def summary():
    """Print the table, and the ratio of the times of fourierreg and ANTs SyN."""
    for r in tables.read(TABLE):
        print(
            f"{r['pair']} {r['method']:22s} {float(r['seconds']):6.1f} s  Dice {r['dice_before']} "
            f"to {r['dice']}  min J {r['min_jacobian']}  folds {r['folds']}  rms {r['rms']}"
        )
    seconds = {(r["pair"], r["method"]): float(r["seconds"]) for r in tables.read(TABLE)}
    syn = "ANTs SyN mean squares"
    ratios = [s / seconds[pair, syn] for (pair, m), s in seconds.items() if m == "fourierreg"]
    print(f"time of fourierreg / ANTs SyN: {', '.join(f'{r:.2f}' for r in ratios)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    brains.add_arguments(parser)
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        warm = np.random.default_rng(0).random((32, 32, 32)).astype(np.float32)
        fourierreg.map_alpha(warm, warm[::-1], modes=6)  # compiles
        for name in LIBRARIES.values():
            importlib.import_module(name)  # the import is not timed
        for name, source, target in brains.pairs(options):
            if not tables.has(TABLE, pair=name):
                tables.extend(TABLE, [row(name, method, source, target) for method in METHODS])
    summary()


if __name__ == "__main__":
    main()
