"""Figures of the HTML report. Each function returns a matplotlib figure and a note on it."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np

from fourierreg.backend import Array
from fourierreg.image.geometry import Geometry
from fourierreg.registration.result import Registration
from fourierreg.results.evaluation import numeric_column
from fourierreg.results.folder import scalar_image

DPI = 90
ROW_HEIGHT = 3.1  # inches, per row of three planes
MIN_DETERMINANT = 1e-3  # lower bound before the logarithm
NONNEGATIVE = {"low": 0.0, "cmap": "viridis"}  # style of maps of nonnegative values

Figure = tuple[Any, str]


def png_data_url(figure: Any) -> str:
    """PNG image of a figure as a data URL, to embed in HTML."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def encoded(pictures: Sequence[tuple[str, Any, str]]) -> list[tuple[str, str, str]]:
    """Pictures as (heading, data URL, note), from (heading, figure, note)."""
    return [(heading, png_data_url(figure), note) for heading, figure, note in pictures]


def text_of(value: Any) -> str:
    """Text of a value; a list or dict as its items or keys, separated by commas."""
    if isinstance(value, list | dict):
        return ", ".join(text_of(v) for v in value)
    return f"{value:.5g}" if isinstance(value, float) else str(value)


class RegistrationFigures:
    """Figures of the images and the deformation of a registration.

    Images are reoriented to the closest canonical (RAS) orientation.

    Attributes
    ----------
    result : Registration
        With geometry.
    geometry : Geometry
        Grid of the registration.
    canonical : Geometry
        The same grid after reorientation.
    """

    def __init__(self, result: Registration) -> None:
        if result.geometry is None:
            raise ValueError("result: expected a registration of images with geometry")
        self.result: Any = result
        self.geometry = result.geometry
        self.canonical = Geometry.of(
            nib.as_closest_canonical(scalar_image(result.deformed, self.geometry))
        )

    def reorient(self, data: Array) -> np.ndarray:
        """Reorient an array on the registration's grid to the canonical grid."""
        image = scalar_image(np.asarray(data, dtype=np.float32), self.geometry)
        return np.asarray(nib.as_closest_canonical(image).dataobj)

    def reoriented_displacement(self) -> np.ndarray:
        """Displacement on the canonical grid, in mm along its axes."""
        ras = np.tensordot(self.geometry.directions, self.result.displacement, axes=1)
        reoriented = np.stack([self.reorient(component) for component in ras])
        return np.tensordot(self.canonical.directions.T, reoriented, axes=1)

    def images(self, source: np.ndarray | None, target: np.ndarray | None) -> Figure:
        """Source, target, deformed source with the deformed grid, and residuals.

        Images that are None and their residuals are omitted.
        """
        from fourierreg.plotting import orthogonal_views, show_grid
        from fourierreg.plotting.views import VIEWS

        deformed = self.result.deformed
        rows = {"source": source, "target": target, "deformed source, grid of φ⁻¹": deformed}
        rows = {name: image for name, image in rows.items() if image is not None}
        residuals = {}
        if target is not None and source is not None:
            residuals = {"residual before": source - target, "residual after": deformed - target}
        figure, axes = row_axes(len(rows) + len(residuals), self.canonical)
        for line, (name, image) in zip(axes, rows.items(), strict=False):
            orthogonal_views(line, self.reorient(image), spacing=self.canonical.spacing)
            line[0].set_ylabel(name)
        displacement = self.reoriented_displacement()
        for ax, (_, axis) in zip(axes[len(rows) - 1], VIEWS, strict=True):
            show_grid(ax, displacement, self.canonical.spacing, axis=axis)
        if not residuals:
            note = "The input images were moved or changed after the run, so they are not shown."
            return figure, note
        self._draw_residuals(figure, axes[len(rows) :], residuals)
        return figure, ""

    def _draw_residuals(
        self, figure: Any, axes: Sequence[Any], residuals: Mapping[str, np.ndarray]
    ) -> None:
        """Draw the residuals on a common color scale."""
        from fourierreg.plotting import map_views

        limit = float(np.percentile(np.abs(residuals["residual before"]), 99.5)) or 1.0
        style: dict[str, Any] = {
            "low": -limit,
            "high": limit,
            "cmap": "RdBu_r",
            "spacing": self.canonical.spacing,
        }
        for line, (name, residual) in zip(axes, residuals.items(), strict=True):
            mappable = map_views(line, self.reorient(residual), **style)
            line[0].set_ylabel(name)
        label = "intensity difference (normalized)"
        figure.colorbar(mappable, ax=axes, label=label, shrink=0.7)

    def deformation(self) -> Figure:
        """Log-Jacobian, displacement magnitude and, if available, its standard deviation."""
        from fourierreg.plotting import map_views

        result = self.result
        log_determinant = np.log(np.maximum(result.jacobian_determinant, MIN_DETERMINANT))
        maps: list[tuple[str, np.ndarray, dict[str, Any]]] = [
            ("ln det Dφ⁻¹", log_determinant, {}),
            ("displacement, mm", _magnitude(result.displacement), NONNEGATIVE),
        ]
        if result.displacement_sd is not None:
            deviation = _magnitude(result.displacement_sd)
            maps.append(("standard deviation of displacement, mm", deviation, NONNEGATIVE))
        figure, axes = row_axes(len(maps), self.canonical)
        for line, (name, values, style) in zip(axes, maps, strict=True):
            mappable = map_views(
                line, self.reorient(values), spacing=self.canonical.spacing, **style
            )
            figure.colorbar(mappable, ax=line, label=name, shrink=0.8)
        return figure, "Where ln det Dφ⁻¹ is positive, the deformation compresses the source."


def _magnitude(field: np.ndarray) -> np.ndarray:
    """Euclidean norm over the components of a vector field."""
    return np.sqrt(np.square(field).sum(axis=0))


def row_axes(rows: int, grid: Geometry) -> tuple[Any, Any]:
    """Figure with rows of three planes, of a height that fits the grid."""
    from matplotlib.figure import Figure

    extent = np.multiply(grid.shape, grid.spacing)
    height = ROW_HEIGHT * max(extent[1:]) / max(extent[:2])
    figure = Figure(figsize=(10, rows * height), layout="constrained")
    return figure, figure.subplots(rows, 3, squeeze=False)


def search_figure(result: Registration) -> Figure:
    """Energy and α against the iteration, and what α was inferred from."""
    from matplotlib.figure import Figure

    from fourierreg.plotting import convergence, posterior

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    convergence(axes[0], axes[1], result)
    posterior(axes[2], result)
    if result.alpha_interval is None:
        return figure, ""
    if result.held_out:
        return figure, (
            "Right: how badly registrations of half of the voxels predict the other half. α is at "
            "the minimum; the flatter it is, the less the images say about α."
        )
    return figure, "The interval is conditional on the noise level stated above."


def dice_figure(dice: Mapping[str, Sequence[float]]) -> Figure:
    """Dice overlap of each structure before and after registration."""
    from matplotlib.figure import Figure

    names = [name for name in dice if name != "mean"]
    figure = Figure(figsize=(8, 1.2 + 0.22 * len(names)), layout="constrained")
    axes = figure.subplots()
    positions = np.arange(len(names))[::-1]
    before, after = np.array([dice[name] for name in names], dtype=float).T
    axes.hlines(positions, before, after, color="0.7")
    axes.plot(before, positions, "o", color="#999999", label="before (affine)")
    axes.plot(after, positions, "o", color="#0072B2", label="after")
    axes.set_yticks(positions, names)
    axes.set(xlabel="Dice overlap", xlim=(0, 1))
    axes.legend()
    return figure, ""


def alpha_figure(rows: Sequence[Mapping[str, str]]) -> Figure:
    """α of the pairs of a label run with its interval, sorted, and against the displacement."""
    from matplotlib.figure import Figure

    names = ("alpha", "alpha_low", "alpha_high", "rms_displacement_mm")
    alpha, low, high, displacement = (numeric_column(rows, name) for name in names)
    order = np.argsort(alpha)
    errors = np.array([alpha - low, high - alpha])
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    style: dict[str, Any] = {
        "fmt": ".",
        "color": "#0072B2",
        "ecolor": "#56B4E9",
        "elinewidth": 0.8,
    }
    left.errorbar(np.arange(alpha.size), alpha[order], yerr=errors[:, order], **style)
    left.set(xlabel="pair, sorted by α", ylabel="α, 95 % interval", yscale="log")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.yaxis.set_major_formatter("{x:g}")
    left.yaxis.set_minor_formatter("{x:g}")
    right.errorbar(displacement, alpha, yerr=errors, **style)
    right.set(xlabel="rms displacement, mm")
    return figure, ""


def beside_figure(result: Registration, rows: Sequence[Mapping[str, str]]) -> Figure:
    """α of a registration among those of the pairs of a label run."""
    figure, _ = alpha_figure(rows)
    shown: Any = result
    for axes, label in zip(figure.axes, ("this pair", None), strict=True):
        axes.axhline(shown.alpha, color="#D55E00", label=label)
        if shown.alpha_interval is not None and np.all(np.isfinite(shown.alpha_interval)):
            axes.axhspan(*shown.alpha_interval, color="#D55E00", alpha=0.15)
    figure.axes[0].legend()
    alphas = numeric_column(rows, "alpha")
    share = 100 * float(np.mean(alphas < shown.alpha))
    powers = {float(row["power"]) for row in rows}
    note = f"{share:.0f} % of {len(rows)} pairs have a smaller α."
    if powers != {shown.metric.power}:
        note += " Their model is another one (exponent c), so that the values do not compare."
    return figure, note
