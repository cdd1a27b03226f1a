"""Table 1: estimation on the full grid, in the band, and prediction; time and memory.

    python benchmarks/table1.py

A template brain and the same deformed at α = 5 (noise 0.1). Every measurement runs in a fresh
process; memory is the peak above that after imports, a warm-up and making the images.

- iteration: gradient-descent iterations on v₀ at a fixed α, the same for both;
- convergence: the whole `map_alpha` (marginal posterior, quasi-Newton, padded as by default);
- prediction: `predict_alpha` with the shipped model (left out while there is none), loaded and
  called before, median of seven;
- the full grid's total at 128³ is an extrapolation: that at 64³ times the ratio of its iterations.

Measured parts stand in a table of their own, so that an interrupted run goes on; delete it
to measure everything anew.

The floor of a full-grid iteration is the time of its FFTs plus that of its memory traffic, each
measured in the same run: FFT pairs of three components as they are called, and bytes that the
differences must read and write at the speed of a copy on all cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numba
import numpy as np
import tables
from scipy import fft
from threadpoolctl import threadpool_limits

import fourierreg
from fourierreg.data.template import FIELD_OF_VIEW, template_brain
from fourierreg.learning.pretrained import shipped_models
from fourierreg.registration.algorithm_1 import Descent, GradientDescent
from fourierreg.registration.inputs import noise_model, prepare
from fourierreg.registration.multiresolution import Solver
from fourierreg.simulation.pair import simulate_pair

TABLE, PARTS_TABLE = "table_1.csv", "table_1_parts.csv"
ALPHA, SIGMA, STEPS = 5.0, 0.1, 5
SPACES, NETWORK = ("full", "bandlimited"), "network"
MODEL = "brain-3d"
ITERATIONS = 8
FOLDER = "FOURIERREG_TABLE1"  # where the measured processes find the images


def make_images(size, path):
    """Source and target in a file, so that making them costs the measured processes no memory."""
    source, _ = template_brain(size)
    spacing = FIELD_OF_VIEW / size
    pair = simulate_pair(source, alpha=ALPHA, sigma=SIGMA, seed=0, spacing=spacing, foreground=True)
    np.savez(path, source=pair.source, target=pair.target)


def images(size):
    """Source, target, spacing."""
    with np.load(Path(os.environ[FOLDER]) / f"{size}.npz") as archive:
        return archive["source"], archive["target"], FIELD_OF_VIEW / size


def reset_peak():
    """Forget the peak so far; resident memory now, MB (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak_since(before):
    """Peak resident memory since `reset_peak`, above what there was then, MB."""
    return _status("VmHWM") - before


def _status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def warm_up(space):
    """Compile everything."""
    small = np.random.default_rng(0).random((10, 10, 10)).astype(np.float32)
    setting = {"modes": 6, "space": space, "pad": False, "max_iterations": 2}
    fourierreg.register(small, small[::-1].copy(), alpha=ALPHA, sigma=SIGMA, **setting)


def solver_of(source, target, spacing, space):
    """A `Solver` on one grid, at the true noise and α."""
    setup = prepare(
        source,
        target,
        spacing=spacing,
        modes=16,
        alpha=ALPHA,
        power=3,
        reference_length=None,
        velocity_scale=None,
        mask=None,
        num_steps=STEPS,
        integrator="euler",
        dynamics="epdiff",
        pad=False,
        space=space,
    )
    return Solver(setup.problem, setup.metric, noise_model(SIGMA, None))


def iterations(size, space):
    """Seconds per iteration (median), and peak memory."""
    warm_up(space)
    data = images(size)
    before = reset_peak()
    solver = solver_of(*data, space)
    options = GradientDescent(max_iterations=ITERATIONS, gradient="exact", epsilon=1e-3)
    with threadpool_limits(1, user_api="blas"):
        Descent(solver, solver.finest, options).register()
    seconds = np.diff([record.seconds for record in solver.history])
    return {"seconds_per_iteration": float(np.median(seconds)), "memory_mb": peak_since(before)}


def convergence(size, space):
    """`map_alpha` to the end."""
    warm_up(space)
    source, target, spacing = images(size)
    before = reset_peak()
    result = fourierreg.map_alpha(
        source, target, spacing=spacing, sigma=SIGMA, num_steps=STEPS, space=space
    )
    return {
        "alpha": result.alpha,
        "seconds": result.seconds,
        "iterations": len(result.history),
        "memory_mb": peak_since(before),
    }


def prediction(size, space):
    """`predict_alpha`, the model loaded; memory from its first call on, which is not timed."""
    model = fourierreg.load_model(MODEL)
    source, target, spacing = images(size)
    before = reset_peak()
    found = [fourierreg.predict_alpha(model, source, target, spacing=spacing) for _ in range(8)]
    memory, seconds = peak_since(before), float(np.median([f.seconds for f in found[1:]]))
    return {"alpha": found[0].alpha, "seconds": seconds, "memory_mb": memory}


@numba.njit(parallel=True)
def _copy(a, b):
    for i in numba.prange(a.size):
        b[i] = a[i]


def least(function, repeats=7):
    """Least time of several calls."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def floor(size, space):
    """Seconds that the FFTs and the memory traffic of one full-grid iteration take."""
    field = np.random.default_rng(0).random((3, size, size, size), dtype=np.float32)
    axes, workers = (1, 2, 3), os.cpu_count()
    hat = fft.rfftn(field, axes=axes, workers=workers)
    ahead = least(lambda: fft.rfftn(field, axes=axes, workers=workers))
    back = least(lambda: fft.irfftn(hat, field.shape[1:], axes, workers=workers))
    other = np.empty_like(field)
    _copy(field.ravel(), other.ravel())
    rate = 2 * field.nbytes / least(lambda: _copy(field.ravel(), other.ravel()))
    # K once per step ahead but the last, and once per step back; v₀ and m₀ in, the gradient out.
    ffts = (2 * STEPS - 1) * (ahead + back) + 2 * back + ahead
    # Scalar fields: ahead reads v, m, u and writes m, u; back reads v, m, u, λ, μ and writes three,
    # then adds to λ; the image pass reads S, T, u and writes the residual and the force.
    scalars = STEPS * (9 + 6) + STEPS * (15 + 9 + 9) + 9
    traffic = scalars * field.nbytes / 3 / rate
    return {"fft_seconds": ffts, "traffic_seconds": traffic, "floor_seconds": ffts + traffic}


PARTS = {
    "iterations": iterations,
    "convergence": convergence,
    "floor": floor,
    "prediction": prediction,
}


def measure(part, size, space):
    """One part in a fresh process, unless the table of parts has it."""
    key = {"part": part, "size": size, "space": space}
    if not tables.has(PARTS_TABLE, **key):
        command = [sys.executable, __file__, "--one", part, str(size), space]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        tables.append(PARTS_TABLE, {**key, "result": done.stdout.splitlines()[-1]})
        print(*key.values(), done.stdout.splitlines()[-1], flush=True)
    row = next(r for r in tables.read(PARTS_TABLE) if all(r[k] == str(v) for k, v in key.items()))
    return json.loads(row["result"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=3, metavar=("PART", "SIZE", "SPACE"))
    parser.add_argument("--sizes", type=int, nargs=2, default=[64, 128], metavar=("SMALL", "LARGE"))
    options = parser.parse_args()
    if options.one:
        part, size, space = options.one
        print(json.dumps(PARTS[part](int(size), space)))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER] = folder
        for size in options.sizes:
            make_images(size, Path(folder) / f"{size}.npz")
        report(*options.sizes)


def report(small, large):
    """Measure everything, write the table, print it."""
    sizes = (small, large)
    steps = {(n, space): measure("iterations", n, space) for n in sizes for space in SPACES}
    bound = measure("floor", large, "full")
    rows = []
    for space in SPACES:
        for size in sizes:
            step, extrapolated = steps[size, space], (size, space) == (large, "full")
            end = measure("convergence", small if extrapolated else size, space)
            seconds = end["seconds"]
            if extrapolated:  # the whole estimate at the small size, slower as its iterations are
                seconds *= step["seconds_per_iteration"]
                seconds /= steps[small, space]["seconds_per_iteration"]
            floors = bound if extrapolated else {}
            rows.append(
                {
                    "size": size,
                    "space": space,
                    "seconds_per_iteration": f"{step['seconds_per_iteration']:.3f}",
                    "iteration_memory_mb": f"{step['memory_mb']:.0f}",
                    "fft_seconds": _text(floors.get("fft_seconds"), 3),
                    "floor_seconds": _text(floors.get("floor_seconds"), 3),
                    "seconds_to_convergence": f"{seconds:.1f}",
                    "extrapolated": extrapolated,
                    "iterations": "" if extrapolated else end["iterations"],
                    "memory_mb": "" if extrapolated else f"{end['memory_mb']:.0f}",
                    "alpha": "" if extrapolated else f"{end['alpha']:.3f}",
                }
            )
    for size in sizes if MODEL in shipped_models() else ():
        found = measure("prediction", size, NETWORK)
        rows.append(
            {
                **dict.fromkeys(rows[0], ""),
                "size": size,
                "space": NETWORK,
                "seconds_to_convergence": f"{found['seconds']:.3f}",
                "extrapolated": False,
                "memory_mb": f"{found['memory_mb']:.0f}",
                "alpha": f"{found['alpha']:.3f}",
            }
        )
    tables.replace(TABLE, rows)
    predictions = {row["size"]: row for row in rows if row["space"] == NETWORK}
    for row in (row for row in rows if predictions and row["space"] != NETWORK):
        other = predictions[row["size"]]
        ratio = float(row["seconds_to_convergence"]) / float(other["seconds_to_convergence"])
        print(
            f"{row['size']}³: {row['space']} {row['seconds_to_convergence']} s"
            f"{' (extrapolated)' if row['extrapolated'] else ''}, "
            f"{ratio:.0f} × the prediction's {other['seconds_to_convergence']} s"
        )
    full, band = (steps[large, space] for space in SPACES)
    slow, quick = full["seconds_per_iteration"], band["seconds_per_iteration"]
    print(
        f"one iteration at {large}³: full grid {slow:.2f} s, {slow / bound['floor_seconds']:.2f} × "
        f"its floor of {bound['floor_seconds']:.2f} s; band {quick:.3f} s: ratio "
        f"{slow / quick:.1f}; memory {full['memory_mb']:.0f} against {band['memory_mb']:.0f} MB: "
        f"ratio {full['memory_mb'] / band['memory_mb']:.1f}"
    )


def _text(value, digits):
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
