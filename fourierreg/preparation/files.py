"""Preparation of many scans, from files to a folder; existing results are kept.

Each scan gives ``NAME.nii.gz``, ``NAME_labels.nii.gz``, ``NAME_affine.mat`` and the report
``NAME.json``, which is written last: a scan that has a report is complete.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from fourierreg import __version__
from fourierreg.atomic import atomic_write, temporary_path
from fourierreg.data.affines import write_affine
from fourierreg.data.nifti import read_image, read_labels, sha256
from fourierreg.errors import InputError
from fourierreg.preparation.brain import PreparedBrain, prepare_brain


def prepare_files(
    images: Sequence[Path | str],
    folder: Path | str,
    *,
    labels: Sequence[Path | str] | None = None,
    masks: Sequence[Path | str] | None = None,
    template: Path | str | None = None,
    callback: Callable[[int, int], object] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Prepare scans into a folder, skipping those with results of the same inputs and parameters.

    Parameters
    ----------
    images : sequence of path
    folder : path
    labels, masks : sequences of path, optional
        One per image.
    template : path, optional
    callback : callable, optional
        Called with (number of scans done, number of scans).
    options
        Keywords of `prepare_brain`.

    Returns
    -------
    list of dict
        The report of each scan. If a scan could not be prepared, its report has the key ``error``,
        and the other scans are still prepared.

    Raises
    ------
    InputError
        Two scans have the same file name, or the folder has results of other inputs or parameters.
    """
    folder = Path(folder)
    stems = [re.sub(r"\.nii(\.gz)?$", "", Path(p).name) for p in images]
    duplicates = sorted({stem for stem in stems if stems.count(stem) > 1})
    if duplicates:
        raise InputError(
            f"images: several scans are called {', '.join(duplicates)}, and results are named "
            "after scans; prepare them into separate folders"
        )
    template_image = None if template is None else read_image(template, "template")
    parameters = {"template": None if template is None else sha256(template), **options}
    reports = []
    for index, (path, stem) in enumerate(zip(images, stems, strict=True)):
        inputs = {"image": path}
        for name, paths in (("labels", labels), ("mask", masks)):
            if paths is not None:
                inputs[name] = paths[index]
        reports.append(
            _prepare_file(inputs, folder / f"{stem}.json", template_image, options, parameters)
        )
        if callback is not None:
            callback(index + 1, len(stems))
    return reports


def _prepare_file(
    inputs: Mapping[str, Path | str],
    report_path: Path,
    template: nib.Nifti1Image | None,
    options: Mapping[str, Any],
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """Prepare one scan and write its files; return its report."""
    missing = next((p for p in inputs.values() if not Path(p).is_file()), None)
    if missing is not None:
        return {"image": str(inputs["image"]), "error": f"no file {missing}; check the path"}
    provenance = {
        "inputs": {name: {"path": str(p), "sha256": sha256(p)} for name, p in inputs.items()},
        "parameters": parameters,
    }
    if report_path.exists():
        return _existing_report(report_path, provenance)
    try:
        scan = read_image(inputs["image"], "image")
        maps: dict[str, Any] = {
            name: read_labels(p, name) for name, p in inputs.items() if name != "image"
        }
        prepared = prepare_brain(scan, template=template, **maps, **options)
    except (ValueError, RuntimeError) as error:  # joined to one line: SimpleITK's span several
        return {"image": str(inputs["image"]), "error": " ".join(str(error).split())}
    _write_images(prepared, report_path)
    report = {
        "image": str(inputs["image"]),
        "fourierreg": __version__,
        **provenance,
        "affine_template_to_scan_ras": np.asarray(prepared.transform).tolist(),
        "intensities_of_0_and_1": list(prepared.intensity_range),
        "warnings": list(prepared.warnings),
    }
    with atomic_write(report_path) as file:
        json.dump(report, file, indent=1)
    return report


def _existing_report(path: Path, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The report in the folder, checked to have the same inputs and parameters."""
    report = json.loads(path.read_text())
    expected = json.loads(json.dumps(provenance))
    changed = [key for key, value in expected.items() if report.get(key) != value]
    if changed:
        raise InputError(
            f"folder: {path} was made from other {' and '.join(changed)}; give another folder, "
            "or remove it"
        )
    return report


def _write_images(prepared: PreparedBrain, report_path: Path) -> None:
    """Write image, labels and affine of a prepared brain, named after its report."""
    folder, stem = report_path.parent, report_path.name.removesuffix(".json")
    _save(prepared.image, folder / f"{stem}.nii.gz")
    if prepared.labels is not None:
        _save(prepared.labels, folder / f"{stem}_labels.nii.gz")
    with temporary_path(folder / f"{stem}_affine.mat") as name:
        write_affine(prepared.transform, name)


def _save(image: nib.Nifti1Image, path: Path) -> None:
    """Write a NIfTI file atomically."""
    with temporary_path(path) as name:
        nib.save(image, name)
