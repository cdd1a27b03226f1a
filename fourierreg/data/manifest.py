"""Lists of pairs: manifests, scans in folders, splits by subject.

A manifest is a CSV or TSV table with the columns ``source,target`` and, optional, those of `Pair`;
paths are relative to the manifest's folder unless they are absolute. Subjects, not scans, are
split: scans of one person never stand on both sides, and a pair never crosses a split.
"""

import csv
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fourierreg import checks
from fourierreg.atomic import replacing
from fourierreg.errors import InputError

SPLITS = ("train", "validation", "test")
FRACTIONS = (0.70, 0.15, 0.15)
ENDINGS = (".nii.gz", ".nii")
LABEL_SUFFIXES = ("_dseg", "_labels", "_label", "_glm")


class Pair(NamedTuple):
    """A row of a manifest; what is not known is an empty string."""

    source: str
    target: str
    source_labels: str = ""
    target_labels: str = ""
    source_subject: str = ""
    target_subject: str = ""
    session: str = ""
    split: str = ""


class Scan(NamedTuple):
    """An image of a subject, and its labels where there are some (paths)."""

    subject: str
    session: str
    image: str
    labels: str = ""


def read_pairs(path):
    """Pairs of a manifest, checked by `check_pairs`; paths made absolute.

    Other columns are left alone: the table that `label` or `simulate` writes is a manifest too.

    Raises
    ------
    InputError
        No such table, columns missing, an empty path, or splits that leak.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"pairs: no file {path}; check the path")
    delimiter = _delimiter(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=delimiter)
            columns, rows = reader.fieldnames or [], list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"pairs: {path} is no CSV or TSV table ({error})") from error
    missing = [name for name in ("source", "target") if name not in columns]
    if missing:
        raise InputError(
            f"pairs: {path} has no column {' or '.join(missing)}; expected a header with "
            f"{','.join(Pair._fields)} (the first two at least)"
        )
    if not rows:
        raise InputError(f"pairs: {path} has no pairs below its header")
    pairs = []
    for number, row in enumerate(rows, start=2):
        values = {name: (row.get(name) or "").strip() for name in Pair._fields}
        if not (values["source"] and values["target"]):
            raise InputError(f"pairs: line {number} of {path} has no source or no target")
        if bool(values["source_labels"]) != bool(values["target_labels"]):
            raise InputError(
                f"pairs: line {number} of {path} has labels for one image only; give both or none"
            )
        pairs.append(absolute(Pair(**values), path.parent))
    check_pairs(pairs)
    return pairs


def absolute(pair, folder="."):
    """The same pair with paths that do not depend on where they are read."""
    files = [str((Path(folder) / name).resolve()) if name else "" for name in pair[:4]]
    return Pair(*files, *pair[4:])


def write_pairs(path, pairs):
    """Write a manifest, all or nothing; paths relative to its folder where they lie below it."""
    path = Path(path)
    folder = path.parent.resolve()
    delimiter = _delimiter(path)
    with replacing(path) as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(Pair._fields)
        for pair in pairs:
            writer.writerow([*(_relative(name, folder) for name in pair[:4]), *pair[4:]])


def _delimiter(path):
    return "\t" if path.suffix.lower() in (".tsv", ".txt") else ","


def _relative(name, folder):
    if not name:
        return name
    full = Path(os.path.abspath(name))
    return str(full.relative_to(folder)) if full.is_relative_to(folder) else str(full)


def check_pairs(pairs):
    """Refuse a pair given twice, and splits that leak.

    No subject, and no image, may stand in two splits; a pair with a split belongs to it whole.

    Raises
    ------
    InputError
    """
    seen, entries = set(), []
    for pair in pairs:
        key = pair.source, pair.target
        if key in seen:
            raise InputError(f"pairs: {pair.source} to {pair.target} is listed twice; keep one")
        seen.add(key)
        if pair.split and pair.split not in SPLITS:
            raise InputError(
                f"pairs: expected a split of {', '.join(SPLITS)} or none; got {pair.split!r}"
            )
        things = [("image", pair.source), ("image", pair.target)]
        things += [("subject", s) for s in (pair.source_subject, pair.target_subject) if s]
        entries.append((pair.split, things))
    check_leaks("pairs", entries)


def check_leaks(argument, entries):
    """Refuse anything that stands in two splits.

    Parameters
    ----------
    argument : str
        What to name in the error.
    entries : iterable of (split, list of (kind, name))

    Raises
    ------
    InputError
    """
    homes = {}
    for split, things in entries:
        for kind, name in things:
            home = homes.setdefault((kind, name), split)
            if home != split:
                raise InputError(
                    f"{argument}: {kind} {name} stands in the splits {home or '(none)'!r} and "
                    f"{split or '(none)'!r}; a network would be tested on what it has seen: "
                    "split by subject (fourierreg pairs)"
                )


def find_scans(folder):
    """Scans below a folder, BIDS-like, in order.

    A subject is the ``sub-`` entity of a file's name, else the name up to its first underscore; a
    session the ``ses-`` entity. Labels end in ``_dseg``, ``_labels``, ``_label`` or ``_glm``
    before the ending, and belong to the image of the same subject and session, in whatever folder.
    Hidden files are left out.

    Returns
    -------
    list of Scan

    Raises
    ------
    InputError
        No images, or two images of one subject and session.
    """
    folder = Path(os.path.abspath(folder))
    if not folder.is_dir():
        raise InputError(f"folder: no folder {folder}; check the path")
    images, labels = {}, {}
    scans = (p for p in folder.rglob("*") if p.name.endswith(ENDINGS))
    for path in sorted(p for p in scans if not _hidden(p.relative_to(folder))):
        stem = re.sub(r"\.nii(\.gz)?$", "", path.name)
        is_labels = stem.endswith(LABEL_SUFFIXES)
        key = _entity("sub", stem) or stem.split("_")[0], _entity("ses", stem) or ""
        found = labels if is_labels else images
        if key in found:
            who = " ".join(filter(None, key))
            raise InputError(
                f"folder: {found[key]} and {path} both belong to {who}; keep one "
                f"{'label map' if is_labels else 'image'} per subject and session in {folder}"
            )
        found[key] = path
    if not images:
        raise InputError(f"folder: no NIfTI images below {folder}; check the path")
    return [
        Scan(*key, str(image), str(labels.get(key, ""))) for key, image in sorted(images.items())
    ]


def _hidden(path):
    return any(part.startswith(".") for part in path.parts)


def _entity(name, stem):
    """Value of a BIDS entity (``sub-01`` -> "01"), or None."""
    found = re.search(rf"(?:^|_){name}-([A-Za-z0-9]+)", stem)
    return found.group(1) if found else None


def checked_fractions(fractions):
    """Three shares that sum to 1, of train, validation and test."""
    fractions = [float(f) for f in fractions]
    if len(fractions) != 3 or min(fractions) < 0 or not np.isclose(sum(fractions), 1):
        raise InputError(
            f"fractions: expected three numbers that sum to 1 (train, validation, test); "
            f"got {fractions}"
        )
    return fractions


def split_subjects(subjects, fractions=FRACTIONS, seed=0):
    """Split of every subject, at random: 70/15/15 % to train, validation and test.

    Every split that is not empty by `fractions` has two subjects at least, so that it has pairs.

    Parameters
    ----------
    subjects : iterable of str
    fractions : three floats that sum to 1
    seed : int

    Returns
    -------
    dict
        Subject to split.

    Raises
    ------
    ValueError
        Fractions that are none, or too few subjects.
    """
    names, fractions = sorted(set(subjects)), checked_fractions(fractions)
    counts = [max(2, round(len(names) * f)) if f > 0 else 0 for f in fractions]
    largest = int(np.argmax(fractions))
    counts[largest] = len(names) - (sum(counts) - counts[largest])
    if counts[largest] < 2:
        raise InputError(
            f"subjects: {len(names)} are too few for {sum(f > 0 for f in fractions)} splits of "
            "two at least; give more, or put all into one split (fractions 1 0 0)"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    bounds = np.cumsum(counts)
    split = np.searchsorted(bounds, np.arange(len(names)), side="right")
    return {names[i]: SPLITS[s] for i, s in zip(order, split, strict=True)}


def make_pairs(scans, splits=None, *, num_pairs=None, seed=0):
    """Ordered pairs of scans of different subjects, within a split.

    Parameters
    ----------
    scans : sequence of Scan
    splits : dict, optional
        Of `split_subjects`; all in none where left out.
    num_pairs : int, optional
        So many, spread over the splits by their scans, and over the scans evenly; all by default.
    seed : int

    Returns
    -------
    list of Pair
        Checked by `check_pairs`.
    """
    rng = np.random.default_rng(seed)
    groups = {}
    for scan in scans:
        groups.setdefault("" if splits is None else splits[scan.subject], []).append(scan)
    possible = {split: list(_evenly(group, rng)) for split, group in sorted(groups.items())}
    total = sum(map(len, possible.values()))
    wanted = {split: len(pairs) for split, pairs in possible.items()}
    if num_pairs is not None:
        checks.count("num_pairs", num_pairs)
        if num_pairs > total:
            raise InputError(
                f"num_pairs: expected at most {total}, which is all there are; got {num_pairs}"
            )
        wanted = _shares(num_pairs, {s: len(g) for s, g in groups.items()}, wanted)
    pairs = []
    for split in sorted(groups, key=lambda s: (*SPLITS, "").index(s)):
        for a, b in possible[split][: wanted[split]]:
            session = a.session if a.session == b.session else f"{a.session}-{b.session}"
            labels = (a.labels, b.labels) if a.labels and b.labels else ("", "")
            names = a.image, b.image, *labels, a.subject, b.subject
            pairs.append(Pair(*names, session, split))
    check_pairs(pairs)
    return pairs


def _shares(num_pairs, sizes, most):
    """How many pairs every split gives: by its scans, never more than it has."""
    wanted = dict.fromkeys(most, 0)
    for _ in range(num_pairs):
        open_ones = [s for s in most if wanted[s] < most[s]]
        neediest = min(open_ones, key=lambda s: ((wanted[s] + 1) / sizes[s], s))
        wanted[neediest] += 1
    return wanted


def _evenly(scans, rng):
    """Ordered pairs of scans of different subjects, at random; in any first few of them every scan
    stands about as often as any other."""
    n = len(scans)
    order = rng.permutation(n)
    for shift in 1 + rng.permutation(n - 1):
        for i in range(n):
            a, b = scans[order[i]], scans[order[(i + shift) % n]]
            if a.subject != b.subject:
                yield a, b
