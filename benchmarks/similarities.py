"""Every similarity at its default weight, on real pairs: Dice, minimum Jacobian, time.

    python benchmarks/similarities.py --data FOLDER --pairs 1000-1001

Prints one line per pair and similarity.
"""

import argparse

import brains

import fourierreg
from fourierreg.image.metrics import mean_dice
from fourierreg.image.similarity import SIMILARITIES


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    brains.add_arguments(parser)
    options = parser.parse_args()
    for name, (source, labels, spacing), (target, truth, _) in brains.pairs(options):
        for similarity in SIMILARITIES:
            result = fourierreg.register(source, target, spacing=spacing, similarity=similarity)
            warped = fourierreg.warp(labels, result.displacement, spacing, order=0)
            print(
                f"{name} {similarity:4s} γ = {result.weight:.3g}: Dice "
                f"{mean_dice(warped, truth):.3f}, minimum Jacobian "
                f"{result.jacobian_determinant.min():.2f}, {result.seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
