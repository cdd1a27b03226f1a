"""Time and memory of α on the full grid, in the band, and by prediction (Table 1). Resumable.

    python benchmarks/table1.py

The pair is a template brain and its deformation at α = 5 (noise 0.1). Every measurement runs in a
new process. Memory is the peak above the memory after imports, a warm-up and loading the images.

- iterations: gradient-descent iterations on v₀ at fixed α, the same in both spaces;
- convergence: `map_alpha` (marginal posterior, quasi-Newton, default padding);
- prediction: `predict_alpha` with the shipped model (if there is one) loaded, median of seven;
- the total of the full grid at 128³ is an extrapolation: that at 64³ times the ratio of the times
  per iteration.

Finished measurements are stored in a second table; delete it to repeat them.

The lower bound of an iteration on the full grid is the time of its FFTs plus that of its memory
traffic, both measured in the same run: FFTs of three components, and the bytes that finite
differences must read and write, at the bandwidth of a copy on all cores.
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
from fourierreg.registration.inputs import read_inputs
from fourierreg.registration.multiresolution import Multiresolution
from fourierreg.registration.options import noise_of
from fourierreg.simulation.pair import simulate_pair

TABLE, PARTS_TABLE = "table_1.csv", "table_1_parts.csv"
ALPHA, SIGMA, STEPS = 5.0, 0.1, 5
SPACES, NETWORK = ("full", "bandlimited"), "network"
MODEL = "brain-3d"
ITERATIONS = 8
FOLDER = "FOURIERREG_TABLE1"  # environment variable: folder of the images


def make_images(size, path):
    """Simulate source and target and save them, outside of the measured processes."""
    source, _ = template_brain(size)
    spacing = FIELD_OF_VIEW / size
    pair = simulate_pair(source, alpha=ALPHA, sigma=SIGMA, seed=0, spacing=spacing, foreground=True)
    np.savez(path, source=pair.source, target=pair.target)


def images(size):
    """Source, target and spacing."""
    with np.load(Path(os.environ[FOLDER]) / f"{size}.npz") as archive:
        return archive["source"], archive["target"], FIELD_OF_VIEW / size


def reset_peak():
    """Reset the peak of the resident memory (Linux); returns the present value in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak_since(before):
    """Increase of the peak of the resident memory since `reset_peak`, in MB."""
    return _status("VmHWM") - before


def _status(key):
    """A field of /proc/self/status, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def warm_up(space):
    """Compile the kernels."""
    small = np.random.default_rng(0).random((10, 10, 10)).astype(np.float32)
    setting = {"model": fourierreg.Model(modes=6, space=space), "pad": False, "max_iterations": 2}
    fourierreg.register(small, small[::-1].copy(), alpha=ALPHA, sigma=SIGMA, **setting)


def state_of(source, target, spacing, space):
    """Initial state of a registration at the true noise and α."""
    model = fourierreg.Model(num_steps=STEPS, integrator="euler", space=space)
    inputs = read_inputs(source, target, model, alpha=ALPHA, spacing=spacing, pad=False)
    return Multiresolution(inputs.problem, inputs.metric, noise_of(SIGMA, None))


def iterations(size, space):
    """Median seconds per iteration, and peak memory."""
    warm_up(space)
    data = images(size)
    before = reset_peak()
    state = state_of(*data, space)
    options = GradientDescent(max_iterations=ITERATIONS, gradient="exact", epsilon=1e-3)
    with threadpool_limits(1, user_api="blas"):
        Descent(state, state.finest, options).register()
    seconds = np.diff([record.seconds for record in state.history])
    return {"seconds_per_iteration": float(np.median(seconds)), "memory_mb": peak_since(before)}


def convergence(size, space):
    """α, time, iterations and peak memory of `map_alpha`."""
    warm_up(space)
    source, target, spacing = images(size)
    before = reset_peak()
    result = fourierreg.map_alpha(
        source,
        target,
        spacing=spacing,
        sigma=SIGMA,
        model=fourierreg.Model(num_steps=STEPS, integrator="euler", space=space),
    )
    return {
        "alpha": result.alpha,
        "seconds": result.seconds,
        "iterations": len(result.history),
        "memory_mb": peak_since(before),
    }


def prediction(size, space):
    """α, time and peak memory of `predict_alpha`; its first call is not timed."""
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


def minimum_time(function, repeats=7):
    """Minimum time of several calls."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def floor(size, space):
    """Lower bound of the time of one iteration on the full grid: FFTs and memory traffic."""
    field = np.random.default_rng(0).random((3, size, size, size), dtype=np.float32)
    axes, workers = (1, 2, 3), os.cpu_count()
    spectrum = fft.rfftn(field, axes=axes, workers=workers)
    forward = minimum_time(lambda: fft.rfftn(field, axes=axes, workers=workers))
    inverse = minimum_time(lambda: fft.irfftn(spectrum, field.shape[1:], axes, workers=workers))
    other = np.empty_like(field)
    _copy(field.ravel(), other.ravel())
    rate = 2 * field.nbytes / minimum_time(lambda: _copy(field.ravel(), other.ravel()))
    # K once per forward step but the last, and once per adjoint step; v₀ and m₀; the gradient.
    ffts = (2 * STEPS - 1) * (forward + inverse) + 2 * inverse + forward
    # Scalar fields: a forward step reads v, m, u and writes m, u. An adjoint step reads v, m, u, λ,
    # μ, writes three fields and adds to λ. The image term reads S, T, u, writes residual and force.
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
    """Result of one measurement, from its table or from a new process."""
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
    """Measure everything, write the table, print a summary."""
    sizes = (small, large)
    steps = {(n, space): measure("iterations", n, space) for n in sizes for space in SPACES}
    bound = measure("floor", large, "full")
    rows = [
        _estimate_row(size, space, small, steps, bound if (size, space) == (large, "full") else {})
        for space in SPACES
        for size in sizes
    ]
    for size in sizes if MODEL in shipped_models() else ():
        rows.append({**dict.fromkeys(rows[0], ""), **_prediction_columns(size)})
    tables.replace(TABLE, rows)
    _print_ratios(rows)
    full, band = (steps[large, space] for space in SPACES)
    slow, fast = full["seconds_per_iteration"], band["seconds_per_iteration"]
    print(
        f"one iteration at {large}³: full grid {slow:.2f} s, {slow / bound['floor_seconds']:.2f} × "
        f"its lower bound of {bound['floor_seconds']:.2f} s; band {fast:.3f} s, ratio "
        f"{slow / fast:.1f}; memory {full['memory_mb']:.0f} and {band['memory_mb']:.0f} MB, "
        f"ratio {full['memory_mb'] / band['memory_mb']:.1f}"
    )


def _estimate_row(size, space, small, steps, bound):
    """Row of an estimate; if a lower `bound` is given, extrapolated from the size `small`."""
    step, extrapolated = steps[size, space], bool(bound)
    estimate = measure("convergence", small if extrapolated else size, space)
    seconds = estimate["seconds"]
    if extrapolated:
        seconds *= step["seconds_per_iteration"]
        seconds /= steps[small, space]["seconds_per_iteration"]
    return {
        "size": size,
        "space": space,
        "seconds_per_iteration": f"{step['seconds_per_iteration']:.3f}",
        "iteration_memory_mb": f"{step['memory_mb']:.0f}",
        "fft_seconds": _text(bound.get("fft_seconds"), 3),
        "floor_seconds": _text(bound.get("floor_seconds"), 3),
        "seconds_to_convergence": f"{seconds:.1f}",
        "extrapolated": extrapolated,
        "iterations": "" if extrapolated else estimate["iterations"],
        "memory_mb": "" if extrapolated else f"{estimate['memory_mb']:.0f}",
        "alpha": "" if extrapolated else f"{estimate['alpha']:.3f}",
    }


def _prediction_columns(size):
    """Columns of the row of a prediction."""
    prediction = measure("prediction", size, NETWORK)
    return {
        "size": size,
        "space": NETWORK,
        "seconds_to_convergence": f"{prediction['seconds']:.3f}",
        "extrapolated": False,
        "memory_mb": f"{prediction['memory_mb']:.0f}",
        "alpha": f"{prediction['alpha']:.3f}",
    }


def _print_ratios(rows):
    """Print the time of every estimate, and its ratio to that of the prediction."""
    predictions = {row["size"]: row for row in rows if row["space"] == NETWORK}
    for row in (row for row in rows if predictions and row["space"] != NETWORK):
        prediction = predictions[row["size"]]
        seconds, reference = (float(r["seconds_to_convergence"]) for r in (row, prediction))
        note = " (extrapolated)" if row["extrapolated"] else ""
        print(
            f"{row['size']}³: {row['space']} {seconds:.1f} s{note}, "
            f"{seconds / reference:.0f} × the {reference:.3f} s of the prediction"
        )


def _text(value, digits):
    """A number in fixed-point notation; empty for None."""
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
