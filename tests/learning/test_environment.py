"""GPU memory shared by CuPy and Keras, as far as it can be tested without a GPU."""

import os
import subprocess
import sys

import pytest

from fourierreg import backend
from fourierreg.learning import training
from fourierreg.learning.environment import ON_DEMAND
from fourierreg.learning.training import train
from tests.learning import data


@pytest.mark.parametrize("user_value", [None, "mine"])
def test_memory_growth_is_set_before_keras_is_imported_unless_the_user_set_it(user_value):
    program = (
        "import os, sys\n"
        "class Spy:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == 'keras': print([os.environ.get(n) for n in {list(ON_DEMAND)}])\n"
        "sys.meta_path.insert(0, Spy())\n"
        "import fourierreg.learning"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ON_DEMAND}
    if user_value is not None:
        environment |= dict.fromkeys(ON_DEMAND, user_value)
    output = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    expected = list(ON_DEMAND.values()) if user_value is None else [user_value] * len(ON_DEMAND)
    assert output.splitlines()[0] == str(expected)


def test_training_frees_the_memory_pools_of_cupy_before_the_network_is_built(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(training, "release_memory", lambda: order.append("released"))
    build = training.build_network
    monkeypatch.setattr(
        training, "build_network", lambda *a, **k: order.append("built") or build(*a, **k)
    )
    train(data.bullseyes(tmp_path / "set", 8), tmp_path / "m.keras", filters=2, epochs=1)
    assert order[:2] == ["released", "built"]


@pytest.mark.gpu
def test_release_memory_frees_unused_blocks_of_the_pools():
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
