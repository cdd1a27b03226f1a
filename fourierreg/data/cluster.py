"""Pools of Dask workers: processes on this machine, or the workers of a running scheduler."""

import contextlib
import logging
import os
import queue
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fourierreg import checks
from fourierreg.errors import InputError

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
# Dask sets malloc to return every freed block to the system, which makes a pair 50 % slower.
MALLOC_SETTINGS = {
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
}
CONNECT_SECONDS = 20
LOCALHOST = {"host": "127.0.0.1"}  # local workers accept no connections from other machines

Jobs = Sequence[Sequence[Any]]
JobRunner = Callable[..., Iterator[tuple[int, Any]]]


@contextlib.contextmanager
def worker_pool(
    workers: int | None, scheduler: str | None, backend: str, num_jobs: int
) -> Iterator[JobRunner]:
    """Start or connect to Dask workers and yield a function that runs jobs on them.

    The function takes a callable and a sequence of argument tuples, and yields (index, result) as
    jobs finish. If a job fails, or its worker dies repeatedly, the exception is yielded as the
    result. With a third argument `reported` the callable gets a keyword `report`, and whatever a
    job passes to that while it runs, plain data, comes back as reported(index, data); a job that
    moved to another worker may repeat itself.

    Parameters
    ----------
    workers : int or None
        Number of processes on this machine, at most `num_jobs`. By default one per core, or one per
        GPU with "cupy".
    scheduler : str or None
        Address of a running Dask scheduler to use instead of local processes.
    backend : {"numpy", "cupy"}
    num_jobs : int
        Number of jobs that will be run.

    Raises
    ------
    InputError
        Both `workers` and `scheduler` are given, or the scheduler is unreachable or has no workers.
    MissingDependencyError
        Dask is not installed.
    """
    checks.choice("backend", backend, ("numpy", "cupy"))
    if workers is not None:
        checks.count("workers", workers)
        if scheduler is not None:
            raise InputError(
                "workers, scheduler: expected at most one of them, because a scheduler has its "
                "own workers; got both"
            )
    if num_jobs == 0:
        yield lambda *job: iter(())
        return
    distributed = checks.required("distributed", "label")
    if scheduler is not None:
        client = _connect(distributed, scheduler)
        with client:
            yield _job_runner(distributed, client)
        return
    with (
        _local_cluster(distributed, workers, backend, num_jobs) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield _job_runner(distributed, client)


def _connect(distributed: Any, address: str) -> Any:
    """Client of the scheduler at an address, checked to have workers."""
    try:
        client = distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(
            f"scheduler: no Dask scheduler answers at {address}; start one (dask scheduler), or "
            "omit the argument to use local processes"
        ) from error
    if not client.scheduler_info()["workers"]:
        client.close()
        raise InputError(
            f"scheduler: the scheduler at {address} has no workers; start some (dask worker "
            f"{address})"
        )
    return client


def _local_cluster(distributed: Any, workers: int | None, backend: str, num_jobs: int) -> Any:
    """Cluster of local processes that divide the cores among them, or one process per GPU."""
    devices = _visible_gpus() if backend == "cupy" else None
    default = available_cores() if devices is None else len(devices)
    count = min(workers or default, num_jobs)
    threads = {name: str(threads_per_worker(count)) for name in THREAD_VARIABLES}
    specification = {}
    for index in range(count):
        environment = dict(threads)
        if devices is not None:
            environment["CUDA_VISIBLE_DEVICES"] = str(devices[index % len(devices)])
        options = {"nthreads": 1, "env": environment, "silence_logs": logging.ERROR, **LOCALHOST}
        specification[index] = {"cls": distributed.Nanny, "options": options}
    dask = checks.required("dask", "label")
    key = "distributed.nanny.pre-spawn-environ"
    with dask.config.set({key: {**dask.config.get(key), **MALLOC_SETTINGS}}):
        return distributed.SpecCluster(
            workers=specification,
            scheduler={
                "cls": distributed.Scheduler,
                "options": {
                    "port": 0,
                    "dashboard": False,
                    "dashboard_address": "127.0.0.1:0",
                    **LOCALHOST,
                },
            },
            silence_logs=logging.ERROR,
        )


def available_cores() -> int:
    """Number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_per_worker(workers: int) -> int:
    """Number of threads of each local worker, so that the cores are not oversubscribed."""
    return max(1, available_cores() // workers)


def _visible_gpus() -> Sequence[str | int]:
    """Indices of the GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        return visible.split(",")
    from fourierreg.backend import device_count

    return list(range(device_count()))


def num_gpus() -> int:
    """Number of GPUs that this process may use, at least one."""
    return max(1, len(_visible_gpus()))


def _reporting(function: Callable[..., Any], topic: str, index: int, job: Sequence[Any]) -> Any:
    """Run a job on a worker, whose reports are sent to the client."""
    from distributed import get_worker

    worker = get_worker()
    return function(*job, report=lambda content: worker.log_event(topic, (index, content)))


def _job_runner(distributed: Any, client: Any) -> JobRunner:
    """Function that submits jobs to a client and yields their results (`worker_pool`)."""

    def run(
        function: Callable[..., Any], jobs: Jobs, reported: Callable[[int, Any], Any] | None = None
    ) -> Iterator[tuple[int, Any]]:
        run_id = uuid.uuid4().hex  # keys must be unique: other clients may share the scheduler
        topic, said = f"fourierreg-{run_id}", queue.SimpleQueue[tuple]()
        if reported is not None:
            client.subscribe_topic(topic, lambda event: said.put((reported, *event[1])))
        futures = []
        for index, job in enumerate(jobs):
            call = (
                (function, *job) if reported is None else (_reporting, function, topic, index, job)
            )
            futures.append(client.submit(*call, pure=False, key=f"pair-{index}-{run_id}"))
            futures[-1].add_done_callback(lambda _, index=index: said.put((None, index, None)))
        left = len(futures)
        try:
            while left:
                tell, index, content = said.get()
                if tell is not None:
                    tell(index, content)
                    continue
                left -= 1
                try:
                    yield index, futures[index].result()
                except Exception as error:  # includes Dask's KilledWorker
                    yield index, error
                futures[index].release()
        finally:
            if reported is not None:
                client.unsubscribe_topic(topic)
            client.cancel(futures)

    return run
