"""Time and peak memory of one evaluation of energy and gradient, with three Runge-Kutta steps.

    python benchmarks/energy.py

Each size runs in a new process. The baseline of the memory is taken after `import fourierreg` and a
warm-up at 16³.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np
from threadpoolctl import threadpool_limits

import fourierreg
from fourierreg.image.similarity import similarity_of
from fourierreg.model.problem import Problem


def problem(size, modes, similarity):
    """A smooth random pair and a velocity drawn from the prior at α = 3."""
    rng = np.random.default_rng(0)
    metric = fourierreg.Metric.create((size,) * 3, modes=modes, alpha=3.0)
    axes = np.meshgrid(*[np.linspace(-1, 1, size)] * 3, indexing="ij")
    ball = np.exp(-4 * sum(x**2 for x in axes))
    source, target = (
        (ball * (1 + 0.2 * rng.standard_normal(ball.shape))).astype(np.float32) for _ in range(2)
    )
    velocity = 0.3 * fourierreg.sample_velocity(metric, 1, size=1)
    options = {"num_steps": 3, "integrator": "rk4", "similarity": similarity_of(similarity)}
    pair = Problem.of_pair(source, target, metric.band.spacing, **options)
    return pair, metric.batch(), velocity


def peak():
    """Peak resident memory of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(size, modes, similarity):
    """Measure one size and print the result."""
    with threadpool_limits(1, user_api="blas"):
        small, metric, velocity = problem(16, 6, similarity)
        small.evaluate(velocity, metric)
        baseline = peak()
        full, metric, velocity = problem(size, modes, similarity)
        times = []
        for _ in range(8):
            began = time.perf_counter()
            full.evaluate(velocity, metric)
            times.append(time.perf_counter() - began)
    print(
        f"{size:4d}³ {modes:3d} modes {similarity:4s}: {min(times):.3f} s min, "
        f"{np.median(times):.3f} s median, peak {peak() - baseline:.0f} MB above the baseline",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=3, metavar=("SIZE", "MODES", "SIMILARITY"))
    options = parser.parse_args()
    if options.one:
        size, modes, similarity = options.one
        measure(int(size), int(modes), similarity)
        return
    for size, modes in ((64, 16), (64, 32), (128, 16), (128, 32), (128, 48)):
        for similarity in ("ssd", "lncc"):
            command = [sys.executable, __file__, "--one", str(size), str(modes), similarity]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
