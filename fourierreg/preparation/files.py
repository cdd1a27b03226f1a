"""Files in, prepared files out: `prepare_brain` over scans, one report each, resumable."""

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np

from fourierreg import __version__
from fourierreg.atomic import replacing, temporary_path
from fourierreg.data.nifti import read_image, read_labels, sha256
from fourierreg.errors import InputError
from fourierreg.preparation.brain import prepare_brain, write_affine


def prepare_files(images, folder, *, labels=None, masks=None, template=None, callback=None, **how):
    """Prepare scans into a folder; those that are there already, made alike, are left.

    Parameters
    ----------
    images : sequence of path
    folder : path
    labels, masks : sequences of path, optional
        One per image.
    template : path, optional
    callback : callable, optional
        Called with (scans done, all scans).
    how
        Keywords of `prepare_brain`.

    Returns
    -------
    list of dict
        What ``NAME.json`` holds; with ``error`` for a scan that could not be prepared, the others
        being done all the same.

    Raises
    ------
    InputError
        Two scans of one name; a report in the folder that was made otherwise.
    """
    folder = Path(folder)
    stems = [re.sub(r"\.nii(\.gz)?$", "", Path(p).name) for p in images]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise InputError(
            f"images: several scans are called {', '.join(twice)}, and results are named after "
            "them; prepare them into folders of their own"
        )
    atlas = None if template is None else read_image(template, "template")
    how_all = {"template": None if template is None else sha256(template), **how}
    reports = []
    for index, (path, stem) in enumerate(zip(images, stems, strict=True)):
        given = {"image": path}
        for name, paths in (("labels", labels), ("mask", masks)):
            if paths is not None:
                given[name] = paths[index]
        reports.append(_prepare(given, stem, folder, atlas, how, how_all))
        if callback is not None:
            callback(index + 1, len(stems))
    return reports


def _prepare(given, stem, folder, atlas, how, how_all):
    """The report of one scan."""
    path = folder / f"{stem}.json"
    missing = next((p for p in given.values() if not Path(p).is_file()), None)
    if missing is not None:
        return {"image": str(given["image"]), "error": f"no file {missing}; check the path"}
    inputs = {name: {"path": str(p), "sha256": sha256(p)} for name, p in given.items()}
    made_with = {"inputs": inputs, "parameters": how_all}
    if path.exists():
        return _known(path, made_with)
    try:
        scan = read_image(given["image"], "image")
        others = {k: read_labels(p, k) for k, p in given.items() if k != "image"}
        done = prepare_brain(scan, template=atlas, **others, **how)
    except (ValueError, RuntimeError) as error:  # of this scan; SimpleITK's span many lines
        return {"image": str(given["image"]), "error": " ".join(str(error).split())}
    _save(done.image, folder / f"{stem}.nii.gz")
    if done.labels is not None:
        _save(done.labels, folder / f"{stem}_labels.nii.gz")
    with temporary_path(folder / f"{stem}_affine.mat") as name:
        write_affine(done.transform, name)
    report = {
        "image": str(given["image"]),
        "fourierreg": __version__,
        **made_with,
        "affine_template_to_scan_ras": np.asarray(done.transform).tolist(),
        "intensities_of_0_and_1": list(done.range),
        "warnings": list(done.warnings),
    }
    with replacing(path) as file:  # last: a report stands for a scan that is complete
        json.dump(report, file, indent=1)
    return report


def _known(path, made_with):
    """The report in the folder, if it was made from the same inputs in the same way."""
    report = json.loads(path.read_text())
    changed = [
        key for key, value in json.loads(json.dumps(made_with)).items() if report.get(key) != value
    ]
    if changed:
        raise InputError(
            f"folder: {path} was made from other {' and '.join(changed)}; give another folder, "
            "or remove it"
        )
    return report


def _save(image, path):
    with temporary_path(path) as name:
        nib.save(image, name)
