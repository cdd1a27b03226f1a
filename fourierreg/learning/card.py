"""What a network was trained on and how well it does: ``model_card.json`` inside its file."""

import json
import zipfile
from pathlib import Path

from fourierreg.atomic import temporary_path
from fourierreg.data.nifti import InputError

MEMBER, FORMAT = "model_card.json", 1


def save_with_card(model, path, card):
    """Write a ``.keras`` file with its card, all or nothing.

    Keras reads the file as any other; `read_card`, or ``unzip -p FILE model_card.json``, gives the
    card.
    """
    with temporary_path(path) as name:
        model.save(name)
        with zipfile.ZipFile(name, "a", zipfile.ZIP_DEFLATED) as archive:
            text = json.dumps({"format": FORMAT, **card}, indent=1, allow_nan=False)
            archive.writestr(MEMBER, text)


def read_card(path):
    """The card of a ``.keras`` file.

    Raises
    ------
    InputError
        No file, no Keras model, or one without a card.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"model: no file {path}; check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            card = json.loads(archive.read(MEMBER))
    except zipfile.BadZipFile as error:
        raise InputError(f"model: {path} is no .keras file ({error})") from error
    except KeyError as error:
        raise InputError(
            f"model: {path} has no {MEMBER}, so what it was trained for is unknown; give a model "
            "of `fourierreg train` (saving it again with Keras loses the card)"
        ) from error
    if card.pop("format") != FORMAT:
        raise InputError(f"model: {path} was written by another version; train it again")
    return card
