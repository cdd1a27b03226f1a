"""HTML report of a registration or a label run: one self-contained page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from fourierreg import __version__
from fourierreg.data.nifti import sha256
from fourierreg.data.structures import Structures
from fourierreg.errors import InputError, MissingDependencyError
from fourierreg.image.geometry import Geometry, resample_onto
from fourierreg.registration.result import Registration
from fourierreg.results.evaluation import evaluate_registration, is_label_run
from fourierreg.results.folder import load_registration
from fourierreg.results.group_report import done_rows, group_content, label_run_content
from fourierreg.results.match_figures import flicker_figures, match_figure
from fourierreg.results.report_figures import (
    RegistrationFigures,
    beside_figure,
    dice_figure,
    encoded,
    png_data_url,
    search_figure,
    text_of,
)

TEMPLATE = "report.html"
RESULT = "result.json"
CITATIONS = (
    "The fourierreg developers: fourierreg {version}.",
    "J. Wang and M. Zhang: Deep Learning for Regularization Prediction in Diffeomorphic Image "
    "Registration. 2021.",
)
# Keys of result.json that are not listed as parameters.
NOT_PARAMETERS = {
    "dice",
    "held_out",
    "inputs",
    "parameters",
    "arguments",
    "jacobian",
    "versions",
    "status",
    "warnings",
}

Dice = Mapping[str, Sequence[float]]  # structure: [before, after]
TableRows = list[tuple[str, Any]]


def render_report(
    folder: Path | str,
    labels: tuple[Any, Any] | None = None,
    structures: Structures | None = None,
    beside: Path | str | None = None,
) -> str:
    """HTML report of the output folder of `map-alpha`, `register`, `demo` or `label`.

    Parameters
    ----------
    folder : path
    labels : (source, target) nibabel label maps, optional
        For Dice overlap, if the registration was run without labels.
    structures : dict, optional
        Merged structures; by default every label.
    beside : path, optional
        Folder of a label run of comparable pairs, among whose α that of the registration is shown.

    Raises
    ------
    InputError
        The folder has no finished run.
    MissingDependencyError
        jinja2 or matplotlib is not installed.
    """
    environment = _template_environment()
    if is_label_run(folder):
        content = label_run_content(Path(folder))
    else:
        content = _registration_content(Path(folder), labels, structures, beside)
    return _rendered(environment, content)


def render_group(title: str, created: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """HTML page on registrations that are not of one label run, the doubtful ones first.

    Parameters
    ----------
    title, created : str
    rows : sequence of mappings
        As for `group_content`.

    Raises
    ------
    MissingDependencyError
        jinja2 or matplotlib is not installed.
    """
    return _rendered(_template_environment(), group_content(title, created, rows))


def _rendered(environment: Any, content: Mapping[str, Any]) -> str:
    template = environment.get_template(TEMPLATE)
    citations = [line.format(version=__version__) for line in CITATIONS]
    return template.render(**content, citations=citations, version=__version__)


def _template_environment() -> Any:
    """jinja2 environment with the page template; checks that matplotlib is installed."""
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{error.name} is required but not installed: pip install 'fourierreg[report]'"
        ) from error
    loader = jinja2.PackageLoader("fourierreg.results", ".")
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)


def _registration_content(
    folder: Path,
    labels: tuple[Any, Any] | None,
    structures: Structures | None,
    beside: Path | str | None,
) -> dict[str, Any]:
    """Content of the page of one registration."""
    path = folder / RESULT
    result = load_registration(folder)
    if not path.is_file() or result.geometry is None:
        raise InputError(
            f"folder: no {RESULT} in {folder}; give the output folder of a finished run"
        )
    record = json.loads(path.read_text())
    evaluation = evaluate_registration(folder, labels, structures)
    dice = evaluation.get("dice") or _recorded_dice(record)
    images = [_input_image(folder, record, name, result.geometry) for name in ("source", "target")]
    figures = RegistrationFigures(result)
    flicker: list[str] = []
    pictures = [("The images", *figures.images(*images))]
    if images[1] is not None:
        pictures.append(("The match", *match_figure(figures, images[1])))
        flicker = [png_data_url(frame) for frame in flicker_figures(figures, images[1])]
    pictures += [
        ("The deformation", *figures.deformation()),
        ("The search for α", *search_figure(result)),
    ]
    if beside is not None:
        pictures.append(("α beside that of other pairs", *beside_figure(result, done_rows(beside))))
    if dice:
        pictures.append(("Overlap of labels", *dice_figure(dice)))
    return {
        "title": _title(record, folder),
        "created": record["created"],
        "status": "" if result.warnings else result.status,
        "warnings": result.warnings,
        "flicker": flicker,
        "success": result.converged and not result.warnings,
        "summary": _summary(result, evaluation, dice),
        "pictures": encoded(pictures),
        "tables": [("Parameters", _parameters(record)), ("Inputs", _inputs(record))],
        "command": "fourierreg " + " ".join(record["arguments"]),
        "dice": dice,
    }


def _summary(result: Registration, evaluation: Mapping[str, Any], dice: Dice | None) -> TableRows:
    """Main results of a registration."""
    rows = [("regularization strength α", f"{result.alpha:.3g}")]
    interval = result.alpha_interval
    if interval is not None and np.all(np.isfinite(interval)):
        rows.append(("95 % interval", f"{interval[0]:.3g} to {interval[1]:.3g}"))
    rows.append(("smoothing length", f"{result.smoothing_length:.1f} mm"))
    if result.sigma is None:
        rows.append(("similarity, weight γ", f"{result.similarity}, {result.weight:.3g}"))
    else:
        rows.append(("noise σ, decimation ρ", f"{result.sigma:.3g}, {result.decimation:.2g}"))
    rows += [
        (
            "Jacobian determinant",
            f"{evaluation['jacobian_min']:.2f} to {evaluation['jacobian_max']:.2f}, sd of its "
            f"logarithm {evaluation['jacobian_sd_log']:.3f}",
        ),
        ("folding voxels", str(evaluation["jacobian_folds"])),
        ("inverse consistency", f"{evaluation['inverse_consistency_rms_mm']:.3f} mm rms"),
    ]
    if dice:
        before, after = dice["mean"]
        rows.append(("mean Dice", f"{before:.3f} before, {after:.3f} after"))
    return [*rows, ("time", f"{result.seconds:.0f} s, {len(result.history)} iterations")]


def _recorded_dice(record: Mapping[str, Any]) -> Dice | None:
    """Dice overlap in ``result.json``, or None if the run had no labels."""
    dice = record.get("dice")
    if dice is None:
        return None
    both = {name: [dice["before"].get(name), dice["after"].get(name)] for name in dice["before"]}
    known = {name: values for name, values in both.items() if None not in values}
    return {"mean": [dice["mean_before"], dice["mean_after"]], **known}


def _title(record: Mapping[str, Any], folder: Path) -> str:
    """File names of both images, or the name of the folder if they are not files."""
    names = [Path(v["path"]).name for v in record["inputs"].values() if isinstance(v, dict)]
    return " to ".join(names[:2]) or folder.resolve().name


def _parameters(record: Mapping[str, Any]) -> TableRows:
    """Rows of the table of parameters and versions."""
    rows = [(name, value) for name, value in record.items() if name not in NOT_PARAMETERS]
    rows += [(name, value) for name, value in record["parameters"].items() if name not in record]
    rows += [(f"version of {name}", value) for name, value in record["versions"].items()]
    return [(name.replace("_", " "), text_of(value)) for name, value in rows]


def _inputs(record: Mapping[str, Any]) -> TableRows:
    """Rows of the table of input files."""
    return [
        (name, f"{value['path']} (sha256 {value['sha256'][:16]}…)")
        if isinstance(value, dict)
        else (name, value)
        for name, value in record["inputs"].items()
    ]


def _input_image(
    folder: Path, record: Mapping[str, Any], name: str, grid: Geometry
) -> np.ndarray | None:
    """Normalized input image on the registration's grid; None if its file is gone or changed."""
    entry = record["inputs"].get(name)  # missing for the demo, whose images are in the folder
    path = folder / f"{name}.nii.gz" if entry is None else Path(entry["path"])
    if not path.is_file() or (entry is not None and sha256(path) != entry["sha256"]):
        return None
    image: Any = nib.load(path)
    values = resample_onto(image.get_fdata(), Geometry.of(image), grid)
    return values if entry is None else values / entry["divided_by"]
