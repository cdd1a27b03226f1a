"""Peak memory of `map_alpha` on a real pair (NumPy).

    python benchmarks/memory.py --data FOLDER --pairs 1000-1001

The baseline is taken after `import fourierreg`, a warm-up at 16³ and reading the images. With one
pair per run, the peak is that of the pair.
"""

import argparse

import brains
import numpy as np
from energy import peak

import fourierreg


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    brains.add_arguments(parser)
    options = parser.parse_args()
    warm = np.random.default_rng(0).random((16, 16, 16)).astype(np.float32)
    fourierreg.map_alpha(warm, warm[::-1], modes=6)
    for name, (source, _, spacing), (target, _, _) in brains.pairs(options):
        before = peak()
        result = fourierreg.map_alpha(source, target, spacing=spacing)
        print(
            f"{name}: {peak() - before:.0f} MB above a baseline of {before:.0f} MB, "
            f"{result.seconds:.1f} s, {len(result.history)} iterations"
        )


if __name__ == "__main__":
    main()
