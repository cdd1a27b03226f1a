"""Finding the scans of a folder by their file names, BIDS or not."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from fourierreg.errors import InputError

NIFTI_SUFFIXES = (".nii.gz", ".nii")
LABEL_SUFFIXES = ("dseg", "labels", "label", "glm")
MASK_SUFFIXES = ("mask", "brainmask")
PREFERRED = "T1w"  # suffix of the images of a BIDS folder, where there are any


class Scan(NamedTuple):
    """An image of a subject and, if available, its labels (paths)."""

    subject: str
    session: str
    image: str
    labels: str = ""


def find_scans(folder: Path | str, suffix: str | None = None) -> list[Scan]:
    """Find the NIfTI images and labels in a folder and its subfolders.

    The subject is the ``sub-`` entity of the file name, or else the name up to the first
    underscore; the session is the ``ses-`` entity. Label maps end in ``_dseg``, ``_labels``,
    ``_label`` or ``_glm`` before the file suffix, and belong to the image of the same subject and
    session in any folder. Hidden files and masks (``_mask``) are ignored.

    Parameters
    ----------
    folder : path
    suffix : str, optional
        Last part of the names of the images, such as "T1w" or "FLAIR". By default "T1w" where there
        are such files, as in BIDS; else every image that is not a label map.

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
    suffix, files = _files(folder, suffix)
    images: dict[tuple[str, str], Path] = {}
    labels: dict[tuple[str, str], Path] = {}
    for path, stem in files:
        kind = _suffix(stem)
        is_labels = kind in LABEL_SUFFIXES
        if not is_labels and suffix is not None and kind != suffix:
            continue
        key = _subject(stem), _entity("ses", stem) or ""
        found = labels if is_labels else images
        if key in found:
            who = " ".join(filter(None, key))
            what = "label map" if is_labels else "image"
            choose = "" if is_labels else ", or choose by the end of their names (pairs --suffix)"
            raise InputError(
                f"folder: {found[key]} and {path} both belong to {who}; keep one {what} per "
                f"subject and session in {folder}{choose}"
            )
        found[key] = path
    if not images:
        named = f" whose name ends in _{suffix}" if suffix else ""
        kinds = sorted({_suffix(stem) for _, stem in files} - {""})
        others = f" (found: {', '.join(kinds)})" if kinds else ""
        raise InputError(f"folder: no NIfTI images{named} below {folder}{others}; check the path")
    return [
        Scan(*key, str(image), str(labels.get(key, ""))) for key, image in sorted(images.items())
    ]


def subjects_without_scan(folder: Path | str, suffix: str | None = None) -> list[str]:
    """Subjects of a folder that have files, but none that `find_scans` takes for their image."""
    scans = {scan.subject for scan in find_scans(folder, suffix)}
    _, files = _files(Path(os.path.abspath(folder)), suffix)
    return sorted({_subject(stem) for _, stem in files} - scans)


def _files(folder: Path, suffix: str | None) -> tuple[str | None, list[tuple[Path, str]]]:
    """The suffix of the images, and the NIfTI files of a folder with their names' stems."""
    if not folder.is_dir():
        raise InputError(f"folder: no folder {folder}; check the path")
    paths = sorted(p for p in folder.rglob("*") if p.name.endswith(NIFTI_SUFFIXES))
    stems = [re.sub(r"\.nii(\.gz)?$", "", path.name) for path in paths]
    files = [
        (path, stem)
        for path, stem in zip(paths, stems, strict=True)
        if not _is_hidden(path.relative_to(folder)) and _suffix(stem) not in MASK_SUFFIXES
    ]
    if suffix is None and any(_suffix(stem) == PREFERRED for _, stem in files):
        suffix = PREFERRED
    return suffix, files


def _subject(stem: str) -> str:
    """Subject of a file name."""
    return _entity("sub", stem) or stem.split("_")[0]


def _suffix(stem: str) -> str:
    """Last part of a file name, such as "T1w", or "" where that is an entity or all of it."""
    _, separator, last = stem.rpartition("_")
    return last if separator and "-" not in last else ""


def _is_hidden(path: Path) -> bool:
    """Whether a file, or a folder it is in, is hidden."""
    return any(part.startswith(".") for part in path.parts)


def _entity(name: str, stem: str) -> str | None:
    """Value of a BIDS entity of a file name (``sub-01`` has the value "01"), or None."""
    found = re.search(rf"(?:^|_){name}-([A-Za-z0-9]+)", stem)
    return found.group(1) if found else None
