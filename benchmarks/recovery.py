"""Recovery of a known α in 2D: bull-eye pairs, from posteriors or held-out voxels. Resumable.

    python benchmarks/recovery.py --posterior marginal
    python benchmarks/recovery.py --summary

Velocities are drawn from the prior at α = 3, 6, 11 with s = 1 voxel (100 × 100, 16 modes). The
target is the deformed source plus white noise of σ = 0.03, which is given to the posteriors.
"""

import argparse
import math

import numpy as np
import tables

import fourierreg
from fourierreg.image.deformation import jacobian_determinant
from fourierreg.simulation.bullseye import bullseye
from fourierreg.simulation.pair import simulate_pair

TABLE = "recovery_2d.csv"
SIGMA, SCALE = 0.03, 1.0


def pair(alpha, seed):
    """Simulated bull-eye pair."""
    key = [seed, round(100 * alpha)]
    return simulate_pair(bullseye(), alpha=alpha, sigma=SIGMA, seed=key, velocity_scale=SCALE)


def estimate(alpha, seed, **keywords):
    """Simulate a pair and estimate its α; returns both."""
    simulated = pair(alpha, seed)
    setting = {"velocity_scale": SCALE, **keywords}
    if keywords.get("posterior") == "predictive":
        setting |= {"model": fourierreg.Model(), "jacobian": "auto"}
    else:
        setting["sigma"] = SIGMA
    return simulated, fourierreg.map_alpha(simulated.source, simulated.target, **setting)


def run(alpha, seed, posterior, jacobian):
    """Row of the table for one estimate, and its `Registration`."""
    simulated, result = estimate(alpha, seed, posterior=posterior, jacobian=jacobian)
    u = simulated.displacement
    low, high = result.alpha_interval
    found = not result.status.startswith("No interior")
    row = {
        "alpha": alpha,
        "seed": seed,
        "posterior": posterior,
        "jacobian": jacobian,
        "estimate": f"{result.alpha:.4g}" if found else "none",
        "low": f"{low:.4g}",
        "high": f"{high:.4g}",
        "sd": f"{result.alpha_sd:.4g}",
        "z": f"{math.log(result.alpha / alpha) / result.alpha_sd:.3f}",
        "max_displacement": f"{abs(u).max():.2f}",
        "min_jacobian": f"{jacobian_determinant(u).min():.2f}",
        "seconds": f"{result.seconds:.1f}",
        "status": result.status,
    }
    return row, result


def summary():
    """Print median, coverage and calibration per α, posterior and form of J."""
    table = tables.read(TABLE)
    keys = sorted({(r["posterior"], r["jacobian"], float(r["alpha"])) for r in table})
    for posterior, jacobian, alpha in keys:
        selected = [
            r
            for r in table
            if (r["posterior"], r["jacobian"], float(r["alpha"])) == (posterior, jacobian, alpha)
        ]
        found = [r for r in selected if r["estimate"] != "none"]
        estimates = [float(r["estimate"]) for r in found]
        covered = sum(float(r["low"]) <= alpha <= float(r["high"]) for r in found)
        z = np.array([float(r["z"]) for r in found])
        print(
            f"{posterior:9s} J {jacobian:12s} α = {alpha:4g}: median "
            f"{np.median(estimates) if estimates else math.nan:6.2f} of {len(found)} found of "
            f"{len(selected)}, {covered} intervals cover α, rms z {np.sqrt(np.mean(z**2)):.2f}, "
            f"mean z {z.mean():+.2f}"
        )
    for posterior, jacobian in sorted({key[:2] for key in keys}):
        z = [
            float(r["z"])
            for r in table
            if (r["posterior"], r["jacobian"]) == (posterior, jacobian) and r["estimate"] != "none"
        ]
        print(f"{posterior:9s} J {jacobian:12s} all: rms z {np.sqrt(np.nanmean(np.square(z))):.2f}")
    for posterior in ("marginal", "predictive"):
        coverage(
            posterior,
            [r for r in table if r["posterior"] == posterior and r["estimate"] != "none"],
        )


def coverage(posterior, rows):
    """Print how many intervals cover α, and how far the estimates are from it."""
    if not rows:
        return
    inside = sum(float(r["low"]) <= float(r["alpha"]) <= float(r["high"]) for r in rows)
    errors = np.array([abs(float(r["estimate"]) / float(r["alpha"]) - 1) for r in rows])
    print(
        f"{posterior}: {inside} of {len(rows)} intervals cover α; "
        f"{np.mean(errors < 0.1):.0%} of the estimates are within 10 %, "
        f"{np.mean(errors < 0.2):.0%} within 20 %"
    )


def by_displacement():
    """Print the difference of α with J ≈ -g to that with the exact J, by displacement."""
    rows = {
        form: {
            (r["alpha"], r["seed"]): r
            for r in tables.read(TABLE)
            if (r["posterior"], r["jacobian"]) == ("marginal", form)
        }
        for form in ("exact", "approximate")
    }
    both = [
        (r, rows["approximate"][k]) for k, r in rows["exact"].items() if k in rows["approximate"]
    ]
    for low, high in ((0, 5), (5, 7), (7, 10), (10, 99)):
        ratios = [
            float(rough["estimate"]) / float(exact["estimate"]) - 1
            for exact, rough in both
            if low <= float(exact["max_displacement"]) < high
        ]
        if ratios:
            print(
                f"maximum displacement {low:2d} to {high:2d} voxels: α with J ≈ -g differs by "
                f"{100 * np.mean(ratios):+.1f} % on average, {100 * min(ratios):+.1f} to "
                f"{100 * max(ratios):+.1f} % ({len(ratios)} pairs)"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--posterior", choices=["predictive", "marginal", "joint"], default="marginal"
    )
    parser.add_argument("--jacobian", choices=["exact", "approximate"], default="exact")
    parser.add_argument("--alphas", type=float, nargs="+", default=[3.0, 6.0, 11.0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        for seed in range(options.seeds):
            for alpha in options.alphas:
                key = {
                    "alpha": alpha,
                    "seed": seed,
                    "posterior": options.posterior,
                    "jacobian": options.jacobian,
                }
                if not tables.has(TABLE, **key):
                    row, _ = run(**key)
                    tables.append(TABLE, row)
                    print(alpha, seed, row["estimate"], row["sd"], row["z"], flush=True)
    summary()
    by_displacement()


if __name__ == "__main__":
    main()
