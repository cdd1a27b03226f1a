"""What all pairs of a data set are made with: written once, and held to from then on."""

import json

from fourierreg import __version__
from fourierreg.atomic import replacing
from fourierreg.errors import InputError

FORMAT = 1


def claim(path, parameters, argument):
    """Write a set's header, or see that the one there says the same.

    Parameters
    ----------
    path : Path
        Of the header.
    parameters : dict
        Plain data.
    argument : str
        What to call the folder in an error.

    Raises
    ------
    InputError
        The set there was made with other values.
    """
    if path.exists():
        found = json.loads(path.read_text())["parameters"]
        changed = sorted(key for key in parameters if found.get(key) != parameters[key])
        if changed:
            raise InputError(
                f"{argument}: {path.parent} holds what was made with other values of "
                f"{', '.join(changed)}; give another folder"
            )
        return
    with replacing(path) as file:
        header = {"format": FORMAT, "fourierreg": __version__, "parameters": parameters}
        json.dump(header, file, indent=2)
