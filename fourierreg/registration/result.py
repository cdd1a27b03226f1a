"""The result of a registration, and its file."""

import json
import math
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fourierreg.atomic import atomic_write
from fourierreg.backend import Array, asarray, to_numpy
from fourierreg.errors import InputError
from fourierreg.image.domain import Domain
from fourierreg.image.geometry import Geometry
from fourierreg.image.similarity import describe
from fourierreg.model.model import Model
from fourierreg.registration.older_formats import from_older_format
from fourierreg.spectral.band import Band
from fourierreg.spectral.metric import Metric

FORMAT = 4
_ARRAYS = (
    "velocity",
    "displacement",
    "inverse_displacement",
    "deformed",
    "jacobian_determinant",
    "displacement_sd",
)


class Record(NamedTuple):
    """One accepted iteration.

    Attributes
    ----------
    iteration : int
    shape : tuple of int
        Of the grid, in voxels.
    alpha, sigma, decimation : float
        `sigma` in units of intensity.
    prior, likelihood, objective : float
        In nats; `objective` is Eq. 6 (errata E1 to E3).
    gradient_norm : float
        L² norm of the gradient with respect to v₀, in nats per mm.
    seconds : float
        Since the start.
    """

    iteration: int
    shape: tuple[int, ...]
    alpha: float
    sigma: float
    decimation: float
    prior: float
    likelihood: float
    objective: float
    gradient_norm: float
    seconds: float


@dataclass(frozen=True, eq=False, repr=False)
class Registration:
    """A registration and, where it was inferred, its α with an error bar.

    Attributes
    ----------
    alpha : float
        Regularization strength, dimensionless.
    alpha_interval : tuple of float or None
        95 % interval of α (NaN where it could not be computed); None where α was given.
    sigma, decimation : float or None
        Noise σ in units of intensity, and virtual decimation ρ; α is quoted with both. None where
        the similarity has no noise.
    weight : float
        γ of Eq. 3: ρ/σ² for the sum of squares.
    model : Model
        With the number of time steps that was used.
    metric : Metric
        Of `velocity`, on the padded grid (`domain`).
    velocity : complex array, ``(d, *band)``
        Initial velocity v₀ in mm.
    displacement : array, (d, N_1, …, N_d)
        u in mm along the array axes: φ⁻¹(x) = x + u(x), so the deformed image is source(x + u).
    inverse_displacement : array, (d, N_1, …, N_d)
        w of φ(x) = x + w(x), which takes points of the source to the target.
    deformed : array, (N_1, …, N_d)
        Source resampled onto the target.
    jacobian_determinant : array, (N_1, …, N_d)
        det Dφ⁻¹; positive everywhere means no fold.
    history : tuple of Record
        One per accepted iteration.
    converged : bool
        Whether the registration ended as it should: by itself, or at the limits of iterations that
        its quality sets, at a minimum in α, where that was inferred, and with nothing to warn of
        but an inferred α that held-out voxels contradict.
    status : str
        A sentence on the outcome, or the `warnings`.
    seconds : float
        Wall-clock time of the whole call.
    domain : Domain
    flow_error : float or None
        Largest distance in mm between the end map and that of time steps half as long, where the
        steps were chosen by it.
    displacement_sd : array, (d, N_1, …, N_d), or None
        Posterior standard deviation of `displacement` in mm, given α and the noise, where it was
        asked for (`uncertainty`).
    log_evidence : float or None
        ln p(images | α, noise, model) in nats by Laplace's method, where it was asked for
        (`evidence`). Differences compare models (α, `Model.power`, `Model.velocity_scale`, …) of
        the same images at the same noise.
    log_evidence_error : float or None
        Its standard error, from the stochastic log-determinant of large bands; 0 for small ones.
    geometry, source_geometry : Geometry or None
        Scanner space of target and source, for nibabel images.
    scales : tuple of float
        What the intensities of source and target were divided by.
    warnings : tuple of str
        Reasons not to trust the result, each a sentence with a remedy.
    posterior : {"predictive", "marginal", "joint"} or None
        How α was inferred (`map_alpha`); None where it was given.
    held_out : tuple of (float, float), or None
        α and the dissimilarity of held-out voxels there, of every α that "predictive" tried.
    """

    alpha: float
    alpha_interval: tuple[float, float] | None
    sigma: float | None
    decimation: float | None
    weight: float
    model: Model
    metric: Metric
    velocity: Array
    displacement: Array
    inverse_displacement: Array
    deformed: Array
    jacobian_determinant: Array
    history: tuple[Record, ...]
    converged: bool
    status: str
    seconds: float
    domain: Domain
    flow_error: float | None = None
    displacement_sd: Array | None = None
    log_evidence: float | None = None
    log_evidence_error: float | None = None
    geometry: Geometry | None = None
    source_geometry: Geometry | None = None
    scales: tuple[float, float] = (1.0, 1.0)
    warnings: tuple[str, ...] = ()
    posterior: str | None = None
    held_out: tuple[tuple[float, float], ...] | None = None

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.domain.shape))
        return f"<Registration at alpha = {self.alpha:.3g}, {shape} voxels. {self.status}>"

    @property
    def spacing(self) -> tuple[float, ...]:
        """mm per voxel."""
        return self.metric.band.spacing

    @property
    def smoothing_length(self) -> float:
        """√α ℓ in mm."""
        return self.metric.smoothing_length

    @property
    def similarity(self) -> str:
        """Name of the similarity, with its parameters where they are not the default."""
        return describe(self.model.similarity)  # type: ignore[arg-type]

    @property
    def alpha_sd(self) -> float:
        """Standard deviation of ln α, from the interval."""
        if self.alpha_interval is None:
            return math.nan
        return math.log(self.alpha_interval[1] / self.alpha_interval[0]) / (2 * 1.96)

    def save(self, path: str | Path) -> None:
        """Write everything to one ``.npz`` file, all or nothing; OSError where that fails."""
        plain = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in (*_ARRAYS, "metric", "model")
        }
        plain["history"] = [list(record) for record in self.history]
        for name in ("domain", "geometry", "source_geometry"):
            plain[name] = None if plain[name] is None else asdict(plain[name])
        plain["metric"] = asdict(self.metric)
        plain["model"] = self.model.to_dict()
        header = json.dumps({"format": FORMAT, **plain})
        arrays = {
            name: to_numpy(getattr(self, name))
            for name in _ARRAYS
            if getattr(self, name) is not None
        }
        with atomic_write(path, "wb") as file:
            np.savez_compressed(file, header=np.array(header), **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | Path) -> "Registration":
        """Read what `save` wrote; arrays are allocated on the active backend.

        Raises
        ------
        InputError
            Not a file of `save`, or one of an unknown version.
        OSError
            The file does not exist or cannot be read.
        """
        try:
            archive = np.load(path, allow_pickle=False)
            known = isinstance(archive, np.lib.npyio.NpzFile) and "header" in archive
        except (ValueError, EOFError, zipfile.BadZipFile):  # not a NumPy file
            known = False
        if not known:
            raise InputError(f"{path}: expected a file written by Registration.save")
        with archive:
            header = json.loads(str(archive["header"]))
            arrays = {name: asarray(archive[name]) for name in _ARRAYS if name in archive}
        version = header.pop("format")
        if version in (2, 3):
            header = from_older_format(header, version)
        elif version != FORMAT:
            raise InputError(f"{path}: written by another version of fourierreg; save it again")
        return cls(**_parsed(header), **arrays)


def _parsed(header: dict[str, Any]) -> dict[str, Any]:
    """The fields of a `Registration` but its arrays, from their JSON."""
    metric = header.pop("metric")
    band = Band(**{key: tuple(value) for key, value in metric.pop("band").items()})
    header["metric"] = Metric(band=band, **metric)
    header["model"] = Model.from_dict(header["model"])
    header["scales"], header["warnings"] = (
        tuple(header.get(name, ())) for name in ("scales", "warnings")
    )
    header["history"] = tuple(Record(r[0], tuple(r[1]), *r[2:]) for r in header["history"])
    header["domain"] = Domain(**{k: tuple(v) for k, v in header["domain"].items()})
    for name in ("geometry", "source_geometry"):
        if header[name] is not None:
            grid = header[name]
            affine = tuple(map(tuple, grid.pop("affine")))
            sequences = {key: tuple(v) for key, v in grid.items() if isinstance(v, list)}
            header[name] = Geometry(affine=affine, **(grid | sequences))
    if header["alpha_interval"] is not None:
        header["alpha_interval"] = tuple(header["alpha_interval"])
    if header.get("held_out") is not None:
        header["held_out"] = tuple(map(tuple, header["held_out"]))
    return header
