"""Files of points in scanner space: tables, surfaces, streamlines.

A table is a CSV file with coordinates in mm, as ANTs reads and writes them. Everything in a file
but the coordinates is kept.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from fourierreg.atomic import atomic_write, temporary_path
from fourierreg.errors import InputError

# Columns of coordinates, and the signs that make them RAS.
SYSTEMS: dict[tuple[str, ...], tuple[float, ...]] = {
    ("x", "y", "z"): (-1.0, -1.0, 1.0),
    ("r", "a", "s"): (1.0, 1.0, 1.0),
}
STREAMLINES = (".trk", ".tck")
FREESURFER = (".white", ".pial", ".inflated", ".orig", ".smoothwm", ".sphere")
KINDS = f".csv, {', '.join(STREAMLINES)}, .surf.gii, or a surface of FreeSurfer"


@dataclass(frozen=True)
class Points:
    """Points of a file.

    Attributes
    ----------
    ras : array, (n, 3)
        Coordinates, RAS in mm.
    write : callable
        write(path, ras): the same file with other coordinates, all or nothing.
    suffix : str
        End of the names of such files.
    """

    ras: np.ndarray
    write: Callable[[Path, np.ndarray], None]
    suffix: str


def read_points(path: Path | str) -> Points:
    """Read the points of a table, a surface or streamlines, by the end of the name.

    Raises
    ------
    InputError
        There is no such file, it is of another kind, or it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"--points: no file {path}; check the path")
    read = _reader(path)
    try:
        points = read(path)
    except InputError:
        raise
    except Exception as error:  # of the readers of nibabel, each with exceptions of its own
        raise InputError(f"--points: {path} cannot be read ({error}); check the file") from error
    if not np.all(np.isfinite(points.ras)):
        raise InputError(f"--points: a coordinate in {path} is not finite; repair the file")
    return points


def _reader(path: Path) -> Callable[[Path], Points]:
    """The function that reads files of a kind."""
    readers: dict[tuple[str, ...], Callable[[Path], Points]] = {
        (".csv",): _read_table,
        STREAMLINES: _read_streamlines,
        (".gii",): _read_gifti,
        FREESURFER: _read_freesurfer,
    }
    for suffixes, read in readers.items():
        if path.name.lower().endswith(suffixes):
            return read
    raise InputError(f"--points: expected one of {KINDS}; got {path}")


def _read_table(path: Path) -> Points:
    """A CSV file with a header that has columns x, y, z (LPS) or r, a, s (RAS), in mm."""
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
    axes, signs = [named[letter] for letter in systems[0]], np.array(SYSTEMS[systems[0]])
    try:
        values = np.array([[float(row[name]) for name in axes] for row in rows]).reshape(-1, 3)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"--points: a coordinate in {path} is not a number ({error}); repair the file"
        ) from error

    def write(path: Path, ras: np.ndarray) -> None:
        with atomic_write(path) as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            for row, point in zip(rows, ras * signs, strict=True):
                coordinates = (f"{value + 0.0:.6g}" for value in point)  # no -0
                writer.writerow({**row, **dict(zip(axes, coordinates, strict=True))})

    return Points(values * signs, write, ".csv")


def _read_streamlines(path: Path) -> Points:
    """Streamlines of TrackVis or MRtrix, with what they carry."""
    tracts: Any = nib.streamlines.load(path)
    tractogram = tracts.tractogram.to_world()
    lines = tractogram.streamlines

    def write(path: Path, ras: np.ndarray) -> None:
        ends = np.cumsum([len(line) for line in lines])[:-1]
        moved = nib.streamlines.Tractogram(
            np.split(ras.astype(np.float32), ends) if len(lines) else [],
            tractogram.data_per_streamline,
            tractogram.data_per_point,
            affine_to_rasmm=np.eye(4),
        )
        with temporary_path(path) as name:
            nib.streamlines.save(type(tracts)(moved, header=tracts.header), str(name))

    stacked = np.concatenate(list(lines)) if len(lines) else np.zeros((0, 3))
    return Points(stacked.astype(float), write, path.suffix.lower())


def _read_gifti(path: Path) -> Points:
    """The coordinates of a surface in GIFTI."""
    image: Any = nib.load(path)
    arrays = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
    if len(arrays) != 1:
        raise InputError(
            f"--points: {path} has no coordinates of a surface; give the .surf.gii, not its data"
        )
    original = np.asarray(arrays[0].data)

    def write(path: Path, ras: np.ndarray) -> None:
        arrays[0].data = ras.astype(original.dtype)
        try:
            with temporary_path(path) as name:
                nib.save(image, name)
        finally:
            arrays[0].data = original

    return Points(original.astype(float), write, ".gii")


def _read_freesurfer(path: Path) -> Points:
    """A surface of FreeSurfer, whose coordinates are relative to the center of its volume."""
    coordinates, faces, metadata, stamp = nib.freesurfer.read_geometry(
        path, read_metadata=True, read_stamp=True
    )
    center = np.asarray(metadata.get("cras", (0.0, 0.0, 0.0)), dtype=float)
    if "cras" not in metadata:
        raise InputError(
            f"--points: {path} does not say where its volume is (no cras); convert it first "
            "(mris_convert --to-scanner SURFACE SURFACE.surf.gii)"
        )

    def write(path: Path, ras: np.ndarray) -> None:
        with temporary_path(path) as name:
            nib.freesurfer.write_geometry(name, ras - center, faces, stamp, metadata)

    return Points(coordinates + center, write, path.suffix.lower())
