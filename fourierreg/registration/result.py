"""What a registration gives back."""

import json
import math
import zipfile
from dataclasses import asdict, dataclass, fields

import numpy as np

from fourierreg.atomic import replacing
from fourierreg.backend import asarray, to_numpy
from fourierreg.errors import InputError
from fourierreg.image.domain import Domain
from fourierreg.image.geometry import Geometry
from fourierreg.registration.multiresolution import Record
from fourierreg.spectral.band import Band
from fourierreg.spectral.metric import Metric

FORMAT = 2
_ARRAYS = (
    "velocity",
    "displacement",
    "inverse_displacement",
    "deformed",
    "jacobian_determinant",
    "displacement_sd",
)


@dataclass(frozen=True, eq=False, repr=False)
class Registration:
    """A registration and, where it was inferred, its α with an error bar.

    Attributes
    ----------
    alpha : float
        Regularization strength, dimensionless.
    alpha_interval : tuple of float or None
        95 % interval of α (NaN where there is none); None where α was given.
    smoothing_length : float
        √α ℓ in mm.
    sigma, decimation : float or None
        Noise σ in units of intensity, and virtual decimation ρ; α is quoted with both. None where
        the similarity has none.
    metric : Metric
        Of `velocity`, on the padded grid (`domain`).
    velocity : complex array, (d, *band)
        Initial velocity v₀ in mm.
    displacement : array, (d, N_1, …, N_d)
        u in mm along the array axes: φ⁻¹(x) = x + u(x), so the deformed image is source(x + u).
    inverse_displacement : array, (d, N_1, …, N_d)
        Of φ: target(x + w) lies on the source.
    deformed : array, (N_1, …, N_d)
        Source on the target.
    jacobian_determinant : array, (N_1, …, N_d)
        det Dφ⁻¹; positive everywhere means no fold.
    displacement_sd : array, (d, N_1, …, N_d), or None
        Posterior standard deviation of `displacement` in mm, given α and the noise, where it was
        asked for (`uncertainty`).
    history : tuple of Record
        One per accepted iteration.
    converged : bool
    status : str
        A sentence, with a remedy where `converged` is False.
    seconds : float
        Wall-clock time of the whole call.
    domain : Domain
    num_steps, integrator, dynamics
        Of the geodesic.
    space : {"bandlimited", "full"}
    similarity : str
        Its name, with its parameters where they are not the default.
    weight : float
        γ of Eq. 3: ρ/σ² for the sum of squares.
    geometry, source_geometry : Geometry or None
        Scanner space of target and source, where the images brought it.
    scales : tuple of float
        What the intensities of source and target were divided by.
    """

    alpha: float
    alpha_interval: tuple | None
    smoothing_length: float
    sigma: float | None
    decimation: float | None
    metric: Metric
    velocity: object
    displacement: object
    inverse_displacement: object
    deformed: object
    jacobian_determinant: object
    history: tuple
    converged: bool
    status: str
    seconds: float
    domain: Domain
    num_steps: int
    integrator: str
    dynamics: str
    space: str
    similarity: str
    weight: float
    displacement_sd: object | None = None
    geometry: Geometry | None = None
    source_geometry: Geometry | None = None
    scales: tuple = (1.0, 1.0)

    def __repr__(self):
        shape = "×".join(map(str, self.domain.shape))
        return f"<Registration at alpha = {self.alpha:.3g}, {shape} voxels. {self.status}>"

    @property
    def spacing(self):
        """mm per voxel."""
        return self.metric.band.spacing

    @property
    def alpha_sd(self):
        """Standard deviation of ln α, from the interval."""
        if self.alpha_interval is None:
            return math.nan
        return math.log(self.alpha_interval[1] / self.alpha_interval[0]) / (2 * 1.96)

    def save(self, path):
        """Write everything to one ``.npz`` file, all or nothing; OSError where that fails."""
        plain = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in (*_ARRAYS, "metric")
        }
        plain["history"] = [list(record) for record in self.history]
        for name in ("domain", "geometry", "source_geometry"):
            plain[name] = None if plain[name] is None else asdict(plain[name])
        plain["metric"] = asdict(self.metric)
        header = json.dumps({"format": FORMAT, **plain})
        arrays = {
            name: to_numpy(getattr(self, name))
            for name in _ARRAYS
            if getattr(self, name) is not None
        }
        with replacing(path, "wb") as file:
            np.savez_compressed(file, header=np.array(header), **arrays)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote; arrays are born on the active backend.

        Raises
        ------
        ValueError
            Not a file of `save`, or one of another version.
        OSError
            No such file, or one that cannot be read.
        """
        try:
            archive = np.load(path, allow_pickle=False)
            known = isinstance(archive, np.lib.npyio.NpzFile) and "header" in archive
        except (ValueError, EOFError, zipfile.BadZipFile):  # no file of NumPy's
            known = False
        if not known:
            raise InputError(f"{path}: expected a file written by Registration.save")
        with archive:
            header = json.loads(str(archive["header"]))
            arrays = {name: asarray(archive[name]) for name in _ARRAYS if name in archive}
        if header.pop("format") != FORMAT:
            raise InputError(f"{path}: written by another version of fourierreg; save it again")
        metric = header.pop("metric")
        band = Band(**{key: tuple(value) for key, value in metric.pop("band").items()})
        header["metric"] = Metric(band=band, **metric)
        header["scales"] = tuple(header.get("scales", (1.0, 1.0)))
        header["history"] = tuple(Record(r[0], tuple(r[1]), *r[2:]) for r in header["history"])
        header["domain"] = Domain(**{k: tuple(v) for k, v in header["domain"].items()})
        for name in ("geometry", "source_geometry"):
            if header[name] is not None:
                affine = tuple(map(tuple, header[name]["affine"]))
                header[name] = Geometry(tuple(header[name]["shape"]), affine)
        if header["alpha_interval"] is not None:
            header["alpha_interval"] = tuple(header["alpha_interval"])
        return cls(**header, **arrays)
