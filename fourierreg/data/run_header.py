"""Header file of a folder of results: the parameters that all its pairs share.

It is written by the first run; later runs into the folder must have the same parameters.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fourierreg import __version__
from fourierreg.atomic import atomic_write
from fourierreg.errors import InputError

FORMAT = 1


def ensure_header(path: Path, parameters: Mapping[str, Any], argument: str) -> None:
    """Write the header of a folder, or check that the existing one has the same parameters.

    Parameters
    ----------
    path : Path
        Path of the header file.
    parameters : dict
        JSON-serializable.
    argument : str
        Name of the argument that gave the folder, for an error.

    Raises
    ------
    InputError
        The existing header has other parameters.
    """
    if path.exists():
        found = json.loads(path.read_text())["parameters"]
        names = {*found, *parameters}
        changed = sorted(name for name in names if found.get(name) != parameters.get(name))
        if changed:
            raise InputError(
                f"{argument}: {path.parent} holds results made with other values of "
                f"{', '.join(changed)}; give another folder"
            )
        return
    with atomic_write(path) as file:
        header = {"format": FORMAT, "fourierreg": __version__, "parameters": parameters}
        json.dump(header, file, indent=2)
