"""What a network was trained on and how well it does: ``model_card.json`` inside its file."""

import json
import shutil
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
        write_card(name, card)


def write_card(path, card):
    """Add a card to a ``.keras`` file that has none."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        text = json.dumps({"format": FORMAT, **card}, indent=1, allow_nan=False)
        archive.writestr(zipfile.ZipInfo(MEMBER, (1980, 1, 1, 0, 0, 0)), text)


def replace_card(path, card):
    """Give a file another card."""
    with temporary_path(path) as name:
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(name, "w") as new:
            for item in old.infolist():
                if item.filename != MEMBER:
                    with old.open(item) as source, new.open(item, "w") as target:
                        shutil.copyfileobj(source, target)
        write_card(name, card)


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
