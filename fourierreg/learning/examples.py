"""What a network learns from: pairs with their α, from label tables and from data sets.

Knows nothing of Keras. An `Example` says where a pair lies and what its α is; images are read when
they are asked for.
"""

import csv
import functools
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fourierreg.data import dataset, label_folder, simulated
from fourierreg.data.nifti import InputError, read_image, resized
from fourierreg.data.pairs import SPLITS, Pair, check_pairs
from fourierreg.image.geometry import Geometry, foreground_scale, resample_onto

CACHED = 64  # images kept in memory, 8 MB each at 128³
ORIGINS = ("labels", "simulated", "bullseye")


class Example(NamedTuple):
    """A pair and its α.

    `source` and `target` are paths of NIfTI images, or `source` alone that of a stored pair
    (``.npz``); `origin` is one of `ORIGINS`.
    """

    source: str
    target: str
    alpha: float
    split: str
    subjects: tuple
    origin: str


class Conditions(NamedTuple):
    """What all examples of a network have in common.

    `shape` and `spacing` are the network's own grid (mm; the field of view is their product);
    `sigma` lists the noise of the labels' images, "estimate" where it was estimated pair by pair;
    `labels` what their α is: the "marginal" or "joint" posterior's, or the "truth".
    """

    shape: tuple
    spacing: tuple
    modes: tuple
    velocity_scale: float
    reference_length: float
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
                raise InputError(f"DATASET: no pair in {folder} has an α that converged")
            return found
    raise InputError(
        f"DATASET: {folder} has none of {', '.join(readers)}; give the folder of `fourierreg "
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
    return Source(_examples(folder, rows, "labels"), _conditions(folder, rows, posterior, sigma))


def _simulated(folder):
    with (folder / simulated.MANIFEST).open(newline="") as file:
        rows = list(csv.DictReader(file))
    sigmas = {float(row["sigma"]) for row in rows}
    return Source(_examples(folder, rows, "simulated"), _conditions(folder, rows, "truth", *sigmas))


def _bullseye(folder):
    stored = dataset.PairDataset(folder)
    p = stored.parameters
    shape = tuple(p["shape"])
    examples = [
        Example(str(folder / row["file"]), "", row["alpha"], "", (), "bullseye")
        for row in stored.rows
    ]
    length = math.prod(shape) ** (1 / len(shape)) / 16
    conditions = Conditions(
        shape,
        (1.0,) * len(shape),
        (p["modes"],) * len(shape),
        p["velocity_scale"],
        length,
        (p["sigma"],),
        ("truth",),
    )
    return Source(examples, conditions)


def _examples(folder, rows, origin):
    made = []
    for row in rows:
        paths = [str((folder / row[name]).resolve()) for name in ("source", "target")]
        subjects = tuple(row[f"{name}_subject"] for name in ("source", "target"))
        made.append(Example(*paths, float(row["alpha"]), row["split"], subjects, origin))
    return made


def _conditions(folder, rows, labels, *sigma):
    columns = ("shape", "spacing_mm", "modes", "velocity_scale_mm", "reference_length_mm")
    found = sorted({tuple(row[name] for name in columns) for row in rows})
    if len(found) > 1:
        raise InputError(
            f"DATASET: the pairs in {folder} differ in shape, spacing, modes or velocity scale "
            f"({'; '.join(' '.join(f) for f in found)}); label them at one --size"
        )
    if not found:
        return None
    shape, spacing, modes, scale, length = found[0]
    return Conditions(
        tuple(map(int, shape.split("x"))),
        tuple(map(float, spacing.split("x"))),
        tuple(map(int, modes.split("x"))),
        float(scale),
        float(length),
        tuple(sigma),
        (labels,),
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
    for other in (s.conditions for s in sources[1:]):
        for name in ("shape", "spacing", "modes", "velocity_scale", "reference_length"):
            a, b = getattr(first, name), getattr(other, name)
            if len(np.atleast_1d(a)) != len(np.atleast_1d(b)) or not np.allclose(a, b, rtol=1e-3):
                raise InputError(
                    f"DATASET: the folders differ in {name.replace('_', ' ')} ({a} and {b}); a "
                    "network has one: label and simulate at the same --size and settings"
                )
    sigma = {str(s): s for source in sources for s in source.conditions.sigma}
    labels = {label for source in sources for label in source.conditions.labels}
    if {"marginal", "joint"} <= labels:
        raise InputError(
            "DATASET: some α are of the marginal posterior and some of the joint one, which is "
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
            f"DATASET: {homeless} of {len(examples)} pairs have no split while the others do; give "
            "all of them one (fourierreg pairs, simulate --splits)"
        )
    pairs = []
    for number, e in enumerate(examples):
        # Simulated pairs have images of their own; those of label tables share them.
        shared = e.origin == "labels"
        names = (e.source, e.target) if shared else (f"{e.source}#{number}", f"{e.target}#{number}")
        subjects = e.subjects or ("", "")
        pairs.append(
            Pair(*names, source_subject=subjects[0], target_subject=subjects[1], split=e.split)
        )
    check_pairs(pairs)


def split_at_random(examples, fractions, seed):
    """Examples without a split (bull-eyes, all independent) put into train, validation and test."""
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
        with np.load(example.source, allow_pickle=False) as archive:
            return archive["source"], archive["target"]
    return pair_on_grid(
        _sized(example.source, "source", max(shape)),
        _sized(example.target, "target", max(shape)),
        shape,
    )


@functools.lru_cache(maxsize=CACHED)
def _sized(path, name, size):
    """An image at a size: scans stand in many pairs."""
    return resized(read_image(path, name), size)


def pair_on_grid(source, target, shape):
    """Voxels of two nibabel images at a network's size, as they were labelled.

    Either is resampled so that its longest axis has as many voxels as that of `shape`, the source
    onto the target's grid where it has another, and divided by the 99.5th percentile of its
    foreground.
    """
    source, target = (resized(image, max(shape)) for image in (source, target))
    there, grid = Geometry.of(source), Geometry.of(target)
    data = [np.asarray(image.dataobj, dtype=np.float32) for image in (source, target)]
    if not there.matches(grid):
        data[0] = resample_onto(data[0], there, grid).astype(np.float32)
    return tuple(values / np.float32(foreground_scale(values)) for values in data)
