"""Finding the scans of a folder by their file names, BIDS or not."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from fourierreg.errors import InputError

NIFTI_SUFFIXES = (".nii.gz", ".nii")
LABEL_SUFFIXES = ("_dseg", "_labels", "_label", "_glm")


class Scan(NamedTuple):
    """An image of a subject and, if available, its labels (paths)."""

    subject: str
    session: str
    image: str
    labels: str = ""


def find_scans(folder: Path | str) -> list[Scan]:
    """Find the NIfTI images and labels in a folder and its subfolders.

    The subject is the ``sub-`` entity of the file name, or else the name up to the first
    underscore; the session is the ``ses-`` entity. Label maps end in ``_dseg``, ``_labels``,
    ``_label`` or ``_glm`` before the file suffix, and belong to the image of the same subject and
    session in any folder. Hidden files are ignored.

    Returns
    -------
    list of Scan
        Sorted by subject and session; absolute paths.

    Raises
    ------
    InputError
        The folder has no images, or two images or label maps of one subject and session.
    """
    folder = Path(os.path.abspath(folder))
    if not folder.is_dir():
        raise InputError(f"folder: no folder {folder}; check the path")
    images: dict[tuple[str, str], Path] = {}
    labels: dict[tuple[str, str], Path] = {}
    files = (p for p in folder.rglob("*") if p.name.endswith(NIFTI_SUFFIXES))
    for path in sorted(p for p in files if not _is_hidden(p.relative_to(folder))):
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


def _is_hidden(path: Path) -> bool:
    """Whether a file, or a folder it is in, is hidden."""
    return any(part.startswith(".") for part in path.parts)


def _entity(name: str, stem: str) -> str | None:
    """Value of a BIDS entity of a file name (``sub-01`` has the value "01"), or None."""
    found = re.search(rf"(?:^|_){name}-([A-Za-z0-9]+)", stem)
    return found.group(1) if found else None
