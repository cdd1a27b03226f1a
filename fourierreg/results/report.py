"""A page on a run: one HTML file that holds its pictures, for a colleague or a supplement."""

import base64
import io
import json
from pathlib import Path

import nibabel as nib
import numpy as np

from fourierreg import __version__
from fourierreg.data.nifti import sha256
from fourierreg.errors import InputError
from fourierreg.image.geometry import Geometry, resample_onto
from fourierreg.results import folder as output
from fourierreg.results.evaluation import evaluate_run, evaluate_table, is_table, numbers

TEMPLATE = "report.html"
RESULT = "result.json"
DPI = 90
CITATIONS = (
    "The fourierreg developers: fourierreg {version}.",
    "J. Wang and M. Zhang: Deep Learning for Regularization Prediction in Diffeomorphic Image "
    "Registration. 2021.",
)


def page(folder, labels=None, structures=None):
    """HTML of the report on a folder of `map-alpha`, `register`, `demo` or `label`.

    Parameters
    ----------
    folder : path
    labels : (source, target) nibabel label maps, optional
        For Dice of a run that was made without them.
    structures : dict, optional
        Merged structures; every label by default.

    Returns
    -------
    str

    Raises
    ------
    InputError
        No run there, or jinja2 or matplotlib is missing.
    """
    environment = _required()
    parts = _of_table(folder) if is_table(folder) else _of_run(folder, labels, structures)
    template = environment.get_template(TEMPLATE)
    cite = [line.format(version=__version__) for line in CITATIONS]
    return template.render(**parts, citations=cite, version=__version__)


def _required():
    try:
        import jinja2
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            f"this needs {error.name}, which is not installed; pip install 'fourierreg[report]'"
        ) from error
    loader = jinja2.PackageLoader("fourierreg", ".")
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)


def _of_run(folder, labels, structures):
    """Title, tables and pictures of one registration."""
    folder = Path(folder)
    path = folder / RESULT
    result = output.load(folder)
    if not path.is_file() or result.geometry is None:
        raise InputError(
            f"folder: no {RESULT} in {folder}; give the output folder of a finished run"
        )
    report = json.loads(path.read_text())
    found = evaluate_run(folder, labels, structures)
    dice = found.get("dice") or _recorded_dice(report)
    views = _Views(result)
    images = [_image(folder, report, name, result.geometry) for name in ("source", "target")]
    pictures = [
        ("The images", *views.images(*images)),
        ("The deformation", *views.deformation()),
        ("How α was found", *_search(result)),
    ]
    if dice:
        pictures.append(("Overlap of labels", *_dice_picture(dice)))
    return {
        "title": _title(report, folder),
        "made": report["created"],
        "status": result.status,
        "good": result.converged,
        "key": _key_numbers(result, found, dice),
        "pictures": pictures,
        "tables": [("Parameters", _parameters(report)), ("Inputs", _inputs(report))],
        "command": "fourierreg " + " ".join(report["arguments"]),
        "dice": dice,
    }


def _key_numbers(result, found, dice):
    """What a reader looks for first."""
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
            f"{found['jacobian_min']:.2f} to {found['jacobian_max']:.2f}, sd of its logarithm "
            f"{found['jacobian_sd_log']:.3f}",
        ),
        ("voxels that fold", str(found["jacobian_folds"])),
        ("inverse consistency", f"{found['inverse_consistency_rms_mm']:.3f} mm rms"),
    ]
    if dice:
        before, after = dice["mean"]
        rows.append(("mean Dice", f"{before:.3f} before, {after:.3f} after"))
    return [*rows, ("time", f"{result.seconds:.0f} s, {len(result.history)} iterations")]


def _recorded_dice(report):
    """Structure to [before, after], where the run was given labels."""
    dice = report.get("dice")
    if dice is None:
        return None
    both = {name: [dice["before"].get(name), dice["after"].get(name)] for name in dice["before"]}
    known = {name: pair for name, pair in both.items() if None not in pair}
    return {"mean": [dice["mean_before"], dice["mean_after"]], **known}


def _title(report, folder):
    """The names of both images, or of the folder where they have none."""
    names = [Path(v["path"]).name for v in report["inputs"].values() if isinstance(v, dict)]
    return " to ".join(names[:2]) or folder.resolve().name


def _parameters(report):
    known = {"dice", "inputs", "parameters", "arguments", "jacobian", "versions", "status"}
    rows = [(name, value) for name, value in report.items() if name not in known]
    rows += [(name, value) for name, value in report["parameters"].items() if name not in report]
    rows += [(f"version of {name}", value) for name, value in report["versions"].items()]
    return [(name.replace("_", " "), _text(value)) for name, value in rows]


def _inputs(report):
    return [
        (name, f"{given['path']} (sha256 {given['sha256'][:16]}…)")
        if isinstance(given, dict)
        else (name, given)
        for name, given in report["inputs"].items()
    ]


def _text(value):
    if isinstance(value, list | dict):  # of merged structures, their names
        return ", ".join(_text(v) for v in value)
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _image(folder, report, name, grid):
    """An input on the registration's grid, if its file is still the one that was registered."""
    given = report["inputs"].get(name)
    path = folder / f"{name}.nii.gz" if given is None else Path(given["path"])  # the demo keeps it
    if not path.is_file() or (given is not None and sha256(path) != given["sha256"]):
        return None
    image = nib.load(path)
    values = resample_onto(image.get_fdata(), Geometry.of(image), grid)
    return values if given is None else values / given["divided_by"]


class _Views:
    """Pictures of a registration's volumes, turned so that right, front and top are where they are
    on every picture of this field."""

    def __init__(self, result):
        self.result = result
        self.geometry = result.geometry
        self.turned = Geometry.of(
            nib.as_closest_canonical(output.volume(result.deformed, result.geometry))
        )

    def _turn(self, volume):
        image = output.volume(np.asarray(volume, dtype=np.float32), self.geometry)
        return np.asarray(nib.as_closest_canonical(image).dataobj)

    def _displacement(self):
        """mm along the turned axes."""
        ras = np.tensordot(self.geometry.directions, self.result.displacement, axes=1)
        turned = np.stack([self._turn(part) for part in ras])
        return np.tensordot(self.turned.directions.T, turned, axes=1)

    def images(self, source, target):
        """Source, target, deformed source with its grid, and the residuals; what of it there is."""
        from fourierreg.plotting import map_views, orthogonal_views, show_grid
        from fourierreg.plotting.views import VIEWS

        spacing, deformed = self.turned.spacing, self.result.deformed
        rows = {"source": source, "target": target, "deformed source, grid of φ⁻¹": deformed}
        rows = {name: image for name, image in rows.items() if image is not None}
        gaps = {}
        if target is not None and source is not None:
            gaps = {"residual before": source - target, "residual after": deformed - target}
        figure, axes = _figure(len(rows) + len(gaps), self.turned)
        for line, (name, image) in zip(axes, rows.items(), strict=False):
            orthogonal_views(line, self._turn(image), spacing=spacing)
            line[0].set_ylabel(name)
        for ax, (_, axis) in zip(axes[len(rows) - 1], VIEWS, strict=True):
            show_grid(ax, self._displacement(), spacing, axis=axis)
        if gaps:
            limit = float(np.percentile(np.abs(gaps["residual before"]), 99.5)) or 1.0
            options = {"low": -limit, "high": limit, "cmap": "RdBu_r", "spacing": spacing}
            for line, (name, gap) in zip(axes[len(rows) :], gaps.items(), strict=True):
                shown = map_views(line, self._turn(gap), **options)
                line[0].set_ylabel(name)
            label = "intensity difference (1 is the foreground's)"
            figure.colorbar(shown, ax=axes[len(rows) :], label=label, shrink=0.7)
        note = (
            ""
            if gaps
            else ("The images are no longer where the run found them, so they are not shown.")
        )
        return _png(figure), note

    def deformation(self):
        """Logarithm of the Jacobian determinant, length of the displacement and, where the run has
        it, its standard deviation."""
        from fourierreg.plotting import map_views

        result, spacing = self.result, self.turned.spacing
        volumes = [
            ("ln det Dφ⁻¹", np.log(np.maximum(result.jacobian_determinant, 1e-3)), {}),
            ("displacement, mm", np.sqrt((np.square(result.displacement)).sum(axis=0)), _POSITIVE),
        ]
        if result.displacement_sd is not None:
            deviation = np.sqrt((np.square(result.displacement_sd)).sum(axis=0))
            volumes.append(("standard deviation of it, mm", deviation, _POSITIVE))
        figure, axes = _figure(len(volumes), self.turned)
        for line, (name, volume, style) in zip(axes, volumes, strict=True):
            shown = map_views(line, self._turn(volume), spacing=spacing, **style)
            figure.colorbar(shown, ax=line, label=name, shrink=0.8)
        note = "Where ln det Dφ⁻¹ is positive, the source shrinks on its way to the target."
        return _png(figure), note


_POSITIVE = {"low": 0.0, "cmap": "viridis"}


def _figure(rows, grid):
    """A line of three planes per row, high enough for the highest of them."""
    from matplotlib.figure import Figure

    extent = np.multiply(grid.shape, grid.spacing)
    height = 3.1 * max(extent[1:]) / max(extent[:2])
    figure = Figure(figsize=(10, rows * height), layout="constrained")
    return figure, figure.subplots(rows, 3, squeeze=False)


def _search(result):
    """Energy and α against the iteration, and the posterior of α."""
    from matplotlib.figure import Figure

    from fourierreg.plotting import convergence, posterior

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    convergence(axes[0], axes[1], result)
    posterior(axes[2], result)
    note = "The interval is conditional on the noise it is quoted with."
    return _png(figure), note if result.alpha_interval is not None else ""


def _dice_picture(dice):
    """Before and after, a line per structure."""
    from matplotlib.figure import Figure

    names = [name for name in dice if name != "mean"]
    figure = Figure(figsize=(8, 1.2 + 0.22 * len(names)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(names))[::-1]
    before, after = np.array([dice[name] for name in names], dtype=float).T
    axes.hlines(places, before, after, color="0.7")
    axes.plot(before, places, "o", color="#999999", label="before (affine)")
    axes.plot(after, places, "o", color="#0072B2", label="after")
    axes.set_yticks(places, names)
    axes.set(xlabel="Dice overlap", xlim=(0, 1))
    axes.legend()
    return _png(figure), ""


def _of_table(folder):
    """Title, tables and pictures of a label run."""
    from fourierreg.labelling.folder import DONE, HEADER, read_table

    found = evaluate_table(folder)
    dice = found.pop("dice", None)
    header = json.loads((Path(folder) / HEADER).read_text())
    settings = {**header.pop("settings"), **header}
    rows = [row for row in read_table(folder) if row["state"] == DONE]
    pictures = [("α of all pairs", *_alpha_picture(rows))] if rows else []
    if dice:
        pictures.append(("Overlap of labels, mean over pairs", *_dice_picture(dice)))
    count = f"{found['pairs']} pair{'s' if found['pairs'] != 1 else ''}"
    return {
        "title": f"{count} in {Path(folder).name}",
        "made": max((row["finished"] for row in rows), default=""),
        "status": f"{len(rows)} of {count} are done, {found['failed']} failed or are missing.",
        "good": not found["failed"],
        "key": [(name.replace("_", " "), _text(value)) for name, value in found.items()],
        "pictures": pictures,
        "tables": [("Settings", [(name, _text(value)) for name, value in settings.items()])],
        "command": "",
        "dice": dice,
    }


def _alpha_picture(rows):
    """α with its interval, sorted, and against the displacement."""
    from matplotlib.figure import Figure

    alpha, low, high, moved = (
        numbers(rows, name) for name in ("alpha", "alpha_low", "alpha_high", "rms_displacement_mm")
    )
    order = np.argsort(alpha)
    bars = np.array([alpha - low, high - alpha])
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    style = {"fmt": ".", "color": "#0072B2", "ecolor": "#56B4E9", "elinewidth": 0.8}
    left.errorbar(np.arange(alpha.size), alpha[order], yerr=bars[:, order], **style)
    left.set(xlabel="pair, by its α", ylabel="α, 95 % interval", yscale="log")
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    right.errorbar(moved, alpha, yerr=bars, **style)
    right.set(xlabel="displacement, rms, mm")
    return _png(figure), ""


def _png(figure):
    """A figure as the address of an image that is inside the page."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
