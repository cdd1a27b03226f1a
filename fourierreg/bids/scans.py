"""T1w scans of a BIDS data set, and their brain masks."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fourierreg.errors import InputError

MASK_SUFFIX = "_desc-brain_mask.nii.gz"


class T1w(NamedTuple):
    """A T1w scan of a data set.

    Attributes
    ----------
    subject, session : str
        The latter may be empty.
    prefix : str
        Its entities, as its derivatives are named: ``sub-01_ses-2_run-1``.
    image, relative : str
        Path, and path from the root of the data set.
    """

    subject: str
    session: str
    prefix: str
    image: str
    relative: str


def entities(name: str) -> dict[str, str]:
    """Entities of a file name: ``sub-01_run-1_T1w.nii.gz`` has sub and run."""
    parts = (part.partition("-") for part in name.split(".")[0].split("_"))
    return {key: value for key, dash, value in parts if dash}


def chosen_scans(folder: Path | str, participants: Sequence[str] | None) -> list[T1w]:
    """T1w scans in the folders ``sub-*`` of a BIDS data set, of some participants or all.

    Raises
    ------
    InputError
        There is none, or a participant has none.
    """
    root = Path(os.path.abspath(folder))
    if not root.is_dir():
        raise InputError(f"INPUT: no folder {folder}; give the root of a BIDS data set")
    # Not below derivatives/ and sourcedata/, whose T1w images are not scans.
    people = sorted(path for path in root.glob("sub-*") if path.is_dir())
    scans = [scan for path in people for scan in _scans_of(root, path)]
    if not scans:
        raise InputError(
            f"INPUT: no T1w images in folders sub-* of {folder}; give the root of a BIDS data set"
        )
    if participants is None:
        return scans
    wanted = [name.removeprefix("sub-") for name in participants]
    missing = sorted(set(wanted) - {scan.subject for scan in scans})
    if missing:
        raise InputError(
            f"--participant-label: no T1w image of {', '.join(missing)} below {folder}; check the "
            "labels"
        )
    return [scan for scan in scans if scan.subject in wanted]


def _scans_of(root: Path, folder: Path) -> list[T1w]:
    """T1w scans of a person."""
    found = []
    for path in sorted(folder.rglob("*_T1w.nii*")):
        own = entities(path.name)
        if own.get("sub") == folder.name.removeprefix("sub-"):
            stem, relative = path.name.partition("_T1w.")[0], path.relative_to(root).as_posix()
            found.append(T1w(own["sub"], own.get("ses", ""), stem, str(path), relative))
    return found


def find_mask(scan: T1w, folders: Sequence[Path]) -> Path | None:
    """Brain mask of a scan in its own space, in derivatives of other programs, or None.

    A mask may name fewer entities than the scan (``run``, ``acq``), but no other ones and no other
    values; the one that names most is taken.
    """
    own, found = {**entities(scan.prefix), "desc": "brain"}, []
    for folder in folders:
        for path in sorted(folder.rglob(f"*{MASK_SUFFIX}")):
            named = entities(path.name)
            same = all(own.get(key) == value for key, value in named.items())
            if same and all(named.get(key) == own.get(key) for key in ("sub", "ses")):
                found.append((-len(named), path))
    return min(found)[1] if found else None
