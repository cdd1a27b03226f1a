"""The paper's gradient (adjoint Jacobi fields) against the exact one, by steps and modes.

    python benchmarks/jacobi.py

Bull-eye pair of recovery.py at α = 3; one velocity, drawn in the widest band at half the prior's
standard deviation and cut down to each band. `sweep`: both from one smooth force at the end point.
`energy`: gradients of the whole image term, which differ too by the slope of the image
(central differences of the deformed image against the interpolant's own). In % of the exact one,
in the metric.
"""

import numpy as np
import recovery
import tables

import fourierreg
from fourierreg.geodesic.jacobi import end_gradient, sweep
from fourierreg.geodesic.shooting import pull_back, shoot
from fourierreg.registration.energy import Problem
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


def main():
    pair = recovery.pair(3.0, 0)
    images = (image.astype(np.float64) for image in (pair.source, pair.target))
    source, target = images
    wide = fourierreg.Metric.create(SHAPE, alpha=3.0, modes=max(MODES), velocity_scale=1.0)
    values = synthesis(0.5 * fourierreg.sample_velocity(wide, 1), wide.band, SHAPE, np.float64, np)
    for modes in MODES:
        metric = fourierreg.Metric.create(SHAPE, alpha=3.0, modes=modes, velocity_scale=1.0)
        v = analysis(values, metric.band, np)
        prior = metric.lower(v) / metric.velocity_scale**2
        for integrator, steps in [("euler", STEPS), ("rk4", (10,))]:
            for num_steps in steps:
                geodesic = shoot(v, metric, num_steps=num_steps, integrator=integrator)
                plain, carried = smooth_force(geodesic)
                exact = pull_back(geodesic, plain)
                own = difference(sweep(geodesic, end_gradient(carried, metric)), exact, metric)
                gradients = [
                    metric.raise_(
                        Problem(
                            source,
                            target,
                            (1.0, 1.0),
                            1.0 / recovery.SIGMA**2,
                            num_steps=num_steps,
                            integrator=integrator,
                            gradient=kind,
                        )
                        .evaluate(v, metric)
                        .gradient
                        - prior
                    )
                    for kind in ("exact", "jacobi")
                ]
                row = {
                    "modes": modes,
                    "integrator": integrator,
                    "num_steps": num_steps,
                    "sweep_percent": f"{own:.3f}",
                    "energy_percent": f"{difference(gradients[1], gradients[0], metric):.3f}",
                }
                print(*row.values())
                if not tables.has(TABLE, **row):
                    tables.append(TABLE, row)


if __name__ == "__main__":
    main()
