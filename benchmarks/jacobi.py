"""The paper's gradient (adjoint Jacobi fields) against the exact one, by steps and modes.

    python benchmarks/jacobi.py

Bull-eye pair of recovery.py at α = 3; one velocity, drawn in the widest band at half the prior's
standard deviation and cut down to each band. `sweep`: both from one smooth force at the end point.
`energy`: gradients of the whole image term, which differ too by the slope of the image (central
differences of the deformed image against the interpolant's own), less so on the softer bull-eye of
`soft energy` (edges of 4 voxels, not 1.5). In % of the exact one, in the metric.
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
    """Relative difference in the metric, %."""
    gap = found - exact
    return 100 * float(np.sqrt(metric.inner(gap, gap) / metric.inner(exact, exact)))


def smooth_force(geodesic):
    """Π[F] and Π[(I + Du)ᵀ F] of a force F of low frequency."""
    band = geodesic.metric.band
    x, y = np.indices(SHAPE) * 2 * np.pi / 100
    force = np.stack([np.cos(x) * np.sin(2 * y), np.sin(2 * x + 1) * np.cos(y)])
    u = geodesic.displacement_coefficients()
    du = synthesis(jacobian(u, band, np), band, SHAPE, np.float64, np)
    carried = force + np.einsum("jixy,jxy->ixy", du, force)
    return analysis(force, band, np), analysis(carried, band, np)


def energy_difference(images, metric, v, flow):
    """Of the gradients of the image term, %."""
    prior = metric.lower(v) / metric.velocity_scale**2
    exact, fields = (
        metric.raise_(
            Problem(*images, (1.0, 1.0), 1.0 / recovery.SIGMA**2, gradient=kind, **flow)
            .evaluate(v, metric)
            .gradient
            - prior
        )
        for kind in ("exact", "jacobi")
    )
    return difference(fields, exact, metric)


def images_of(edge):
    """Source and target of a bull-eye, float64."""
    made = simulate_pair(
        bullseye(edge=edge), alpha=3.0, sigma=recovery.SIGMA, seed=[0, 300], velocity_scale=1.0
    )
    return made.source.astype(np.float64), made.target.astype(np.float64)


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
                plain, carried = smooth_force(geodesic)
                exact = pull_back(geodesic, plain)
                own = difference(sweep(geodesic, end_gradient(carried, metric)), exact, metric)
                row = {"modes": modes, **flow, "sweep_percent": f"{own:.3f}"}
                for name, images in (("energy_percent", sharp), ("soft_energy_percent", soft)):
                    row[name] = f"{energy_difference(images, metric, v, flow):.3f}"
                print(*row.values())
                rows.append(row)
    tables.replace(TABLE, rows)


if __name__ == "__main__":
    main()
