"""Pairing of scans of different subjects."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fourierreg import checks
from fourierreg.data.manifest import Pair, check_pairs
from fourierreg.data.scans import Scan
from fourierreg.data.splits import SPLITS
from fourierreg.errors import InputError


def make_pairs(
    scans: Sequence[Scan],
    splits: Mapping[str, str] | None = None,
    *,
    num_pairs: int | None = None,
    seed: int = 0,
) -> list[Pair]:
    """Make ordered pairs of scans of different subjects, both in the same split.

    Parameters
    ----------
    scans : sequence of Scan
    splits : dict, optional
        Split of each subject, as from `split_subjects`. By default pairs have no split.
    num_pairs : int, optional
        Number of pairs, distributed over the splits in proportion to their scans, and evenly over
        the scans of a split. By default all possible pairs.
    seed : int

    Returns
    -------
    list of Pair
        Validated by `check_pairs`.

    Raises
    ------
    InputError
        `num_pairs` exceeds the number of possible pairs.
    """
    rng = np.random.default_rng(seed)
    groups: dict[str, list[Scan]] = {}
    for scan in scans:
        groups.setdefault("" if splits is None else splits[scan.subject], []).append(scan)
    possible = {split: list(_balanced(group, rng)) for split, group in sorted(groups.items())}
    counts = {split: len(pairs) for split, pairs in possible.items()}
    if num_pairs is not None:
        checks.count("num_pairs", num_pairs)
        total = sum(counts.values())
        if num_pairs > total:
            raise InputError(
                f"num_pairs: expected at most {total}, the number of possible pairs; "
                f"got {num_pairs}"
            )
        counts = _apportion(num_pairs, {s: len(g) for s, g in groups.items()}, counts)
    pairs = [
        _pair(first, second, split)
        for split in sorted(groups, key=lambda s: (*SPLITS, "").index(s))
        for first, second in possible[split][: counts[split]]
    ]
    check_pairs(pairs)
    return pairs


def _pair(source: Scan, target: Scan, split: str) -> Pair:
    """Manifest row of two scans; labels are given only if both have them."""
    same_session = source.session == target.session
    session = source.session if same_session else f"{source.session}-{target.session}"
    labels = (source.labels, target.labels) if source.labels and target.labels else ("", "")
    names = source.image, target.image, *labels, source.subject, target.subject
    return Pair(*names, session, split)


def _apportion(
    num_pairs: int, sizes: Mapping[str, int], limits: Mapping[str, int]
) -> dict[str, int]:
    """Number of pairs of each split, in proportion to its size and at most its limit."""
    counts = dict.fromkeys(limits, 0)
    for _ in range(num_pairs):
        unfilled = [s for s in limits if counts[s] < limits[s]]
        neediest = min(unfilled, key=lambda s: ((counts[s] + 1) / sizes[s], s))
        counts[neediest] += 1
    return counts


def _balanced(scans: Sequence[Scan], rng: np.random.Generator) -> Iterator[tuple[Scan, Scan]]:
    """All ordered pairs of scans of different subjects, in random order.

    In any leading part of the sequence, every scan occurs about equally often.
    """
    n = len(scans)
    order = rng.permutation(n)
    for shift in 1 + rng.permutation(n - 1):
        for i in range(n):
            a, b = scans[order[i]], scans[order[(i + shift) % n]]
            if a.subject != b.subject:
                yield a, b
