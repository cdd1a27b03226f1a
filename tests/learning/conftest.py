"""Networks with random weights that predict α ≈ 3."""

import numpy as np
import pytest

from fourierreg.learning.card import save_with_card
from fourierreg.learning.network import build_network
from tests.learning.data import GRID, card


@pytest.fixture(scope="session")
def brain_model(tmp_path_factory):
    """File of a network for small 3D images."""
    path = tmp_path_factory.mktemp("brain") / "small.keras"
    save_with_card(build_network(GRID, filters=2, mean=np.log(3.0), scale=0.05), path, card())
    return path


@pytest.fixture(scope="session")
def bullseye_model(tmp_path_factory):
    """File of a network for bull-eye images."""
    path = tmp_path_factory.mktemp("bullseye") / "bullseye.keras"
    network = build_network((24, 24), filters=2, mean=np.log(3.0), scale=0.05)
    changes = {"velocity_scale_mm": 0.3, "reference_length_mm": 1.5, "sigma": [0.02]}
    save_with_card(network, path, card((24, 24), (1.0, 1.0), **changes))
    return path
