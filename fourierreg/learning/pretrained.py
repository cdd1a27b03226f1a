"""Models by name or path, and what they were trained for."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import keras

from fourierreg.errors import InputError
from fourierreg.learning.card import read_card

MODELS = "models"


@dataclass(frozen=True)
class Model:
    """A network and its card.

    Attributes
    ----------
    network : keras.Model
    card : dict
        Grid, field of view, noise, range of α, scores, licence of the data.
    path : Path
    """

    network: keras.Model
    card: dict
    path: Path

    @property
    def shape(self):
        """The network's grid."""
        return tuple(self.card["grid"])

    @property
    def field_of_view(self):
        """mm along each axis."""
        pairs = zip(self.card["grid"], self.card["spacing_mm"], strict=True)
        return tuple(n * h for n, h in pairs)


def shipped_models():
    """Names of the models that come with this package, and their files."""
    folder = resources.files("fourierreg.learning") / MODELS
    if not folder.is_dir():
        return {}
    return {f.name.removesuffix(".keras"): f for f in folder.iterdir() if f.suffix == ".keras"}


def load_model(name_or_path):
    """A model of this package by name, or a ``.keras`` file of `fourierreg train`.

    Parameters
    ----------
    name_or_path : str or path
        One of `shipped_models`, or a path.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        No such model, or a file without a card.
    """
    known = shipped_models()
    path = Path(known.get(str(name_or_path), name_or_path))
    if not path.is_file():
        names = f", or one of {', '.join(sorted(known))}" if known else " (no model is shipped yet)"
        raise InputError(
            f"model: expected a .keras file of `fourierreg train`{names}; got {str(name_or_path)!r}"
        )
    card = read_card(path)
    try:
        network = keras.models.load_model(path, compile=False)
    except (ValueError, OSError, KeyError, TypeError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"model: Keras {keras.__version__} cannot load {path} ({text})") from error
    return Model(network, card, path)
