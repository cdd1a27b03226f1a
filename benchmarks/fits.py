"""Whether fits at a high signal-to-noise ratio end, and after how many iterations.

    python benchmarks/fits.py --data FOLDER --pairs 1000-1001

The source of each pair is deformed by a velocity drawn at α = 4.5 (s = 1.6 mm, shot in 20
Runge-Kutta steps) with white noise of σ = 0.03 in every voxel, and registered at the true α and σ:
from zero, and on the finest grid from the true velocity, with the same rule to end. Then the pair
itself is registered at α = 2 with an estimated noise. Prints iterations on every grid.
"""

import argparse
from collections import Counter

import brains
import numpy as np

import fourierreg
from fourierreg.geodesic.prior import sample_velocity
from fourierreg.geodesic.shooting import shoot
from fourierreg.model.model import Model
from fourierreg.optim.batching import run
from fourierreg.registration.inputs import read_inputs
from fourierreg.registration.multiresolution import Multiresolution
from fourierreg.registration.options import noise_of

ALPHA, SIGMA, SEED = 4.5, 0.03, 3
MODEL = Model(velocity_scale=1.6)


def simulated(image, spacing):
    """(target, true velocity)."""
    metric = MODEL.metric(image.shape, spacing, ALPHA)
    rng = np.random.default_rng(SEED)
    velocity = sample_velocity(metric, rng)
    u = shoot(velocity[None], metric.batch(), num_steps=20, integrator="rk4").displacement()[0]
    noise = SIGMA * rng.standard_normal(image.shape)
    print(f"largest displacement {abs(u).max():.1f} mm")
    return (fourierreg.warp(image, u, spacing) + noise).astype(np.float32), velocity


def describe(name, result):
    """Print where a registration ended."""
    counts = Counter("×".join(map(str, record.shape)) for record in result.history)
    last = result.history[-1]
    print(
        f"{name}: {dict(counts)}, {len(result.history)} iterations, {result.seconds:.0f} s, "
        f"energy {last.prior + last.likelihood:.0f}. {result.status}",
        flush=True,
    )


def from_truth(image, target, velocity, spacing, num_steps):
    """Print where a fit on the finest grid ends that starts at the true velocity."""
    model = MODEL.with_fields(num_steps=num_steps)
    inputs = read_inputs(image, target, model, alpha=ALPHA, spacing=spacing, pad=False)
    state = Multiresolution(
        inputs.problem, inputs.metric, noise_of(SIGMA, None), inside=inputs.inside
    )
    state.velocity = velocity[None].astype(complex)
    state.estimate_noise(state.finest)
    run(state.fit(state.finest, tolerance=state.tolerance, max_iterations=1000))
    print(
        f"from the true velocity: {len(state.history)} iterations, "
        f"energy {float(state.evaluation.total[0]):.0f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    brains.add_arguments(parser)
    options = parser.parse_args()
    for name, (source, _, spacing), (fixed, _, _) in brains.pairs(options):
        target, velocity = simulated(source, spacing)
        setting = {"alpha": ALPHA, "sigma": SIGMA, "spacing": spacing, "pad": False}
        result = fourierreg.register(source, target, model=MODEL, max_iterations=1000, **setting)
        describe(f"{name}, simulated", result)
        from_truth(source, target, velocity, spacing, result.model.num_steps)
        result = fourierreg.register(source, fixed, alpha=2.0, spacing=spacing, max_iterations=500)
        describe(f"{name}, real", result)


if __name__ == "__main__":
    main()
