"""One pair and many on a GPU, beside the CPU of the same machine, in one run.

    python benchmarks/gpu.py                     # CuPy against NumPy
    python benchmarks/gpu.py --backend numpy     # what a batch costs or saves without a GPU
    python benchmarks/gpu.py --memory            # arrays of a batch, in MB a pair (NumPy)
    python benchmarks/gpu.py --launches --size 64    # of the host, and replayed (no GPU needed)

Pairs are a template brain and the same deformed at known α (noise 0.05). For every number of pairs:

- energy and gradient on the images' own grid: median of several, and beside it two floors: the
  bytes that must move at the speed of a copy, and the flops of the transforms at that of a matrix
  product, both measured in this run on the same device;
- `map_alpha` of one pair and `map_alpha_batch` of many: seconds a pair, α against the CPU's, and
  the memory that it took: what a GPU's pool holds afterwards, which is its peak; on a CPU by how
  much the process's peak grew (nothing where an earlier row took more).
"""

import argparse
import math
import resource
import time
import tracemalloc

import numpy as np
from threadpoolctl import threadpool_limits

import fourierreg
from fourierreg import backend
from fourierreg.backend import mock_device
from fourierreg.data.template import FIELD_OF_VIEW, template_brain
from fourierreg.model.problem import Problem
from fourierreg.simulation.pair import simulate_pair
from fourierreg.spectral.metric import Metric

ALPHAS, SIGMA = (3.0, 4.0, 5.0, 6.0, 8.0), 0.05
REPEATS = 7


def make_pairs(size, count):
    """Simulated pairs, on the host."""
    source, _ = template_brain(size)
    setting = {"sigma": SIGMA, "spacing": FIELD_OF_VIEW / size, "foreground": True}
    made = [
        simulate_pair(source, alpha=ALPHAS[i % len(ALPHAS)], seed=i, **setting)
        for i in range(count)
    ]
    return [pair.source for pair in made], [pair.target for pair in made]


def memory_peak():
    """Bytes that this process took at most, on the active backend."""
    held = backend.held_memory()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if held is None else held


def seconds_of(function):
    """Median time of several calls; `function` gives an array, whose arrival is waited for."""
    backend.to_numpy(function())
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        backend.to_numpy(function())
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def rates():
    """Bytes and single-precision flops a second of the active backend."""
    xp = backend.active_module()
    a = xp.ones(64 * 2**20, dtype=np.float32)
    m = xp.ones((2048, 2048), dtype=np.float32)
    copy = seconds_of(lambda: (a + np.float32(1))[:1])
    product = seconds_of(lambda: (m @ m)[:1])
    return 2 * a.nbytes / copy, 2 * 2048**3 / product


def transform_flops(cutoff, grid):
    """Of one scalar field, band to grid or back: a matrix product per axis."""
    rows = [2 * k + 1 for k in cutoff[:-1]] + [cutoff[-1] + 1]
    flops, points = 0, 1
    for j, (n, m) in enumerate(zip(rows, grid, strict=True)):
        after = math.prod(rows[j + 1 :])
        flops += (8 if j < len(rows) - 1 else 4) * points * n * m * after
        points *= m
    return flops


def floors(problem, metric, pairs):
    """Seconds that the bytes, and the flops, of energy and gradient of `pairs` pairs take."""
    copy, product = rates()
    band, steps, voxels = metric.band, problem.num_steps, math.prod(problem.shape)
    points, d = math.prod(band.product_shape), band.ndim
    # Scalar fields of the image: u out; S, T, u in, r and force out; r in; force in.
    image = (d + 2 + d + 1 + d + 1 + d) * voxels
    # Of the product grid, per step: v, m, Dv, Du out and in, three products out and in; then back.
    ahead, back = 2 * d * (1 + d) + d * (2 + d), d * (2 + d) + 2 * d * (1 + d)
    grid = 2 * steps * (ahead + back) * points
    flops = steps * (ahead + back) * transform_flops(band.cutoff, band.product_shape)
    flops += 2 * d * transform_flops(band.cutoff, problem.shape)
    return 4 * pairs * (image + grid) / copy, pairs * flops / product


def energy(sources, targets, size):
    """Time of energy and gradient of all pairs at once, beside its floors."""
    xp, spacing = backend.active_module(), FIELD_OF_VIEW / size
    metric = Metric.create((size,) * 3, spacing=spacing, alpha=4.0)
    problems = [
        Problem(backend.asarray(s), backend.asarray(t), metric.band.spacing, 400.0, num_steps=5)
        for s, t in zip(sources, targets, strict=True)
    ]
    rng = np.random.default_rng(0)
    v = xp.stack([0.3 * fourierreg.sample_velocity(metric, rng) for _ in problems])
    many, metrics = Problem.together(problems), Metric.together([metric] * len(problems))
    took = seconds_of(lambda: many.evaluate(v, metrics).gradient)
    moved, worked = floors(problems[0], metric, len(problems))
    print(
        f"{backend.get_backend()}: energy and gradient, {size}³, {len(problems)} pairs: "
        f"{1e3 * took:.2f} ms, {1e3 * took / len(problems):.2f} a pair; floors: bytes "
        f"{1e3 * moved:.2f}, flops {1e3 * worked:.2f} ms: {took / max(moved, worked):.1f} × the "
        "larger",
        flush=True,
    )


def estimates(sources, targets, size, together):
    """α of every pair; prints the time of a pair and the memory."""
    setting = {"spacing": FIELD_OF_VIEW / size}
    backend.release_memory()
    before = memory_peak()
    began = time.perf_counter()
    if together:
        found = fourierreg.map_alpha_batch(sources, targets, batch_size=len(sources), **setting)
    else:
        pairs = zip(sources, targets, strict=True)
        found = [fourierreg.map_alpha(*pair, **setting) for pair in pairs]
    seconds = (time.perf_counter() - began) / len(sources)
    memory = (memory_peak() - before) / len(sources) / 2**20
    name = "map_alpha_batch" if together else "map_alpha"
    print(
        f"{backend.get_backend()}: {name}, {size}³, {len(sources)} pairs: {seconds:.2f} s a pair, "
        f"{memory:.0f} MB a pair, α {', '.join(f'{r.alpha:.3f}' for r in found[:5])}",
        flush=True,
    )
    return np.array([r.alpha for r in found]), seconds


def memory(size, pairs):
    """Prints how much memory the arrays of a batch take at most; few iterations take as much."""
    group, small = make_pairs(size, 1), make_pairs(32, 1)
    fourierreg.map_alpha_batch(*small, max_iterations=3)  # compiles, in memory of its own
    for count in (1, pairs):
        chosen = [images * count for images in group]
        tracemalloc.start()
        fourierreg.map_alpha_batch(
            *chosen, batch_size=count, spacing=FIELD_OF_VIEW / size, max_iterations=3
        )
        peak = tracemalloc.get_traced_memory()[1] / count
        tracemalloc.stop()
        print(
            f"a batch of {count} at {size}³: {peak / 2**20:.0f} MB a pair, "
            f"{peak / size**3:.0f} bytes a voxel",
            flush=True,
        )


def launches(size, pairs):
    """Prints what a device would be asked to launch, as the mock device counts it."""
    images, spacing = make_pairs(size, pairs), FIELD_OF_VIEW / size
    with fourierreg.use_backend("mock"):
        metric = Metric.create((size,) * 3, spacing=spacing, alpha=4.0)
        source, target = (backend.asarray(group[0]) for group in images)
        problem = Problem(source, target, metric.band.spacing, 400.0, num_steps=5)
        v = 0.3 * fourierreg.sample_velocity(metric, np.random.default_rng(0))
        problem.evaluate(v, metric)  # makes what is kept
        with mock_device.count_launches() as counter:
            problem.evaluate(v, metric)
        print(f"energy and gradient: {counter.total()} launches", flush=True)
        for count in (1, pairs):
            with mock_device.count_launches() as counter:
                chosen = [group[:count] for group in images]
                fourierreg.map_alpha_batch(*chosen, batch_size=count, spacing=spacing)
            recorded = counter.pop("recorded", 0)
            print(
                f"map_alpha_batch of {count} at {size}³, a pair: {counter.total() / count:.0f} "
                f"launches, of which {counter['replay'] / count:.0f} replay {recorded / count:.0f} "
                "recorded ones",
                flush=True,
            )


@threadpool_limits.wrap(1, user_api="blas")  # as inside map_alpha
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=["cupy", "numpy"], default="cupy")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--cpu-pairs", type=int, default=2, help="estimated on the CPU as well")
    parser.add_argument("--memory", action="store_true", help="only count the bytes of a batch")
    parser.add_argument("--launches", action="store_true", help="only count what is launched")
    options = parser.parse_args()
    if options.memory or options.launches:
        (memory if options.memory else launches)(options.size, 4)
        return
    images = make_pairs(options.size, max(options.pairs))
    first = [group[: options.cpu_pairs] for group in images]
    estimates(*([group[0][:32, :32, :32]] for group in images), 32, False)  # compiles
    energy(*([group[0]] for group in images), options.size)
    cpu, cpu_seconds = estimates(*first, options.size, False)
    with fourierreg.use_backend(options.backend):
        for count in options.pairs:
            chosen = [group[:count] for group in images]
            energy(*chosen, options.size)
            for together in (False, True) if count == 1 else (True,):
                alpha, seconds = estimates(*chosen, options.size, together)
                apart = np.abs(np.log(alpha[: cpu.size] / cpu[: alpha.size])).max()
                print(
                    f"  {cpu_seconds / seconds:.2f} × as fast as map_alpha on the CPU; α within "
                    f"{100 * apart:.2g} % of the CPU's"
                )


if __name__ == "__main__":
    main()
