"""One GPU for CuPy and the network: neither takes memory that it does not use.

TensorFlow and JAX take most of a GPU when they first touch it, and CuPy, which registers images in
the same process, would find none. Labels come from processes of their own, which give everything
back when they end (`fourierreg.data.engine`); `train` has CuPy give back what lies idle before it
begins.
"""

import os

ON_DEMAND = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def take_memory_on_demand():
    """Before Keras is imported; what the user has set stands."""
    for name, value in ON_DEMAND.items():
        os.environ.setdefault(name, value)
