"""Time and memory of single and batched pairs on a GPU, compared with the CPU.

`batch_counts.py` counts launches, waits and the rows that do work, without a GPU.

    python benchmarks/gpu.py                     # CuPy against NumPy
    python benchmarks/gpu.py --cpu-pairs 0 --setting euler default --limit 220    # CuPy alone
    python benchmarks/gpu.py --backend numpy     # effect of batching without a GPU

Pairs are a template brain and its deformation at known α (noise 0.05). For each batch size:

- energy and gradient on the image grid: median of several runs, and two lower bounds, measured in
  the same run on the same device: the required memory traffic at the bandwidth of a copy, and the
  flops of the transforms at the rate of a matrix product;
- `map_alpha` of one pair or `map_alpha_batch` of several: seconds per pair, α compared with that of
  the CPU, and memory. On a GPU, memory is the size of the pool afterwards, which is its peak; on a
  CPU, the increase of the peak of the process (zero where an earlier row needed more).
"""

import argparse
import math
import resource
import time

import numpy as np
from threadpoolctl import threadpool_limits

import fourierreg
from fourierreg import backend
from fourierreg.data.template import FIELD_OF_VIEW, template_brain
from fourierreg.model.model import Model
from fourierreg.model.problem import Problem
from fourierreg.simulation.pair import simulate_pair
from fourierreg.spectral.metric import Metric, MetricBatch

ALPHAS, SIGMA = (3.0, 4.0, 5.0, 6.0, 8.0), 0.05
REPEATS = 7
SETTINGS = {  # keywords of `map_alpha`
    "marginal": {"posterior": "marginal"},
    "euler": {"posterior": "marginal", "model": Model(modes=16, integrator="euler", num_steps=5)},
    "default": {},
}


def make_pairs(size, count):
    """Simulated sources and targets, on the host."""
    source, _ = template_brain(size)
    setting = {"sigma": SIGMA, "spacing": FIELD_OF_VIEW / size, "foreground": True}
    simulated = [
        simulate_pair(source, alpha=ALPHAS[i % len(ALPHAS)], seed=i, **setting)
        for i in range(count)
    ]
    return [pair.source for pair in simulated], [pair.target for pair in simulated]


def memory_peak():
    """Peak memory of this process on the active backend, in bytes."""
    held = backend.held_memory()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if held is None else held


def seconds_of(function):
    """Median time of several calls of `function`, including the copy of its result to the host."""
    backend.to_numpy(function())
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        backend.to_numpy(function())
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def rates():
    """Memory bandwidth (bytes/s) and single-precision flops/s of the active backend."""
    xp = backend.active_module()
    a = xp.ones(64 * 2**20, dtype=np.float32)
    m = xp.ones((2048, 2048), dtype=np.float32)
    copy = seconds_of(lambda: (a + np.float32(1))[:1])
    product = seconds_of(lambda: (m @ m)[:1])
    return 2 * a.nbytes / copy, 2 * 2048**3 / product


def transform_flops(cutoff, grid):
    """Flops of the transform of one scalar field between band and grid, a product per axis."""
    rows = [2 * k + 1 for k in cutoff[:-1]] + [cutoff[-1] + 1]
    flops, points = 0, 1
    for j, (n, m) in enumerate(zip(rows, grid, strict=True)):
        after = math.prod(rows[j + 1 :])
        flops += (8 if j < len(rows) - 1 else 4) * points * n * m * after
        points *= m
    return flops


def lower_bounds(problem, metric, pairs):
    """Seconds of the memory traffic, and of the flops, of energy and gradient of `pairs` pairs."""
    copy, product = rates()
    band, steps, voxels = metric.band, problem.num_steps, math.prod(problem.shape)
    points, d = math.prod(band.product_shape), band.ndim
    # Scalar fields on the image grid: write u; read S, T, u, write r and force; read r; read force.
    image = (d + 2 + d + 1 + d + 1 + d) * voxels
    # On the product grid, per step: write and read the fields of a point and the products; then
    # those of the adjoint (`fourierreg.geodesic.epdiff`).
    forward = 2 * d + d * (d - 1) // 2 + 1 + d**2 + 2 * d + 1
    adjoint = forward
    grid = 2 * steps * (forward + adjoint) * points
    flops = steps * (forward + adjoint) * transform_flops(band.cutoff, band.product_shape)
    flops += 2 * d * transform_flops(band.cutoff, problem.shape)
    return 4 * pairs * (image + grid) / copy, pairs * flops / product


def energy(sources, targets, size):
    """Print the time of energy and gradient of all pairs in one batch, and its lower bounds."""
    xp, spacing = backend.active_module(), FIELD_OF_VIEW / size
    metric = Metric.create((size,) * 3, spacing=spacing, alpha=4.0)
    problems = [
        Problem.of_pair(
            backend.asarray(s), backend.asarray(t), metric.band.spacing, 400.0, num_steps=5
        )
        for s, t in zip(sources, targets, strict=True)
    ]
    rng = np.random.default_rng(0)
    v = xp.stack([0.3 * fourierreg.sample_velocity(metric, rng) for _ in problems])
    batch, metrics = Problem.concatenate(problems), MetricBatch.of([metric] * len(problems))
    seconds = seconds_of(lambda: batch.evaluate(v, metrics).gradient)
    traffic, flops = lower_bounds(problems[0], metric, len(problems))
    print(
        f"{backend.get_backend()}: energy and gradient, {size}³, {len(problems)} pairs: "
        f"{1e3 * seconds:.2f} ms, {1e3 * seconds / len(problems):.2f} per pair; lower bounds: "
        f"memory traffic {1e3 * traffic:.2f}, flops {1e3 * flops:.2f} ms; "
        f"{seconds / max(traffic, flops):.1f} × the larger",
        flush=True,
    )


def estimates(sources, targets, size, batched, name="marginal"):
    """Estimate α of every pair in a setting; print and return the time per pair, and print the
    memory."""
    setting = {"spacing": FIELD_OF_VIEW / size, **SETTINGS[name]}
    backend.release_memory()
    before = memory_peak()
    began = time.perf_counter()
    if batched:
        found = fourierreg.map_alpha_batch(sources, targets, batch_size=len(sources), **setting)
    else:
        pairs = zip(sources, targets, strict=True)
        found = [fourierreg.map_alpha(*pair, **setting) for pair in pairs]
    seconds = (time.perf_counter() - began) / len(sources)
    memory = (memory_peak() - before) / len(sources) / 2**20
    function = "map_alpha_batch" if batched else "map_alpha"
    print(
        f"{backend.get_backend()}: {function}, {name}, {size}³, {len(sources)} pairs: "
        f"{seconds:.2f} s and {memory:.0f} MB per pair, "
        f"α {', '.join(f'{r.alpha:.3f}' for r in found[:5])}",
        flush=True,
    )
    return np.array([r.alpha for r in found]), seconds


@threadpool_limits.wrap(1, user_api="blas")  # as inside map_alpha
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=["cupy", "numpy"], default="cupy")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument(
        "--cpu-pairs", type=int, default=2, help="pairs that are also estimated on the CPU"
    )
    parser.add_argument("--setting", choices=list(SETTINGS), nargs="+", default=["marginal"])
    parser.add_argument(
        "--limit",
        type=float,
        default=math.inf,
        help="seconds; larger batches that would last longer, at the rate so far, are left out",
    )
    options = parser.parse_args()
    began = time.perf_counter()
    images = make_pairs(options.size, max(options.pairs))
    first = [group[: options.cpu_pairs] for group in images]
    for name in options.setting:
        compare(options, images, first, name, began + options.limit)


def compare(options, images, first, name, ends):
    """Print what single and batched pairs take in a setting, beside those of the CPU if asked.

    `ends` is the time at which all must have ended.
    """
    small = ([group[0][:32, :32, :32]] for group in images)
    cpu, cpu_seconds = np.zeros(0), math.nan
    if options.cpu_pairs:
        energy(*([group[0]] for group in images), options.size)
        cpu, cpu_seconds = estimates(*first, options.size, False, name)
    with fourierreg.use_backend(options.backend):
        estimates(*small, 32, False, name)  # compiles
        seconds = 0.0  # a pair
        for count in options.pairs:
            if time.perf_counter() + count * seconds > ends:
                print(f"{options.backend}: {name}, {count} pairs: left out, no time is left")
                continue
            chosen = [group[:count] for group in images]
            energy(*chosen, options.size)
            for batched in (False, True) if count == 1 else (True,):
                alpha, seconds = estimates(*chosen, options.size, batched, name)
                if not options.cpu_pairs:
                    continue
                difference = np.abs(np.log(alpha[: cpu.size] / cpu[: alpha.size])).max()
                print(
                    f"  {cpu_seconds / seconds:.2f} × the speed of map_alpha on the CPU; largest "
                    f"difference of α {100 * difference:.2g} %"
                )


if __name__ == "__main__":
    main()
