"""Anatomical structures: the label values that each consists of."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fourierreg.errors import InputError

Structures = Mapping[str, tuple[int, ...]]

# The paper's nine structures in values of the Neuromorphometrics protocol (both hemispheres).
# "gyrus" is the superior frontal gyrus; "cortex" has every cortical label, including those of
# gyrus, precuneus and cuneus.
NEUROMORPHOMETRICS: Structures = {
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


def resolve_structures(value: Mapping[Any, Any] | Path | str) -> Structures:
    """Structures given by the name of a protocol, a CSV table or a dict.

    Parameters
    ----------
    value : {"neuromorphometrics"}, path of a CSV table with columns ``value,structure``, or dict

    Returns
    -------
    dict
        Tuple of label values of each structure.

    Raises
    ------
    InputError
        There is no such protocol or file, or the table is invalid.
    """
    if isinstance(value, Mapping):
        return {str(name): tuple(int(v) for v in values) for name, values in value.items()}
    if str(value) in PROTOCOLS:
        return PROTOCOLS[str(value)]
    path = Path(value)
    if not path.is_file():
        raise InputError(
            f"structures: expected {', '.join(map(repr, PROTOCOLS))} or a CSV table with columns "
            f"value,structure; got {str(value)!r}"
        )
    found: dict[str, list[int]] = {}
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
