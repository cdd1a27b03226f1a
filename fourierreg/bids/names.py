"""Names of derivatives by the Brain Imaging Data Structure, and what describes them."""

from pathlib import Path

from fourierreg import __version__
from fourierreg.atomic import write_json
from fourierreg.bids.scans import T1w

BIDS_VERSION = "1.10.0"
RAW = "raw"  # name of the data set in links to its files
RUNS = Path("sourcedata") / "fourierreg"  # folders of the runs, which are not named by the standard


def derivatives(output: Path, scan: T1w, kind: str) -> Path:
    """Folder of a scan's derivatives of a kind: ``sub-01[/ses-2]/anat``."""
    session = [f"ses-{scan.session}"] if scan.session else []
    return Path(output, f"sub-{scan.subject}", *session, kind)


def run_folder(output: Path, scan: T1w) -> Path:
    """Folder of the registration of a scan."""
    return output / RUNS / scan.prefix


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
            "DatasetLinks": {RAW: source.resolve().as_uri()},
        },
    )
