"""Recovery of a known α through a gain field and a change of contrast, by the likelihood whose
windows have a gain, an offset and a variance of their own.

    python benchmarks/gain_fields.py

Deforms a template brain by velocities drawn at known α (forty Runge-Kutta steps), multiplies the
target by a gain that rises from 0.6 to 1.4 along the first axis, or takes its 0.6th power too, adds
noise of 0.05, and infers α and the noise. The sum of squares sees the target without them. The
simulation shares the flow of the estimate but for the number of steps. Resumable.
"""

import argparse

import numpy as np
import tables

import fourierreg
from fourierreg.data.template import FIELD_OF_VIEW, template_brain
from fourierreg.simulation.pair import simulate_pair

TABLE, SIGMA, NUM_STEPS = "gain_fields.csv", 0.05, 40
ALPHAS, SEEDS = (3.0, 5.0, 8.0), (0, 1, 2)
CASES = {"ssd": ("clean",), "lncc-likelihood": ("clean", "gain", "gain and contrast")}


def change(image, case):
    """An image as another scanner might show it, in the range of the image."""
    gain = np.linspace(0.6, 1.4, image.shape[0], dtype=np.float32)[:, None, None]
    if case == "gain and contrast":
        image = np.maximum(image, 0) ** np.float32(0.6)
    return image if case == "clean" else gain * image


def run(size, alpha, seed, case, similarity):
    """Row of one pair."""
    spacing, source = FIELD_OF_VIEW / size, template_brain(size)[0]
    setting = {"spacing": spacing, "num_steps": NUM_STEPS, "sigma": 0.0}
    pair = simulate_pair(source, alpha=alpha, seed=[seed, round(alpha)], **setting)
    noise = SIGMA * np.random.default_rng(seed).standard_normal(source.shape)
    inside = pair.target > 0
    target = (change(pair.target, case) + noise * inside).astype(np.float32)
    model = fourierreg.Model(similarity=similarity)
    found = fourierreg.map_alpha(source, target, spacing=spacing, posterior="marginal", model=model)
    error = np.linalg.norm(found.displacement - pair.displacement, axis=0)[inside]
    return {
        "size": size,
        "alpha": alpha,
        "seed": seed,
        "case": case,
        "similarity": similarity,
        "found": f"{found.alpha:.3f}",
        "low": f"{found.alpha_interval[0]:.3f}",
        "high": f"{found.alpha_interval[1]:.3f}",
        "error_mm": f"{np.sqrt(np.mean(error**2)):.3f}",
        "seconds": f"{found.seconds:.1f}",
        "converged": found.converged,
    }


def summarize():
    """Print the median of found over true α, and how many intervals hold the truth."""
    rows = tables.read(TABLE)
    for similarity, cases in CASES.items():
        for case in cases:
            own = [r for r in rows if (r["similarity"], r["case"]) == (similarity, case)]
            if not own:
                continue
            ratios = np.array([float(r["found"]) / float(r["alpha"]) for r in own])
            held = sum(float(r["low"]) <= float(r["alpha"]) <= float(r["high"]) for r in own)
            print(
                f"{similarity:16s} {case:18s} median found/true {np.median(ratios):.2f} "
                f"({ratios.min():.2f} to {ratios.max():.2f}), intervals {held} of {len(own)}"
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    options = parser.parse_args()
    for seed in options.seeds:
        for alpha in ALPHAS:
            for similarity, cases in CASES.items():
                for case in cases:
                    key = {
                        "size": options.size,
                        "alpha": alpha,
                        "seed": seed,
                        "case": case,
                        "similarity": similarity,
                    }
                    if not tables.has(TABLE, **key):
                        tables.append(TABLE, run(**key))
    summarize()


if __name__ == "__main__":
    main()
