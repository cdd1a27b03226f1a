"""What a network learns from: pairs with their α, from label tables and from data sets.

Knows nothing of Keras. An `Example` says where a pair lies and what its α is; images are read when
they are asked for.
"""

import csv
import functools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fourierreg.data.manifest import SPLITS, check_leaks, checked_fractions
from fourierreg.data.nifti import read_image, resized
from fourierreg.errors import InputError
from fourierreg.image.geometry import Geometry, foreground_scale, resample_onto
from fourierreg.labelling import folder as label_folder
from fourierreg.simulation import bullseye_folder as dataset
from fourierreg.simulation import folder as simulated
from fourierreg.spectral.operators import default_reference_length

NUMBERS = ("shape", "spacing", "modes", "velocity_scale", "reference_length", "power")
POWER, DYNAMICS = 3, "epdiff"  # of simulated pairs, and of labels where nothing else is said
CACHED = 64  # images kept in memory, 8 MB each at 128³


class Example(NamedTuple):
    """A pair and its α.

    `source` and `target` are paths of NIfTI images, or `source` alone that of a stored pair
    (``.npz``); `origin` is "labels", "simulated" or
    "bullseye"; `scans` are the images of persons it comes from.
    """

    source: str
    target: str
    alpha: float
    split: str
    subjects: tuple
    origin: str
    scans: tuple = ()


class Conditions(NamedTuple):
    """What all examples of a network have in common.

    `shape` and `spacing` are the network's own grid (mm; the field of view is their product);
    `power` and `dynamics` are those of `map_alpha`; `sigma` lists the noise of the labels' images,
    "estimate" where it was estimated pair by pair; `labels` what their α is: the "marginal" or
    "joint" posterior's, or the "truth".
    """

    shape: tuple
    spacing: tuple
    modes: tuple
    velocity_scale: float
    reference_length: float
    power: float
    dynamics: str
    sigma: tuple
    labels: tuple


class Source(NamedTuple):
    """The examples of one folder, and their conditions."""

    examples: list
    conditions: Conditions


def read_folder(folder):
    """Examples of a label run, of a set of simulated pairs, or of a bull-eye data set.

    Pairs that failed, did not converge or have no α are left out.

    Raises
    ------
    InputError
        The folder is none of these, or has no usable pair, or pairs of several grids or settings.
    """
    folder = Path(folder)
    readers = {
        label_folder.TABLE: _labels,
        simulated.MANIFEST: _simulated,
        dataset.MANIFEST: _bullseye,
    }
    for name, read in readers.items():
        if (folder / name).is_file():
            found = read(folder)
            if not found.examples:
                raise InputError(f"datasets: no pair in {folder} has an α that converged")
            return found
    raise InputError(
        f"datasets: {folder} has none of {', '.join(readers)}; give the folder of `fourierreg "
        "label` or `simulate`, or of make_bullseye_dataset"
    )


def _labels(folder):
    rows = [
        row
        for row in label_folder.read_table(folder)
        if row["state"] == label_folder.DONE and row["converged"] == "True"
    ]
    settings = json.loads((folder / label_folder.HEADER).read_text())["settings"]
    sigma = settings.get("sigma", "estimate")
    posterior = settings.get("posterior", "marginal")
    dynamics = settings.get("dynamics", DYNAMICS)
    found = _conditions(folder, rows, posterior, dynamics, sigma)
    return Source(_examples(folder, rows, "labels"), found)


def _simulated(folder):
    with (folder / simulated.MANIFEST).open(newline="") as file:
        rows = list(csv.DictReader(file))
    sigmas = {float(row["sigma"]) for row in rows}
    found = _conditions(folder, rows, "truth", DYNAMICS, *sigmas)
    return Source(_examples(folder, rows, "simulated"), found)


def _bullseye(folder):
    stored = dataset.PairDataset(folder)
    p = stored.parameters
    shape = tuple(p["shape"])
    examples = [
        Example(str(folder / row["file"]), "", row["alpha"], "", (), "bullseye")
        for row in stored.rows
    ]
    spacing = (1.0,) * len(shape)
    conditions = Conditions(
        shape,
        spacing,
        (p["modes"],) * len(shape),
        p["velocity_scale"],
        default_reference_length(shape, spacing),
        POWER,
        DYNAMICS,
        (p["sigma"],),
        ("truth",),
    )
    return Source(examples, conditions)


def _examples(folder, rows, origin):
    made = []
    for row in rows:
        paths = [str((folder / row[name]).resolve()) for name in ("source", "target")]
        subjects = tuple(row[f"{name}_subject"] for name in ("source", "target"))
        scans = paths if origin == "labels" else [str(Path(row["image"]).resolve())]
        made.append(
            Example(*paths, float(row["alpha"]), row["split"], subjects, origin, tuple(scans))
        )
    return made


def _conditions(folder, rows, labels, dynamics, *sigma):
    found = None
    for row in rows:
        one = Conditions(
            tuple(map(int, row["shape"].split("x"))),
            tuple(map(float, row["spacing_mm"].split("x"))),
            tuple(map(int, row["modes"].split("x"))),
            float(row["velocity_scale_mm"]),
            float(row["reference_length_mm"]),
            float(row.get("power", POWER)),
            dynamics,
            tuple(sigma),
            (labels,),
        )
        found = found or one
        _check_alike(found, one, f"the pairs in {folder}")
    return found


def _check_alike(first, other, who):
    for name in (*NUMBERS, "dynamics"):
        a, b = getattr(first, name), getattr(other, name)
        if name in NUMBERS:
            alike = np.size(a) == np.size(b) and np.allclose(a, b, rtol=1e-3)
        else:
            alike = a == b
        if not alike:
            raise InputError(
                f"datasets: {who} differ in {name.replace('_', ' ')} ({a} and {b}); a network has "
                "one: label and simulate at the same --size and settings"
            )


def combine(sources):
    """One list of examples from several folders, splits checked, and what they have in common.

    Raises
    ------
    InputError
        Their grids, modes or scales differ; a subject or an image stands in two splits.
    """
    sources = list(sources)
    first = sources[0].conditions
    for source in sources[1:]:
        _check_alike(first, source.conditions, "the folders")
    sigma = {str(s): s for source in sources for s in source.conditions.sigma}
    labels = {label for source in sources for label in source.conditions.labels}
    if {"marginal", "joint"} <= labels:
        raise InputError(
            "datasets: some α are of the marginal posterior and some of the joint one, which is "
            "biased upward; label all pairs with one"
        )
    examples = [e for source in sources for e in source.examples]
    check_splits(examples)
    return examples, first._replace(
        sigma=tuple(sigma[key] for key in sorted(sigma)), labels=tuple(sorted(labels))
    )


def check_splits(examples):
    """Refuse a subject or an image on both sides of a split, and splits for some pairs only.

    Raises
    ------
    InputError
    """
    homeless = sum(not example.split for example in examples)
    if 0 < homeless < len(examples):
        raise InputError(
            f"datasets: {homeless} of {len(examples)} pairs have no split while others do; give "
            "all of them one (fourierreg pairs, simulate --splits)"
        )
    check_leaks(
        "datasets",
        (
            (
                example.split,
                [("image", scan) for scan in example.scans]
                + [("subject", subject) for subject in example.subjects if subject],
            )
            for example in examples
        ),
    )


def split_at_random(examples, fractions, seed):
    """Examples without a split (bull-eyes, all independent) put into train, validation and test.

    Raises
    ------
    ValueError
        `fractions` are none.
    """
    fractions = checked_fractions(fractions)
    order = np.random.default_rng(seed).permutation(len(examples))
    bounds = np.round(np.cumsum(fractions) * len(examples)).astype(int)
    made = list(examples)
    for place, index in enumerate(order):
        made[index] = made[index]._replace(
            split=SPLITS[int(np.searchsorted(bounds, place, "right"))]
        )
    return made


def read_example(example, shape):
    """Source and target as a network takes them, (N_1, …, N_d), float32.

    Stored pairs are taken as they are, NIfTI images by `pair_on_grid`.
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
        _sized(example.source, "source", shape),
        _sized(example.target, "target", shape),
        shape,
    )


@functools.lru_cache(maxsize=CACHED)
def _sized(path, name, shape):
    """An image at a size: scans stand in many pairs."""
    return resized(read_image(path, name), shape)


def pair_on_grid(source, target, shape):
    """Voxels of two nibabel images at a network's size, as they were labelled.

    Either is resampled to `shape` over its own field of view, the source onto the target's grid
    where it has another, and divided by the 99.5th percentile of its foreground.
    """
    source, target = (resized(image, shape) for image in (source, target))
    there, grid = Geometry.of(source), Geometry.of(target)
    data = [np.asarray(image.dataobj, dtype=np.float32) for image in (source, target)]
    if not there.matches(grid):
        data[0] = resample_onto(data[0], there, grid).astype(np.float32)
    return tuple(values / np.float32(foreground_scale(values)) for values in data)
