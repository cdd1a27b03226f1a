"""Threads: of kernels as many as numba has, of BLAS one, because the matrices here are small, and
waking threads costs more than they save."""

import functools

from threadpoolctl import ThreadpoolController


@functools.cache
def _controller():
    return ThreadpoolController()  # looks through all loaded libraries, which takes milliseconds


def single_threaded_blas():
    """Context in which BLAS uses one thread."""
    return _controller().limit(limits=1, user_api="blas")


def num_threads():
    """Number of threads of the kernels that run on the host."""
    import numba

    return numba.get_num_threads()
