"""Where many pairs are worked on: Dask workers, on this machine or behind a scheduler's address."""

import contextlib
import logging
import os
import uuid

from fourierreg import checks
from fourierreg.errors import InputError

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
# Dask has its workers give every freed block back to the system: a pair takes half as long again.
MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(2**27), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
CONNECT_SECONDS = 20
HERE = {"host": "127.0.0.1"}  # what runs on this machine listens to nothing else


@contextlib.contextmanager
def pool(workers, scheduler, backend, num_jobs):
    """A function that runs jobs on workers: (function, argument tuples) -> (index, result), as they
    finish; an exception (a worker that died again and again) takes the place of a result.

    Parameters
    ----------
    workers : int or None
        Processes on this machine; one per core by default (one per GPU with "cupy"), never more
        than there are jobs.
    scheduler : str or None
        Address of a running Dask scheduler, instead.
    backend : {"numpy", "cupy"}
    num_jobs : int
    """
    checks.choice("backend", backend, ("numpy", "cupy"))
    if workers is not None:
        checks.count("workers", workers)
        if scheduler is not None:
            raise InputError("workers, scheduler: the scheduler has its own; give one of them")
    if num_jobs == 0:
        yield lambda function, jobs: iter(())
        return
    distributed = checks.required("distributed", "label")
    if scheduler is not None:
        client = _connect(distributed, scheduler)
        with client:
            yield _runner(distributed, client)
        return
    with (
        _local_cluster(distributed, workers, backend, num_jobs) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield _runner(distributed, client)


def _connect(distributed, address):
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"scheduler: no Dask scheduler answers at {address}; start one (dask scheduler), or "
            "leave it out to work on this machine"
        ) from error
    if not client.scheduler_info()["workers"]:
        client.close()
        raise InputError(
            f"scheduler: the scheduler at {address} has no workers; start some (dask worker "
            f"{address})"
        )
    return client


def _local_cluster(distributed, workers, backend, num_jobs):
    """Processes that share the cores of this machine, or one per GPU."""
    devices = _devices() if backend == "cupy" else None
    count = min(workers or (cores() if devices is None else len(devices)), num_jobs)
    common = {name: str(threads_of(count)) for name in THREADS}
    specification = {}
    for index in range(count):
        environment = dict(common)
        if devices is not None:
            environment["CUDA_VISIBLE_DEVICES"] = str(devices[index % len(devices)])
        options = {"nthreads": 1, "env": environment, "silence_logs": logging.ERROR, **HERE}
        specification[index] = {"cls": distributed.Nanny, "options": options}
    dask = checks.required("dask", "label")
    key = "distributed.nanny.pre-spawn-environ"
    with dask.config.set({key: {**dask.config.get(key), **MEMORY}}):
        return distributed.SpecCluster(
            workers=specification,
            scheduler={
                "cls": distributed.Scheduler,
                "options": {
                    "port": 0,
                    "dashboard": False,
                    "dashboard_address": "127.0.0.1:0",
                    **HERE,
                },
            },
            silence_logs=logging.ERROR,
        )


def cores():
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_of(workers):
    """Threads of each worker on this machine, so that they do not fight for its cores."""
    return max(1, cores() // workers)


def _devices():
    """GPUs this process may use, by number."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        return visible.split(",")
    from fourierreg.backend import device_count

    return list(range(device_count()))


def _runner(distributed, client):
    def run(function, jobs):
        mine = uuid.uuid4().hex  # others may share the scheduler
        futures = {
            client.submit(function, *job, pure=False, key=f"pair-{index}-{mine}"): index
            for index, job in enumerate(jobs)
        }
        try:
            for future in distributed.as_completed(futures, loop=client.loop):
                index = futures[future]
                try:
                    yield index, future.result()
                except Exception as error:  # also one of Dask's own: a worker that keeps dying
                    yield index, error
                future.release()
        finally:
            client.cancel(list(futures))

    return run
