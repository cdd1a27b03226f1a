"""Splits of subjects into training, validation and test sets.

Subjects, not scans, are split: all scans of a subject are in one split.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from fourierreg.errors import InputError

SPLITS = ("train", "validation", "test")
FRACTIONS = (0.70, 0.15, 0.15)


def check_leakage(argument: str, entries: Iterable[tuple[str, Iterable[tuple[str, str]]]]) -> None:
    """Refuse an image or a subject that is in two splits.

    Parameters
    ----------
    argument : str
        Argument named in the error.
    entries : iterable of (split, iterable of (kind, name))
        Images and subjects that each pair uses.

    Raises
    ------
    InputError
    """
    split_of: dict[tuple[str, str], str] = {}
    for split, items in entries:
        for kind, name in items:
            first = split_of.setdefault((kind, name), split)
            if first != split:
                raise InputError(
                    f"{argument}: {kind} {name} is in the splits {first or '(none)'!r} and "
                    f"{split or '(none)'!r}, so a network would be tested on its training data: "
                    "split by subject (fourierreg pairs)"
                )


def checked_fractions(fractions: Sequence[float]) -> list[float]:
    """Check that the fractions of training, validation and test sets sum to 1.

    Raises
    ------
    InputError
    """
    checked = [float(f) for f in fractions]
    if len(checked) != 3 or min(checked) < 0 or not np.isclose(sum(checked), 1):
        raise InputError(
            "fractions: expected three numbers that sum to 1 (train, validation, test); "
            f"got {checked}"
        )
    return checked


def split_subjects(
    subjects: Iterable[str], fractions: Sequence[float] = FRACTIONS, seed: int = 0
) -> dict[str, str]:
    """Assign subjects at random to training, validation and test sets.

    Every split with a nonzero fraction has at least two subjects, because a pair needs two.

    Parameters
    ----------
    subjects : iterable of str
        Duplicates are ignored.
    fractions : three floats that sum to 1
        Of training, validation and test set.
    seed : int

    Returns
    -------
    dict
        Split of each subject.

    Raises
    ------
    InputError
        Invalid fractions, or too few subjects.
    """
    names, fractions = sorted(set(subjects)), checked_fractions(fractions)
    counts = [max(2, round(len(names) * f)) if f > 0 else 0 for f in fractions]
    largest = int(np.argmax(fractions))
    counts[largest] = len(names) - (sum(counts) - counts[largest])
    if counts[largest] < 2:
        raise InputError(
            f"subjects: {len(names)} are too few for {sum(f > 0 for f in fractions)} splits of at "
            "least two subjects; give more, or use one split (--fractions 1 0 0)"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    bounds = np.cumsum(counts)
    split = np.searchsorted(bounds, np.arange(len(names)), side="right")
    return {names[i]: SPLITS[s] for i, s in zip(order, split, strict=True)}
