"""Which label values make up which structure."""

import csv
from pathlib import Path

from fourierreg.errors import InputError

# The paper's nine, over the values of the Neuromorphometrics protocol (both hemispheres). "gyrus"
# is the superior frontal one; cortex is every cortical label, so it holds three of the others.
NEUROMORPHOMETRICS = {
    "cortex": tuple(range(100, 208)),
    "putamen": (57, 58),
    "cerebellum": (38, 39, 40, 41),
    "caudate": (36, 37),
    "gyrus": (190, 191),
    "brain stem": (35,),
    "precuneus": (168, 169),
    "cuneus": (114, 115),
    "hippocampus": (47, 48),
}
PROTOCOLS = {"neuromorphometrics": NEUROMORPHOMETRICS}


def structures_of(value):
    """Structures that a protocol's name or a table stands for.

    Parameters
    ----------
    value : {"neuromorphometrics"}, path of a CSV table with columns ``value,structure``, or dict

    Returns
    -------
    dict
        Name to a tuple of label values.

    Raises
    ------
    InputError
        No such protocol or table.
    """
    if isinstance(value, dict):
        return {str(name): tuple(int(v) for v in values) for name, values in value.items()}
    if str(value) in PROTOCOLS:
        return PROTOCOLS[str(value)]
    path = Path(value)
    if not path.is_file():
        raise InputError(
            f"structures: expected {', '.join(map(repr, PROTOCOLS))} or a CSV table with columns "
            f"value,structure; got {str(value)!r}"
        )
    found = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"value", "structure"} <= set(reader.fieldnames or ()):
            raise InputError(f"structures: {path} has no columns value,structure; add a header")
        for row in reader:
            try:
                found.setdefault(row["structure"], []).append(int(row["value"]))
            except ValueError as error:
                raise InputError(
                    f"structures: {path} has the value {row['value']!r}; expected an integer"
                ) from error
    return {name: tuple(values) for name, values in found.items()}
