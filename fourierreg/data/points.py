"""Tables of points: CSV files with coordinates in mm, as ANTs reads and writes them."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fourierreg.atomic import atomic_write
from fourierreg.errors import InputError

# Columns of coordinates, and the signs that make them RAS.
SYSTEMS: dict[tuple[str, ...], tuple[float, ...]] = {
    ("x", "y", "z"): (-1.0, -1.0, 1.0),
    ("r", "a", "s"): (1.0, 1.0, 1.0),
}


@dataclass(frozen=True)
class PointTable:
    """A table with coordinates and other columns, which are kept.

    Attributes
    ----------
    ras : array, (n, 3)
        Coordinates, RAS in mm.
    columns : list of str
    rows : list of dict
    axes : tuple of three str
        The columns of the coordinates, as the file names them.
    """

    ras: np.ndarray
    columns: list[str]
    rows: list[dict[str, str]]
    axes: tuple[str, ...]

    def moved(self, ras: np.ndarray) -> "PointTable":
        """The same table with other coordinates."""
        return replace(self, ras=ras)


def read_points(path: Path | str) -> PointTable:
    """Read a CSV file with a header that has columns x, y, z (LPS) or r, a, s (RAS), in mm.

    Raises
    ------
    InputError
        There is no such file, no such columns, or a coordinate is not a number.
    """
    if not Path(path).is_file():
        raise InputError(f"--points: no file {path}; check the path")
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = [name.strip() for name in reader.fieldnames or []]
        rows = [dict(zip(columns, row.values(), strict=False)) for row in reader]
    named = {name.lower(): name for name in columns}
    systems = [system for system in SYSTEMS if set(system) <= set(named)]
    if len(systems) != 1:
        raise InputError(
            f"--points: {path} has the columns {', '.join(columns) or 'none'}; expected a header "
            "with x,y,z (LPS in mm, as ANTs has them) or r,a,s (RAS in mm)"
        )
    axes = tuple(named[letter] for letter in systems[0])
    try:
        values = np.array([[float(row[name]) for name in axes] for row in rows]).reshape(-1, 3)
    except (TypeError, ValueError) as error:
        raise InputError(f"--points: a coordinate in {path} is not a number ({error})") from error
    if not np.all(np.isfinite(values)):
        raise InputError(f"--points: a coordinate in {path} is not finite")
    return PointTable(values * SYSTEMS[systems[0]], columns, rows, axes)


def write_points(table: PointTable, path: Path | str) -> None:
    """Write a table in the system of coordinates that it was read in."""
    signs = SYSTEMS[tuple(name.lower() for name in table.axes)]
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, table.columns, lineterminator="\n")
        writer.writeheader()
        for row, point in zip(table.rows, table.ras * signs, strict=True):
            coordinates = (f"{value:.6g}" if value else "0" for value in point)
            writer.writerow({**row, **dict(zip(table.axes, coordinates, strict=True))})
