"""Recovery of a known α in 3D: a real brain deformed by samples of the prior. Resumable.

    python benchmarks/recovery_brain.py --data FOLDER --brain 1002
    python benchmarks/recovery_brain.py --summary

White noise is added to the target. `map_alpha` runs with its defaults: σ, ρ and α are estimated.
"""

import argparse
import math

import brains
import numpy as np
import tables

import fourierreg
from fourierreg.simulation.pair import simulate_pair

TABLE, SIGMA = "recovery_3d.csv", 0.03


def run(image, spacing, brain, alpha, seed):
    """Row of the table for one estimate."""
    pair = simulate_pair(
        image, alpha=alpha, sigma=SIGMA, seed=seed, spacing=spacing, foreground=True
    )
    u = pair.displacement
    result = fourierreg.map_alpha(pair.source, pair.target, spacing=spacing, posterior="marginal")
    low, high = result.alpha_interval
    error = np.sqrt(((result.displacement - u) ** 2).sum(axis=0))[image > 0]
    return {
        "brain": brain,
        "alpha": alpha,
        "seed": seed,
        "estimate": f"{result.alpha:.3f}",
        "low": f"{low:.3f}",
        "high": f"{high:.3f}",
        "z": f"{math.log(result.alpha / alpha) / result.alpha_sd:.2f}",
        "sigma": f"{result.sigma:.4f}",
        "decimation": f"{result.decimation:.3f}",
        "max_displacement": f"{abs(u).max():.1f}",
        "rms_error_mm": f"{math.sqrt((error**2).mean()):.2f}",
        "seconds": f"{result.seconds:.0f}",
        "status": result.status,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    brains.add_arguments(parser)
    parser.add_argument("--brain", default="1002")
    parser.add_argument("--alphas", type=float, nargs="+", default=[3.0, 6.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--summary", action="store_true")
    options = parser.parse_args()
    if not options.summary:
        image, _, spacing = brains.load(options.data, options.brain)
        for seed in range(options.seeds):
            for alpha in options.alphas:
                key = {"brain": options.brain, "alpha": alpha, "seed": seed}
                if not tables.has(TABLE, **key):
                    tables.append(TABLE, run(image, spacing, **key))
    for r in tables.read(TABLE):
        print(
            f"{r['brain']}, seed {r['seed']}: true α {r['alpha']}, estimate {r['estimate']} "
            f"({r['low']} to {r['high']}), maximum displacement {r['max_displacement']} mm, "
            f"error {r['rms_error_mm']} mm rms, {r['seconds']} s; {r['status']}"
        )


if __name__ == "__main__":
    main()
