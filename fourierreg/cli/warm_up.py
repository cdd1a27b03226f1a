"""`fourierreg warm-up`."""

import time

from fourierreg.cli.common import Count
from fourierreg.cli.options import add_options

SIZE, MODES = 34, 8  # of the images that are registered
TASKS = (  # keywords of registrations that together use the compiled code of the others
    ("register", {"quality": "fast", "max_iterations": 3}),
    ("map_alpha", {"quality": "fast", "max_iterations": 3}),
    ("map_alpha", {"posterior": "marginal", "max_iterations": 3}),
    ("register", {"quality": "paper", "max_iterations": 3}),
)


def add_to(commands):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "warm-up",
        help="compile now what the first registration would wait for",
        description=run.__doc__,
        epilog="Run it once where images of a cluster or a container are built. Compiled code is "
        "kept in the folders that it prints (NUMBA_CACHE_DIR and CUPY_CACHE_DIR move them).",
    )
    add_options(parser, "--backend", "--quiet")
    parser.set_defaults(run=run, json=False)


def run(options):
    """Compile what registrations need, once: half a minute or more on a GPU."""
    import numpy as np

    import fourierreg
    from fourierreg.backend import set_backend
    from fourierreg.backend.compilation import cache_folders
    from fourierreg.simulation.bullseye import bullseye

    set_backend(options.backend)
    disk = bullseye((SIZE, SIZE), outer=(11.0, 10.0), inner=(6.0, 5.0))
    depth = np.exp(-(((np.arange(SIZE) - SIZE / 2) / 9.0) ** 2), dtype=np.float32)
    source = (disk[:, :, None] * depth).astype(np.float32)
    target = np.roll(source, 1, axis=0)
    began = time.perf_counter()
    with Count("compiling", "task", options) as count:
        for done, (name, keywords) in enumerate(TASKS, start=1):
            getattr(fourierreg, name)(source, target, modes=MODES, **keywords)
            count(done, len(TASKS))
    if not options.quiet:
        print(f"ready in {time.perf_counter() - began:.0f} s; kept in")
        for folder in cache_folders(options.backend):
            print(f"  {folder}")
    return 0
