"""Launches, waits, memory and efficiency of batches, counted without a GPU.

    python benchmarks/batch_counts.py --memory --size 96    # of the arrays of a batch (NumPy)
    python benchmarks/batch_counts.py --launches --size 64    # of kernels (mock device)
    python benchmarks/batch_counts.py --efficiency --size 32 --pairs 32    # rows at work (NumPy)

The efficiency of batches is the number of the pairs' iterations over that of the steps times the
batch size: one where all rows move in every step. Each step is one wait for the device.
"""

import argparse
import tracemalloc

import gpu
import numpy as np
from threadpoolctl import threadpool_limits

import fourierreg
from fourierreg import backend
from fourierreg.backend import mock_device
from fourierreg.data.template import FIELD_OF_VIEW, template_brain
from fourierreg.model.problem import Problem
from fourierreg.optim import lbfgs
from fourierreg.registration.map_alpha_batch import UNDER_WAY
from fourierreg.simulation.pair import simulate_pair
from fourierreg.spectral.metric import Metric

ROWS = 8  # batch size of which the efficiency is counted


def memory(size, pairs):
    """Print the peak memory of the arrays of a batch, which few iterations already reach."""
    group, small = gpu.make_pairs(size, 1), gpu.make_pairs(32, 1)
    fourierreg.map_alpha_batch(*small, max_iterations=3)  # compiles; not measured
    for count in (1, pairs):
        under_way = 1 if count == 1 else UNDER_WAY * count  # all in memory, a batch at work
        chosen = [images * under_way for images in group]
        tracemalloc.start()
        fourierreg.map_alpha_batch(
            *chosen, batch_size=count, spacing=FIELD_OF_VIEW / size, max_iterations=3
        )
        peak = tracemalloc.get_traced_memory()[1] / count
        tracemalloc.stop()
        print(
            f"a batch of {count} at {size}³: {peak / 2**20:.0f} MB per pair, "
            f"{peak / size**3:.0f} bytes per voxel",
            flush=True,
        )


def efficiency(size, pairs, pad):
    """Print the efficiency of batches of pairs of mixed α and noise; with padding the pairs are on
    several grids."""
    source, spacing = template_brain(size)[0], FIELD_OF_VIEW / size
    images = []
    for i in range(pairs):
        alpha, sigma = gpu.ALPHAS[i % len(gpu.ALPHAS)], (0.03, 0.05, 0.1)[i % 3]
        setting = {"alpha": alpha, "sigma": sigma, "seed": i, "foreground": True}
        made = simulate_pair(source, spacing=spacing, **setting)
        images.append((made.source, made.target))
    counts, step = {}, lbfgs._Rows.step

    def counted(rows):
        accepted = step(rows)
        counts["steps"] += 1
        counts["rows"] += rows.rows.size
        counts["iterations"] += int(accepted.sum())
        return accepted

    lbfgs._Rows.step = counted
    for posterior, model in {
        "marginal": {"modes": 10},
        "predictive": {"quality": "fast"},
    }.items():
        counts.update(steps=0, rows=0, iterations=0)
        options = {"posterior": posterior, "spacing": spacing, "pad": pad, **model}
        fourierreg.map_alpha_batch(*zip(*images, strict=True), batch_size=ROWS, **options)
        iterations, steps = counts["iterations"], counts["steps"]
        print(
            f"{posterior}, {pairs} pairs at {size}³{' padded' if pad else ''}, {ROWS} at a time: "
            f"{iterations} iterations in "
            f"{steps} steps, efficiency {iterations / (steps * ROWS):.2f}, "
            f"{steps / iterations:.2f} waits an iteration; {iterations / counts['rows']:.2f} of "
            f"the rows of a step move, {counts['rows'] / steps:.1f} rows a step",
            flush=True,
        )
    lbfgs._Rows.step = step


def launches(size, pairs):
    """Print the number of kernel launches and waits, counted by the mock device."""
    images, spacing = gpu.make_pairs(size, pairs), FIELD_OF_VIEW / size
    with fourierreg.use_backend("mock"):
        metric = Metric.create((size,) * 3, spacing=spacing, alpha=4.0)
        source, target = (backend.asarray(group[0]) for group in images)
        problem = Problem.of_pair(source, target, metric.band.spacing, 400.0, num_steps=5)
        v = 0.3 * fourierreg.sample_velocity(metric, np.random.default_rng(0), size=1)
        problem.evaluate(v, metric.batch())  # fills the caches of tables
        with mock_device.count_launches() as counter:
            problem.evaluate(v, metric.batch())
        waits = counter.pop("wait", 0)
        print(f"energy and gradient: {counter.total()} launches, {waits} waits", flush=True)
        for count in (1, pairs):
            with mock_device.count_launches() as counter:
                chosen = [group[:count] for group in images]
                fourierreg.map_alpha_batch(
                    *chosen, batch_size=count, spacing=spacing, posterior="marginal"
                )
            captured, waits = counter.pop("captured", 0), counter.pop("wait", 0)
            print(
                f"map_alpha_batch of {count} at {size}³, per pair: {counter.total() / count:.0f} "
                f"launches, of which {counter['replay'] / count:.0f} are graph replays "
                f"({captured / count:.0f} captured launches), {waits / count:.0f} waits",
                flush=True,
            )


@threadpool_limits.wrap(1, user_api="blas")  # as inside map_alpha
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--launches", action="store_true")
    parser.add_argument("--efficiency", action="store_true")
    parser.add_argument("--pad", action="store_true", help="images, for the efficiency")
    options = parser.parse_args()
    if options.memory:
        memory(options.size, options.pairs)
    if options.launches:
        launches(options.size, options.pairs)
    if options.efficiency:
        efficiency(options.size, options.pairs, options.pad)


if __name__ == "__main__":
    main()
