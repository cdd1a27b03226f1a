"""Names of files by the Brain Imaging Data Structure, and what describes a derivative data set."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fourierreg import __version__
from fourierreg.atomic import atomic_write
from fourierreg.data.scans import Scan, find_scans
from fourierreg.errors import InputError

BIDS_VERSION = "1.10.0"
MASK_SUFFIX = "_desc-brain_mask.nii.gz"
RUNS = Path("sourcedata") / "fourierreg"  # folders of the runs, which are not named by the standard


def prefix(scan: Scan) -> str:
    """Entities of a scan: ``sub-01`` or ``sub-01_ses-2``."""
    session = f"_ses-{scan.session}" if scan.session else ""
    return f"sub-{scan.subject}{session}"


def derivatives(output: Path, scan: Scan, kind: str) -> Path:
    """Folder of a scan's derivatives of a kind: ``sub-01[/ses-2]/anat``."""
    session = [f"ses-{scan.session}"] if scan.session else []
    return Path(output, f"sub-{scan.subject}", *session, kind)


def run_folder(output: Path, scan: Scan) -> Path:
    """Folder of the registration of a scan."""
    return output / RUNS / prefix(scan)


def chosen_scans(folder: Path | str, participants: Sequence[str] | None) -> list[Scan]:
    """T1w scans of a BIDS data set, of some participants or all.

    Raises
    ------
    InputError
        There is none, or a participant has none.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"INPUT: no folder {folder}; give the root of a BIDS data set")
    # Not below derivatives/ and sourcedata/, whose T1w images are not scans.
    people = sorted(path for path in root.glob("sub-*") if path.is_dir())
    scans = [scan for path in people for scan in _scans_of(path)]
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


def _scans_of(folder: Path) -> list[Scan]:
    """T1w scans of a person; none where there is no such file."""
    if not list(folder.rglob("*_T1w.nii*")):
        return []
    try:
        return find_scans(folder, "T1w")
    except InputError as error:
        raise InputError(str(error).replace("folder:", "INPUT:", 1)) from error


def find_mask(scan: Scan, folders: Sequence[Path]) -> Path | None:
    """Brain mask of a scan in its own space, in derivatives of other programs, or None."""
    for folder in folders:
        for path in sorted(folder.rglob(f"{prefix(scan)}*{MASK_SUFFIX}")):
            if "_space-" not in path.name:
                return path
    return None


def describe_dataset(output: Path, source: Path) -> None:
    """Write ``dataset_description.json``, where it is missing."""
    path = output / "dataset_description.json"
    if path.exists():
        return
    write_json(
        path,
        {
            "Name": "fourierreg: T1w scans registered to a template",
            "BIDSVersion": BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": "fourierreg", "Version": __version__}],
            "SourceDatasets": [{"URL": source.resolve().as_uri()}],
        },
    )


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    with atomic_write(path) as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")
