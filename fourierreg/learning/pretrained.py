"""Trained networks, loaded by name or path, with their model cards."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import keras

from fourierreg.errors import InputError
from fourierreg.learning.card import read_card
from fourierreg.learning.novelty import feature_network

MODELS = "models"


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network and its model card.

    Attributes
    ----------
    network : keras.Model
    card : dict
        Grid, field of view, noise, range of α, errors, and license of the data (``licence``).
    path : Path
    """

    network: keras.Model
    card: Mapping[str, Any]
    path: Path

    @property
    def shape(self) -> tuple[int, ...]:
        """Grid of the network."""
        return tuple(self.card["grid"])

    @functools.cached_property
    def with_features(self) -> keras.Model:
        """The network with two outputs, the features that `novelty` is of and its prediction."""
        return feature_network(self.network)

    @property
    def field_of_view(self) -> tuple[float, ...]:
        """Field of view along each axis, mm."""
        pairs = zip(self.card["grid"], self.card["spacing_mm"], strict=True)
        return tuple(n * h for n, h in pairs)


def shipped_models() -> dict[str, Path]:
    """Names and files of the networks that are part of the package."""
    folder = Path(str(resources.files("fourierreg.learning") / MODELS))
    return {path.stem: path for path in folder.glob("*.keras")}


def load_model(name_or_path: Path | str) -> TrainedNetwork:
    """Load a network of the package by name, or a ``.keras`` file of `train` by path.

    Parameters
    ----------
    name_or_path : str or path
        One of `shipped_models`, or the path of a file.

    Returns
    -------
    TrainedNetwork

    Raises
    ------
    InputError
        There is no such model, the file has no model card that this version can read, or Keras
        cannot load it.
    """
    known = shipped_models()
    path = Path(known.get(str(name_or_path), name_or_path))
    if not path.is_file():
        names = f", or one of {', '.join(sorted(known))}" if known else ""
        raise InputError(
            f"model: expected a .keras file of `fourierreg train`{names}; got {str(name_or_path)!r}"
        )
    card = read_card(path)
    try:
        network = keras.models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(
            f"model: Keras {keras.__version__} cannot load {path} ({text}); train it again"
        ) from error
    return TrainedNetwork(network, card, path)
