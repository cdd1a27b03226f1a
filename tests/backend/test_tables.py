"""Cached tables: one per device, freed with its memory, held by the graphs that read them."""

import gc
import types
import weakref

import numpy as np
import pytest

import fourierreg
from fourierreg.backend import active_module, release_memory, tables
from fourierreg.backend.graphs import CapturedGraph
from fourierreg.backend.tables import cached_table
from fourierreg.spectral.band import multiplicity
from fourierreg.spectral.metric import Metric


class Table:
    """An array that can be watched."""

    def __init__(self, size):
        self.array = np.zeros(size)


@pytest.fixture
def make():
    """A cached function, and the list of its calls."""
    calls = []

    @cached_table(limit=3)
    def table(size, xp):
        calls.append(size)
        return Table(size)

    return table, calls


def test_a_table_is_made_once_for_its_arguments(make):
    table, calls = make
    assert table(4, np) is table(4, np)
    table(5, np)
    assert calls == [4, 5]


def test_the_oldest_tables_are_dropped_beyond_the_limit(make):
    table, calls = make
    for size in (1, 2, 3, 4, 4, 2, 1):
        table(size, np)
    assert calls == [1, 2, 3, 4, 1]


def test_every_device_has_its_own(make):
    table, _ = make
    present = [0]
    runtime = types.SimpleNamespace(getDevice=lambda: present[0])
    gpu = types.SimpleNamespace(__name__="cupy", cuda=types.SimpleNamespace(runtime=runtime))
    first = table(4, gpu)
    present[0] = 1
    second = table(4, gpu)
    assert second is not first and table(4, np) not in (first, second)
    present[0] = 0
    assert table(4, gpu) is first


def test_backends_do_not_share_tables():
    band = Metric.create((12, 10), modes=5).band
    on_host = multiplicity(band, np)
    with fourierreg.use_backend("mock"):
        assert type(multiplicity(band, active_module())).__name__ == "MockArray"
    assert multiplicity(band, np) is on_host


def test_released_memory_includes_tables(make):
    table, _ = make
    watched = weakref.ref(table(4, np))
    release_memory()
    gc.collect()
    assert watched() is None


def test_a_captured_graph_holds_the_tables_that_it_reads(make):
    table, _ = make
    graph = CapturedGraph(lambda: None, np)
    with tables.holding(graph._tables):
        watched = weakref.ref(table(4, np))
    release_memory()
    gc.collect()
    assert watched() is not None
    del graph
    gc.collect()
    assert watched() is None
