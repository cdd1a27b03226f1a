"""One GPU for CuPy and the network: what can be seen of it without one."""

import os
import subprocess
import sys

import pytest

from fourierreg import backend
from fourierreg.learning import training
from fourierreg.learning.environment import ON_DEMAND
from fourierreg.learning.training import train
from tests.learning import data


@pytest.mark.parametrize("wish", [None, "mine"])
def test_keras_takes_memory_on_demand_unless_told_otherwise(wish):
    """The variables stand before the first of Keras' backends is imported."""
    program = (
        "import os, sys\n"
        "class Spy:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == 'keras': print([os.environ.get(n) for n in {list(ON_DEMAND)}])\n"
        "sys.meta_path.insert(0, Spy())\n"
        "import fourierreg.learning"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ON_DEMAND}
    if wish is not None:
        environment |= dict.fromkeys(ON_DEMAND, wish)
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    expected = list(ON_DEMAND.values()) if wish is None else [wish] * len(ON_DEMAND)
    assert said.splitlines()[0] == str(expected)


def test_training_has_cupy_give_back_what_lies_idle(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(training, "release_memory", lambda: order.append("given back"))
    build = training.build_network
    monkeypatch.setattr(
        training, "build_network", lambda *a, **k: order.append("built") or build(*a, **k)
    )
    train(data.bullseyes(tmp_path / "set", 8), tmp_path / "m.keras", filters=2, epochs=1)
    assert order[:2] == ["given back", "built"]


@pytest.mark.gpu
def test_memory_is_given_back():
    try:
        backend.set_backend("cupy")
    except (ImportError, RuntimeError) as error:
        pytest.skip(str(error))
    xp = backend.active_module()
    array = xp.zeros(2**22)
    held = backend.held_memory()
    assert held >= array.nbytes
    del array
    backend.release_memory()
    assert backend.held_memory() <= held - 2**25
