"""Combination of data sets, and their training, validation and test splits.

A subject or a scan must not be in two splits. This module does not import Keras.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from fourierreg.data.splits import SPLITS, check_leakage, checked_fractions
from fourierreg.errors import InputError
from fourierreg.learning.examples import (
    Conditions,
    Dataset,
    Example,
    check_consistent,
    read_dataset,
)


def read_splits(
    datasets: Path | str | Iterable[Path | str], fractions: Sequence[float], seed: int
) -> tuple[dict[str, list[Example]], Conditions]:
    """Read data sets as training, validation and test examples.

    Parameters
    ----------
    datasets : path or iterable of paths
    fractions : (train, validation, test)
        Used if no pair has a split, which is allowed for bull-eye pairs only.
    seed : int
        Seed of that random split.

    Returns
    -------
    splits : dict
        Examples of each split.
    conditions : Conditions

    Raises
    ------
    InputError
        The data sets do not fit together (see `combine`), or a split other than the test split is
        missing.
    """
    folders = [datasets] if isinstance(datasets, str | Path) else datasets
    examples, conditions = combine(read_dataset(folder) for folder in folders)
    if not any(example.split for example in examples):
        if any(example.origin != "bullseye" for example in examples):
            raise InputError(
                "datasets: the pairs have no splits, and pairs of the same people may not be split "
                "at random; split by subject (fourierreg pairs, simulate --splits)"
            )
        examples = split_at_random(examples, fractions, seed)
    splits = {name: [e for e in examples if e.split == name] for name in SPLITS}
    for name in SPLITS[:2]:
        if not splits[name]:
            raise InputError(
                f"datasets: no pair in the split {name!r}; split by subject (fourierreg pairs) and "
                "label or simulate pairs of every split"
            )
    return splits, conditions


def combine(datasets: Iterable[Dataset]) -> tuple[list[Example], Conditions]:
    """Combine the examples of several data sets and check their splits.

    Raises
    ------
    InputError
        Grids or registration parameters differ; some α are of the marginal and some of the joint
        posterior; a subject or an image is in two splits.
    """
    datasets = list(datasets)
    first = datasets[0].conditions
    for dataset in datasets[1:]:
        check_consistent(first, dataset.conditions, "the folders")
    sigma = {str(s): s for dataset in datasets for s in dataset.conditions.sigma}
    labels = {label for dataset in datasets for label in dataset.conditions.labels}
    if {"marginal", "joint"} <= labels:
        raise InputError(
            "datasets: some α are of the marginal posterior and some of the joint one, which is "
            "biased upward; label all pairs with one"
        )
    examples = [example for dataset in datasets for example in dataset.examples]
    check_splits(examples)
    return examples, first._replace(
        sigma=tuple(sigma[key] for key in sorted(sigma)), labels=tuple(sorted(labels))
    )


def check_splits(examples: Sequence[Example]) -> None:
    """Refuse a subject or an image in two splits, and splits for some pairs only.

    Raises
    ------
    InputError
    """
    unassigned = sum(not example.split for example in examples)
    if 0 < unassigned < len(examples):
        raise InputError(
            f"datasets: {unassigned} of {len(examples)} pairs have no split while others do; give "
            "all of them one (fourierreg pairs, simulate --splits)"
        )
    check_leakage(
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


def split_at_random(
    examples: Sequence[Example], fractions: Sequence[float], seed: int
) -> list[Example]:
    """Assign independent examples (bull-eye pairs) to splits at random.

    Raises
    ------
    InputError
        `fractions` are not three numbers that sum to 1.
    """
    fractions = checked_fractions(fractions)
    order = np.random.default_rng(seed).permutation(len(examples))
    bounds = np.round(np.cumsum(fractions) * len(examples)).astype(int)
    assigned = list(examples)
    for rank, index in enumerate(order):
        split = SPLITS[int(np.searchsorted(bounds, rank, "right"))]
        assigned[index] = assigned[index]._replace(split=split)
    return assigned


def digest(splits: Mapping[str, Sequence[Example]]) -> str:
    """SHA-256 of the file names, α and splits of all pairs."""
    pairs = [
        [Path(e.source).name, Path(e.target).name, e.alpha, e.split]
        for examples in splits.values()
        for e in examples
    ]
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
