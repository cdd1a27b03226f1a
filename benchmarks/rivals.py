"""`map_alpha` beside SyN of ANTs and of DIPY, in one run: time, Dice, folds, residual.

    python benchmarks/rivals.py --data FOLDER --pairs 1000-1001 1006-1010

Needs `pip install ".[benchmarks]"`. Our time includes α, its interval and the inverse map.
"""

import argparse
import time

import brains
import numpy as np

import fourierreg
from fourierreg.image.deformation import jacobian_determinant
from fourierreg.metrics import jacobian_statistics, mean_dice, root_mean_square


def ours(source, target, spacing):
    """`map_alpha` with its defaults: displacement and what to say of it."""
    result = fourierreg.map_alpha(source, target, spacing=spacing)
    low, high = result.alpha_interval
    note = (
        f"α {result.alpha:.2f} ({low:.2f} to {high:.2f}), σ {result.sigma:.3f}, "
        f"ρ {result.decimation:.3f}; {result.status}"
    )
    return result.displacement, note


def ours_rough(source, target, spacing):
    """More modes and a smaller α than the images ask for: overlap before plausibility."""
    result = fourierreg.register(source, target, spacing=spacing, modes=20, alpha=2.0, num_steps=10)
    return result.displacement, result.status


def ants_syn(source, target, spacing):
    """antspyx SyNOnly, mean squares, identity start; displacement in mm along the axes."""
    import ants

    moving, fixed = (ants.from_numpy(a, spacing=spacing) for a in (source, target))
    result = ants.registration(
        fixed, moving, "SyNOnly", initial_transform="identity", syn_metric="meansquares"
    )
    field = ants.image_read(result["fwdtransforms"][0]).numpy()
    return np.moveaxis(field, -1, 0).astype(np.float32), ""


def dipy_syn(source, target, spacing):
    """DIPY SyN, cross-correlation, level_iters 10, 10, 5."""
    from dipy.align.imwarp import SymmetricDiffeomorphicRegistration
    from dipy.align.metrics import CCMetric

    affine = np.diag([*spacing, 1.0])
    optimizer = SymmetricDiffeomorphicRegistration(metric=CCMetric(3), level_iters=[10, 10, 5])
    mapping = optimizer.optimize(target, source, static_grid2world=affine, moving_grid2world=affine)
    field = np.moveaxis(np.asarray(mapping.get_forward_field()), -1, 0)
    return np.ascontiguousarray(field, dtype=np.float32), ""


def row(name, register, source, target):
    """Run one method and print what it did."""
    (image, labels, spacing), (fixed, truth, _) = source, target
    began = time.perf_counter()
    u, note = register(image, fixed, spacing)
    seconds = time.perf_counter() - began
    moved = fourierreg.warp(labels, u, spacing, order=0)
    deformed = fourierreg.warp(image, u, spacing)
    inside = (slice(1, -1),) * 3  # differences across the border of the image mean nothing
    jacobian = jacobian_statistics(jacobian_determinant(u, spacing)[inside])
    print(
        f"  {name:22s} {seconds:6.1f} s  Dice {mean_dice(moved, truth):.4f}  min J "
        f"{jacobian['min']:6.3f}  folds {jacobian['folds']:5d}  rms "
        f"{root_mean_square(deformed, fixed):.4f}  {note}",
        flush=True,
    )
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    brains.add_arguments(parser)
    parser.add_argument("--without", nargs="*", default=[], choices=["ants", "dipy", "rough"])
    options = parser.parse_args()
    warm = np.random.default_rng(0).random((32, 32, 32)).astype(np.float32)
    fourierreg.map_alpha(warm, warm[::-1], modes=6)  # compile
    for name, source, target in brains.pairs(options):
        print(f"{name}: affine only Dice {mean_dice(source[1], target[1]):.4f}")
        default = row("fourierreg, defaults", ours, source, target)
        if "rough" not in options.without:
            row("fourierreg, rough", ours_rough, source, target)
        if "ants" not in options.without:
            syn = row("ANTs SyN mean squares", ants_syn, source, target)
            print(f"  default / SyN: {default / syn:.2f}")
        if "dipy" not in options.without:
            row("DIPY SyN CC", dipy_syn, source, target)


if __name__ == "__main__":
    main()
