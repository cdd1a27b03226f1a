"""Examples for training: pairs of images with their α, from label runs and simulated data sets.

This module does not import Keras. An `Example` holds file paths; images are read by
`read_example`.
"""

import csv
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fourierreg.data.nifti import read_image, resized
from fourierreg.errors import InputError
from fourierreg.image.foreground import foreground_scale
from fourierreg.image.geometry import Geometry, resample_onto
from fourierreg.labelling import folder as label_folder
from fourierreg.simulation import bullseye_folder
from fourierreg.simulation import folder as simulation_folder
from fourierreg.spectral.operators import default_reference_length

NUMERIC_FIELDS = ("shape", "spacing", "modes", "velocity_scale", "reference_length", "power")
POWER, DYNAMICS = 3, "epdiff"  # of simulated pairs, and of label runs that do not record them
CACHED_IMAGES = 64  # 8 MB each at 128³


class Example(NamedTuple):
    """A pair of images and its α.

    Attributes
    ----------
    source, target : str
        Paths of NIfTI images. A stored bull-eye pair is one ``.npz`` file: its path is `source`,
        and `target` is empty.
    alpha : float
    split : str
        "train", "validation" or "test"; empty if not assigned.
    subjects : tuple of str
        Subjects of source and target; empty for bull-eye pairs.
    origin : {"labels", "simulated", "bullseye"}
        Kind of data set.
    scans : tuple of str
        Paths of the scans from which the pair is made.
    """

    source: str
    target: str
    alpha: float
    split: str
    subjects: tuple[str, ...]
    origin: str
    scans: tuple[str, ...] = ()


class Conditions(NamedTuple):
    """Grid and registration parameters that all examples of a network share.

    Attributes
    ----------
    shape, spacing : tuple
        Grid of the network, mm per voxel; their product is the field of view.
    modes, velocity_scale, reference_length, power, dynamics
        As in `map_alpha`.
    sigma : tuple of float or str
        Noise levels of the data sets; "estimate" if it was estimated for each pair.
    labels : tuple of str
        What α is: the mode of the "marginal" or "joint" posterior, or the "truth".
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    modes: tuple[int, ...]
    velocity_scale: float
    reference_length: float
    power: float
    dynamics: str
    sigma: tuple[float | str, ...]
    labels: tuple[str, ...]


class Dataset(NamedTuple):
    """Examples of one folder and their conditions."""

    examples: list[Example]
    conditions: Conditions


def read_dataset(folder: Path | str) -> Dataset:
    """Read the examples of a label run, of simulated pairs, or of a bull-eye data set.

    Pairs that failed or whose α did not converge are left out.

    Raises
    ------
    InputError
        The folder is none of these, has no usable pair, or has pairs of several grids or
        registration parameters.
    """
    folder = Path(folder)
    readers = {
        label_folder.TABLE: _read_label_run,
        simulation_folder.MANIFEST: _read_simulated,
        bullseye_folder.MANIFEST: _read_bullseyes,
    }
    for name, read in readers.items():
        if (folder / name).is_file():
            return read(folder)
    raise InputError(
        f"datasets: {folder} has none of {', '.join(readers)}; give the folder of `fourierreg "
        "label` or `simulate`, or of make_bullseye_dataset"
    )


def _read_label_run(folder: Path) -> Dataset:
    rows = [
        row
        for row in label_folder.read_table(folder)
        if row["state"] == label_folder.DONE and row["converged"] == "True"
    ]
    settings = json.loads((folder / label_folder.HEADER).read_text())["settings"]
    model = {"dynamics": DYNAMICS, **settings, **settings.get("model", {})}  # without defaults
    conditions = _common_conditions(
        folder,
        rows,
        labels=settings.get("posterior", "marginal"),
        dynamics=model["dynamics"],
        sigma=(settings.get("sigma", "estimate"),),
    )
    return Dataset(_examples(folder, rows, "labels"), conditions)


def _read_simulated(folder: Path) -> Dataset:
    with (folder / simulation_folder.MANIFEST).open(newline="") as file:
        rows = list(csv.DictReader(file))
    conditions = _common_conditions(
        folder,
        rows,
        labels="truth",
        dynamics=DYNAMICS,
        sigma=tuple({float(row["sigma"]) for row in rows}),
    )
    return Dataset(_examples(folder, rows, "simulated"), conditions)


def _read_bullseyes(folder: Path) -> Dataset:
    stored = bullseye_folder.PairDataset(folder)
    _check_not_empty(folder, stored.rows)
    parameters = stored.parameters
    shape = tuple(parameters["shape"])
    spacing = (1.0,) * len(shape)
    examples = [
        Example(str(folder / row["file"]), "", row["alpha"], "", (), "bullseye")
        for row in stored.rows
    ]
    conditions = Conditions(
        shape,
        spacing,
        (parameters["modes"],) * len(shape),
        parameters["velocity_scale"],
        default_reference_length(shape, spacing),
        POWER,
        DYNAMICS,
        (parameters["sigma"],),
        ("truth",),
    )
    return Dataset(examples, conditions)


def _examples(folder: Path, rows: Sequence[Mapping[str, str]], origin: str) -> list[Example]:
    examples = []
    for row in rows:
        source, target = (str((folder / row[name]).resolve()) for name in ("source", "target"))
        scans = (source, target) if origin == "labels" else (str(Path(row["image"]).resolve()),)
        subjects = row["source_subject"], row["target_subject"]
        examples.append(
            Example(source, target, float(row["alpha"]), row["split"], subjects, origin, scans)
        )
    return examples


def _common_conditions(
    folder: Path,
    rows: Sequence[Mapping[str, str]],
    *,
    labels: str,
    dynamics: str,
    sigma: tuple[float | str, ...],
) -> Conditions:
    """Conditions of the pairs in a folder, which must all agree."""
    _check_not_empty(folder, rows)
    found = [
        Conditions(
            tuple(map(int, row["shape"].split("x"))),
            tuple(map(float, row["spacing_mm"].split("x"))),
            tuple(map(int, row["modes"].split("x"))),
            float(row["velocity_scale_mm"]),
            float(row["reference_length_mm"]),
            float(row.get("power", POWER)),
            dynamics,
            sigma,
            (labels,),
        )
        for row in rows
    ]
    for conditions in found:
        check_consistent(found[0], conditions, f"the pairs in {folder}")
    return found[0]


def _check_not_empty(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        raise InputError(
            f"datasets: no pair in {folder} has an α that converged; label more pairs, or leave "
            "this folder out"
        )


def check_consistent(first: Conditions, other: Conditions, who: str) -> None:
    """Check that two sets of conditions have the same grid and registration parameters.

    Raises
    ------
    InputError
        They differ; the error names `who` and the first field that does.
    """
    for name in (*NUMERIC_FIELDS, "dynamics"):
        a, b = getattr(first, name), getattr(other, name)
        if name in NUMERIC_FIELDS:
            same = np.size(a) == np.size(b) and np.allclose(a, b, rtol=1e-3)
        else:
            same = a == b
        if not same:
            raise InputError(
                f"datasets: {who} differ in {name.replace('_', ' ')} ({a} and {b}), but a network "
                "has one value: label and simulate at the same --size and settings"
            )


def read_example(example: Example, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Source and target of an example as input of a network, (N_1, …, N_d), float32.

    Stored bull-eye pairs are returned as they are; NIfTI images go through `pair_on_grid`.

    Raises
    ------
    InputError
        A file cannot be read.
    """
    if example.origin == "bullseye":
        try:
            with np.load(example.source, allow_pickle=False) as archive:
                return archive["source"], archive["target"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"datasets: {example.source} cannot be read ({error}); make the data set again"
            ) from error
    return pair_on_grid(
        _read_resized(example.source, "source", shape),
        _read_resized(example.target, "target", shape),
        shape,
    )


@functools.lru_cache(maxsize=CACHED_IMAGES)
def _read_resized(path: str, name: str, shape: tuple[int, ...]) -> Any:
    """An image at the size of the network; cached, because a scan is in many pairs."""
    return resized(read_image(path, name), shape)


def pair_on_grid(source: Any, target: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Resample and normalize two nibabel images for a network.

    Each image is resampled to `shape` over its own field of view, the source then onto the grid of
    the target if theirs differ, and divided by the 99.5th percentile of its foreground. Pairs are
    labeled after the same steps.

    Parameters
    ----------
    source, target : nibabel images
    shape : tuple of int

    Returns
    -------
    source, target : arrays, `shape`, float32
    """
    source, target = (resized(image, shape) for image in (source, target))
    source_grid, target_grid = Geometry.of(source), Geometry.of(target)
    moving, fixed = (np.asarray(image.dataobj, dtype=np.float32) for image in (source, target))
    if not source_grid.matches(target_grid):
        moving = resample_onto(moving, source_grid, target_grid).astype(np.float32)
    return _normalized(moving), _normalized(fixed)


def _normalized(values: np.ndarray) -> np.ndarray:
    return values / np.float32(foreground_scale(values))
