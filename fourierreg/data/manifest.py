"""Manifests: tables of image pairs.

A manifest is a CSV or TSV file with the columns ``source`` and ``target``, and optionally the other
fields of `Pair`. Paths are relative to the folder of the manifest, or absolute.
"""

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from fourierreg.atomic import atomic_write
from fourierreg.data.splits import SPLITS, check_leakage
from fourierreg.errors import InputError


class Pair(NamedTuple):
    """A row of a manifest: paths of both images and of their labels, subjects, session, split.

    Unknown values are empty strings.
    """

    source: str
    target: str
    source_labels: str = ""
    target_labels: str = ""
    source_subject: str = ""
    target_subject: str = ""
    session: str = ""
    split: str = ""


def read_pairs(path: Path | str) -> list[Pair]:
    """Read a manifest and validate it with `check_pairs`; paths are made absolute.

    Other columns are ignored, so tables written by `label_pairs` and `simulate_pairs` are manifests
    too.

    Parameters
    ----------
    path : path
        Of a CSV or TSV table.

    Raises
    ------
    InputError
        The file is missing or not a table, lacks columns or paths, or its splits leak.
    """
    path = Path(path)
    columns, rows = _read_rows(path)
    missing = [name for name in ("source", "target") if name not in columns]
    if missing:
        raise InputError(
            f"pairs: {path} has no column {' or '.join(missing)}; expected a header with "
            f"{','.join(Pair._fields)} (at least the first two)"
        )
    if not rows:
        raise InputError(f"pairs: {path} has no pairs below its header; add at least one")
    pairs = []
    for number, row in enumerate(rows, start=2):
        values = {name: (row.get(name) or "").strip() for name in Pair._fields}
        if not (values["source"] and values["target"]):
            raise InputError(
                f"pairs: line {number} of {path} has no source or no target; give both paths"
            )
        if bool(values["source_labels"]) != bool(values["target_labels"]):
            raise InputError(
                f"pairs: line {number} of {path} has labels for one image only; give both or none"
            )
        pairs.append(with_absolute_paths(Pair(**values), path.parent))
    check_pairs(pairs)
    return pairs


def _read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Column names and rows of a CSV or TSV file."""
    if not path.is_file():
        raise InputError(f"pairs: no file {path}; check the path")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=_delimiter(path))
            return list(reader.fieldnames or []), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"pairs: {path} is not a CSV or TSV table ({error})") from error


def with_absolute_paths(pair: Pair, folder: Path | str = ".") -> Pair:
    """Copy of a pair with absolute paths; its relative paths are resolved against `folder`."""
    paths = [str((Path(folder) / name).resolve()) if name else "" for name in pair[:4]]
    return pair._replace(**dict(zip(Pair._fields[:4], paths, strict=True)))


def write_pairs(path: Path | str, pairs: Iterable[Pair]) -> None:
    """Write a manifest atomically; paths below its folder are written relative to it.

    Parameters
    ----------
    path : path
        Of a CSV or TSV table, by its suffix.
    pairs : iterable of Pair
    """
    path = Path(path)
    folder = path.parent.resolve()
    delimiter = _delimiter(path)
    with atomic_write(path) as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(Pair._fields)
        for pair in pairs:
            writer.writerow([*(_relative(name, folder) for name in pair[:4]), *pair[4:]])


def _delimiter(path: Path) -> str:
    """Column delimiter for the suffix of a file."""
    return "\t" if path.suffix.lower() in (".tsv", ".txt") else ","


def _relative(name: str, folder: Path) -> str:
    """Path relative to a folder if it is below it, else absolute; an empty path stays empty."""
    if not name:
        return name
    full = Path(os.path.abspath(name))
    return str(full.relative_to(folder)) if full.is_relative_to(folder) else str(full)


def check_pairs(pairs: Iterable[Pair]) -> None:
    """Refuse duplicate pairs, unknown splits, and images or subjects that are in two splits.

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
        items = [("image", pair.source), ("image", pair.target)]
        items += [("subject", s) for s in (pair.source_subject, pair.target_subject) if s]
        entries.append((pair.split, items))
    check_leakage("pairs", entries)
