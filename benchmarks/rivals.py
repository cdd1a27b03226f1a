"""fourierreg beside ANTs SyN, DIPY SyN and greedy: time, Dice, landmarks, folds. Resumable.

    python benchmarks/rivals.py --data FOLDER --pairs 1000-1001 1006-1010

Needs `pip install ".[benchmarks]"`. All methods run one after the other on each pair, from the
identity. The times of `map_alpha` and `register` include the inverse map. Dice is the mean of all
labels of more than 50 voxels; the landmark error is the mean distance in mm, where the folder has
landmarks. The note says how far an end map of ours is from that of 16 Runge-Kutta steps.
"""

import argparse
import importlib
import time

import brains
import numpy as np
import tables
from scipy import ndimage

import fourierreg
from fourierreg.image.deformation import jacobian_determinant
from fourierreg.image.metrics import dice, jacobian_statistics, root_mean_square
from fourierreg.registration.quality import QUALITIES

TABLE, MIN_VOXELS = "rivals.csv", 50


def affine_only(source, target, spacing):
    """No deformation."""
    return np.zeros((3, *target.shape), dtype=np.float32), ""


def ours(posterior):
    """`map_alpha` by a posterior: displacement and a note for the table."""

    def method(source, target, spacing):
        result = fourierreg.map_alpha(source, target, spacing=spacing, posterior=posterior)
        low, high = result.alpha_interval
        note = f"α {result.alpha:.2f} ({low:.2f} to {high:.2f}); {distance_from_flow(result)}"
        return result.displacement, note

    return method


def ours_at(quality):
    """`register` at a quality."""

    def method(source, target, spacing):
        result = fourierreg.register(source, target, spacing=spacing, quality=quality)
        return result.displacement, f"{distance_from_flow(result)}; {result.status}"

    return method


def distance_from_flow(result):
    """How far the end map is from that of 16 Runge-Kutta steps, rms and at most, in mm."""
    velocity = result.velocity.astype(np.complex64)
    exact = fourierreg.shoot(velocity, result.metric, num_steps=16, dynamics=result.model.dynamics)
    exact = result.domain.crop(exact.displacement())
    gap = np.linalg.norm(result.displacement - exact, axis=0)
    return (
        f"{result.model.num_steps} steps, {np.sqrt(np.mean(gap**2)):.3f} mm rms and "
        f"{gap.max():.2f} mm at most from the flow"
    )


def ants_syn(iterations):
    """SyNOnly of antspyx with mean squares, from the coarsest grid to the finest."""

    def method(source, target, spacing):
        import ants

        moving, fixed = (ants.from_numpy(a, spacing=spacing) for a in (source, target))
        result = ants.registration(
            fixed,
            moving,
            "SyNOnly",
            initial_transform="identity",
            syn_metric="meansquares",
            reg_iterations=iterations,
        )
        field = ants.image_read(result["fwdtransforms"][0]).numpy()
        return np.moveaxis(field, -1, 0).astype(np.float32), ""

    return method


def dipy_syn(source, target, spacing):
    """SyN of DIPY with cross-correlation and level_iters 10, 10, 5; displacement in mm."""
    from dipy.align.imwarp import SymmetricDiffeomorphicRegistration
    from dipy.align.metrics import CCMetric

    affine = np.diag([*spacing, 1.0])
    optimizer = SymmetricDiffeomorphicRegistration(metric=CCMetric(3), level_iters=[10, 10, 5])
    mapping = optimizer.optimize(target, source, static_grid2world=affine, moving_grid2world=affine)
    field = np.moveaxis(np.asarray(mapping.get_forward_field()), -1, 0)
    return np.ascontiguousarray(field, dtype=np.float32), ""


def greedy(source, target, spacing):
    """greedy with NCC 2x2x2 and 100x50x10 iterations; displacement in mm along the axes."""
    import SimpleITK as sitk
    from picsl_greedy import Greedy3D

    images = []
    for array in (source, target):
        image = sitk.GetImageFromArray(array)  # reverses the axes
        image.SetSpacing(tuple(float(h) for h in reversed(spacing)))
        images.append(image)
    run = Greedy3D()
    command = "-d 3 -V 0 -i fixed moving -o warp -n 100x50x10 -m NCC 2x2x2"
    run.execute(command, moving=images[0], fixed=images[1], warp=None)
    field = sitk.GetArrayFromImage(run["warp"])
    return np.ascontiguousarray(np.moveaxis(field[..., ::-1], -1, 0), dtype=np.float32), ""


METHODS = {
    "affine only": affine_only,
    "map_alpha": ours("predictive"),
    "map_alpha, marginal": ours("marginal"),
    **{f"register, {quality}": ours_at(quality) for quality in QUALITIES},
    "ANTs SyN mean squares": ants_syn((40, 20, 0)),
    "ANTs SyN mean squares, full effort": ants_syn((100, 70, 50, 20)),
    "DIPY SyN CC": dipy_syn,
    "greedy NCC": greedy,
}
LIBRARIES = ("ants", "dipy.align.imwarp", "picsl_greedy", "SimpleITK")


def mean_dice(warped, truth):
    """Mean overlap of the labels of more than `MIN_VOXELS` voxels."""
    values, counts = np.unique(truth, return_counts=True)
    large = {int(v) for v, n in zip(values, counts, strict=True) if n > MIN_VOXELS}
    return np.mean([d for label, d in dice(warped, truth).items() if label in large])


def landmark_error(u, spacing, source, target):
    """Mean distance in mm from the source's landmarks to those of the target moved by u; NaN
    without landmarks."""
    names = sorted(set(source) & set(target))
    if not names:
        return np.nan
    points = np.array([target[name] for name in names]).T
    voxels = points / np.reshape(spacing, (3, 1))
    moved = points + [ndimage.map_coordinates(c, voxels, order=1, mode="nearest") for c in u]
    return np.linalg.norm(moved - np.array([source[name] for name in names]).T, axis=0).mean()


def row(pair, method, source, target, points):
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
        "dice": f"{mean_dice(warped, truth):.4f}",
        "landmarks_mm": f"{landmark_error(u, spacing, *points):.2f}",
        "min_jacobian": f"{jacobian['min']:.3f}",
        "folds": jacobian["folds"],
        "rms": f"{root_mean_square(deformed, fixed):.4f}",
        "note": note,
    }


def summary(table):
    """Print a table, and the means of every method over the pairs."""
    found = tables.read(table)
    for r in found:
        print(
            f"{r['pair']} {r['method']:35s} {float(r['seconds']):6.1f} s  Dice {r['dice']}  "
            f"landmarks {r['landmarks_mm']:>4s} mm  min J {r['min_jacobian']}  folds {r['folds']}"
        )
    for method in METHODS:
        own = [r for r in found if r["method"] == method]
        if own:
            columns = ("dice", "landmarks_mm", "seconds", "min_jacobian")
            values = [np.array([float(r[name]) for r in own]) for name in columns]
            means = [v[np.isfinite(v)].mean() if np.isfinite(v).any() else np.nan for v in values]
            print(
                f"mean of {len(own)}: {method:35s} Dice {means[0]:.3f}, landmarks "
                f"{means[1]:.2f} mm, {means[2]:.0f} s, min J {values[3].min():.3f}"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    brains.add_arguments(parser)
    parser.add_argument("--table", default=TABLE, help="file in benchmarks/tables")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        warm = np.random.default_rng(0).random((32, 32, 32)).astype(np.float32)
        fourierreg.map_alpha(warm, warm[::-1], modes=6)  # compiles
        fourierreg.register(warm, warm[::-1], quality="fast")
        for name in LIBRARIES:
            importlib.import_module(name)  # the import is not timed
        for name, source, target in brains.pairs(options):
            points = [brains.landmarks(options.data, one) for one in name.split("-")]
            for method in options.methods:
                if not tables.has(options.table, pair=name, method=method):
                    tables.append(options.table, row(name, method, source, target, points))
    summary(options.table)


if __name__ == "__main__":
    main()
