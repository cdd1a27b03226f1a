"""Error of the gradient by adjoint Jacobi fields (the paper's) against number of steps and modes.

    python benchmarks/jacobi.py

Bull-eye pair of recovery.py at α = 3. One velocity is drawn in the widest band, at half the
standard deviation of the prior, and truncated to each band. `sweep` compares the gradients of one
smooth force at the end point. `energy` compares those of the whole image term, which also differ in
the image gradient (central differences of the deformed image, or derivative of the interpolant); in
`soft energy` the bull-eye has edges of 4 voxels instead of 1.5. All in % of the exact gradient, in
the norm of the metric.
"""

import numpy as np
import recovery
import tables

import fourierreg
from fourierreg.geodesic.jacobi import end_gradient, sweep
from fourierreg.geodesic.shooting import pull_back, shoot
from fourierreg.model.problem import Problem
from fourierreg.simulation.bullseye import bullseye
from fourierreg.simulation.pair import simulate_pair
from fourierreg.spectral.operators import jacobian
from fourierreg.spectral.transform import analysis, synthesis

TABLE = "jacobi.csv"
MODES, STEPS = (7, 15, 33), (10, 20, 40, 80)
SHAPE = (100, 100)


def difference(found, exact, metric):
    """Relative difference in the norm of the metric, in %."""
    gap = found - exact
    return 100 * float(np.sqrt(metric.inner(gap, gap) / metric.inner(exact, exact)))


def smooth_force(geodesic):
    """Π[F] and Π[(I + Du)ᵀ F] of a smooth force F."""
    band = geodesic.metric.band
    x, y = np.indices(SHAPE) * 2 * np.pi / 100
    force = np.stack([np.cos(x) * np.sin(2 * y), np.sin(2 * x + 1) * np.cos(y)])
    u = geodesic.displacement_coefficients()
    du = synthesis(jacobian(u, band, np), band, SHAPE, np.float64, np)
    pulled = force + np.einsum("jixy,jxy->ixy", du, force)
    return analysis(force, band, np), analysis(pulled, band, np)


def energy_difference(images, metric, v, flow):
    """Relative difference of the gradients of the image term, in %."""
    prior = metric.lower(v) / metric.velocity_scale**2
    exact, jacobi = (
        metric.raise_(
            Problem.of_pair(*images, (1.0, 1.0), 1.0 / recovery.SIGMA**2, gradient=kind, **flow)
            .evaluate(v[None], metric.batch())
            .gradient[0]
            - prior
        )
        for kind in ("exact", "jacobi")
    )
    return difference(jacobi, exact, metric)


def images_of(edge):
    """Source and target of a bull-eye pair, float64."""
    pair = simulate_pair(
        bullseye(edge=edge), alpha=3.0, sigma=recovery.SIGMA, seed=[0, 300], velocity_scale=1.0
    )
    return pair.source.astype(np.float64), pair.target.astype(np.float64)


def main():
    sharp, soft = images_of(1.5), images_of(4.0)
    wide = fourierreg.Metric.create(SHAPE, alpha=3.0, modes=max(MODES), velocity_scale=1.0)
    values = synthesis(0.5 * fourierreg.sample_velocity(wide, 1), wide.band, SHAPE, np.float64, np)
    rows = []
    for modes in MODES:
        metric = fourierreg.Metric.create(SHAPE, alpha=3.0, modes=modes, velocity_scale=1.0)
        v = analysis(values, metric.band, np)
        for integrator, steps in [("euler", STEPS), ("rk4", (10,))]:
            for num_steps in steps:
                flow = {"integrator": integrator, "num_steps": num_steps}
                geodesic = shoot(v, metric, **flow)
                force, pulled = smooth_force(geodesic)
                exact = pull_back(geodesic, force)
                error = difference(sweep(geodesic, end_gradient(pulled, metric)), exact, metric)
                row = {"modes": modes, **flow, "sweep_percent": f"{error:.3f}"}
                for name, images in (("energy_percent", sharp), ("soft_energy_percent", soft)):
                    row[name] = f"{energy_difference(images, metric, v, flow):.3f}"
                print(*row.values())
                rows.append(row)
    tables.replace(TABLE, rows)


if __name__ == "__main__":
    main()
