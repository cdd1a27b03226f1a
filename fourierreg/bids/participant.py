"""One T1w scan: prepared, registered to a template at its own α, written by standard names."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fourierreg.atomic import write_json
from fourierreg.bids.names import RAW, derivatives, run_folder
from fourierreg.bids.scans import T1w
from fourierreg.data.affines import read_affine
from fourierreg.data.nifti import read_geometry, read_image
from fourierreg.data.template import FIELD_OF_VIEW, cube_around, icbm2009c
from fourierreg.errors import InputError
from fourierreg.image.foreground import foreground_scale
from fourierreg.image.geometry import Geometry, resample_onto
from fourierreg.preparation.brain import NOT_STRIPPED
from fourierreg.preparation.files import prepare_files
from fourierreg.registration.map_alpha import map_alpha
from fourierreg.registration.result import Registration
from fourierreg.results.export import export, point_map
from fourierreg.results.folder import (
    claimed,
    make_output_folder,
    save_nifti,
    scalar_image,
    write_results,
)
from fourierreg.results.record import RECORD, input_record, result_record

ICBM = "MNI152NLin2009cAsym"  # name of the default template in the standard
INVERSE_SIZE = 128  # voxels of the longest axis of the inverse, which is smooth


class Space(NamedTuple):
    """A template.

    Attributes
    ----------
    name : str
        In file names, after ``space-``.
    path : str or None
        None for the default.
    brain : nibabel image
        On the cube that scans are prepared on.
    """

    name: str
    path: str | None
    brain: Any


def template_space(path: str | None, name: str | None, size: int) -> Space:
    """A template on its cube of `size`³ voxels.

    Raises
    ------
    InputError
        A template without a name, or a name without a template.
    """
    if (path is None) != (name is None):
        raise InputError("--template: expected --space NAME with it, and neither by itself")
    template = icbm2009c().image if path is None else read_image(path, "--template")
    cube = cube_around(template, size, FIELD_OF_VIEW / size)
    data = np.asarray(template.dataobj, dtype=np.float32)
    data = resample_onto(data, Geometry.of(template), cube).astype(np.float32)
    return Space(name or ICBM, path, cube.image(data / np.float32(foreground_scale(data))))


def register_scan(
    scan: T1w,
    mask: Path | None,
    output: Path,
    space: Space,
    quality: str,
    arguments: list[str],
    callback: Callable[[Any], object] | None = None,
) -> tuple[bool, list[str]]:
    """Prepare a scan, infer α, register it to a template, and write its derivatives.

    Returns whether that was done, False where an earlier run has done it, and the warnings.

    Raises
    ------
    InputError
        The scan cannot be read or prepared, does not look skull-stripped and has no mask, or has
        results of other inputs or options.
    """
    folder = make_output_folder(run_folder(output, scan))
    with claimed(folder):
        prepared, scan_affine, warnings = _prepare(scan, mask, folder, space)
        parameters = {"quality": quality, "space": space.name}
        if (folder / RECORD).exists():  # written last
            record = json.loads((folder / RECORD).read_text())
            if record["parameters"] != parameters:
                raise InputError(
                    f"{scan.prefix} was registered with other options; give another OUTPUT, or "
                    f"remove {folder}"
                )
            return False, record["warnings"]
        source = read_image(prepared, "source")
        result = map_alpha(source, space.brain, quality=quality, callback=callback)
        save_nifti(space.brain, folder / "target.nii.gz")
        paths = {"source": prepared, "target": folder / "target.nii.gz"}
        inputs: dict[str, Any] = {
            name: {**input_record(path), "divided_by": scale}
            for (name, path), scale in zip(paths.items(), result.scales, strict=True)
        }
        if space.path is not None:
            inputs["template"] = input_record(space.path)
        record = result_record(result, inputs, parameters, arguments)
        record["warnings"] = [*record["warnings"], *warnings]
        data = [
            image.get_fdata() / scale  # both on the cube
            for image, scale in zip((source, space.brain), result.scales, strict=True)
        ]
        _write_derivatives(scan, output, space, result, scan_affine, record)
        write_results(folder, result, data[0], data[1], record)
        return True, record["warnings"]


def _prepare(
    scan: T1w, mask: Path | None, folder: Path, space: Space
) -> tuple[Path, np.ndarray, list[str]]:
    """File of the prepared scan, the affine from the template's space to the scan, and warnings."""
    report = prepare_files(
        [scan.image],
        folder,
        masks=None if mask is None else [mask],
        template=space.path,
        size=space.brain.shape[0],
    )[0]
    if "error" in report:
        raise InputError(report["error"])
    warnings = [text for text in report["warnings"] if NOT_STRIPPED not in text]
    stem = Path(scan.image).name.removesuffix(".gz").removesuffix(".nii")
    if len(warnings) < len(report["warnings"]):
        for path in folder.glob(f"{stem}*"):  # prepared anew once there is a mask
            path.unlink()
        raise InputError(
            f"{scan.image} does not look skull-stripped, and no {scan.prefix}_desc-brain_mask "
            "was found: strip it (SynthStrip, HD-BET) and give the folder of masks (--masks)"
        )
    return folder / f"{stem}.nii.gz", read_affine(folder / f"{stem}_affine.mat"), warnings


def _write_derivatives(
    scan: T1w,
    output: Path,
    space: Space,
    result: Registration,
    affine: np.ndarray,
    record: Mapping[str, Any],
) -> None:
    """Transforms between scan and template, the deformed scan, and what describes them."""
    folder = make_output_folder(derivatives(output, scan, "anat"))
    name, native = scan.prefix, read_geometry(scan.image, "scan")
    grid = native if max(native.shape) <= INVERSE_SIZE else native.resized(INVERSE_SIZE)
    to_template = point_map(result, moving=native, moving_affine=affine)
    to_scan = point_map(result, inverse=True, grid=grid, grid_affine=affine)
    description = {
        "Sources": [f"bids:{RAW}:{scan.relative}"],
        "Regularization": {
            "alpha": record["alpha"],
            "alpha_interval_95": record["alpha_interval_95"],
        },
        "Status": record["status"],
        "Warnings": record["warnings"],
    }
    for mapped, ends in ((to_template, ("T1w", space.name)), (to_scan, (space.name, "T1w"))):
        stem = f"{name}_from-{ends[0]}_to-{ends[1]}_mode-image_xfm"
        export(mapped, "itk-h5", folder / f"{stem}.h5")
        write_json(folder / f"{stem}.json", description)
    deformed = scalar_image(result.deformed, Geometry.of(space.brain), np.float32)
    stem = f"{name}_space-{space.name}_desc-preproc_T1w"
    save_nifti(deformed, folder / f"{stem}.nii.gz")
    own: dict[str, Any] = {**description, "SkullStripped": True}
    if space.path is not None:
        own["SpatialReference"] = Path(space.path).resolve().as_uri()
    write_json(folder / f"{stem}.json", own)
