"""Folders of simulated pairs made from given NIfTI images: training data with known α.

The folder has ``simulate.json`` with the parameters, ``pairs/000000_source.nii.gz`` and
``pairs/000000_target.nii.gz`` and so on (and their labels), and ``pairs.csv``, a manifest with the
true α and other properties in further columns. Pair i depends only on the seed and i, so that an
interrupted run resumes and a data set can be extended.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from fourierreg import checks
from fourierreg.atomic import atomic_write, temporary_path, write_table
from fourierreg.data.cluster import worker_pool
from fourierreg.data.manifest import Pair, check_pairs
from fourierreg.data.nifti import read_image, read_labels, resized, sha256
from fourierreg.data.run_header import ensure_header
from fourierreg.data.scans import Scan
from fourierreg.errors import InputError
from fourierreg.image.foreground import foreground_scale
from fourierreg.image.geometry import Geometry, resample_onto
from fourierreg.model.model import Model, model_of
from fourierreg.simulation.pair import MatchedPair, simulate_matched_pair

HEADER, MANIFEST, PAIRS = "simulate.json", "pairs.csv", "pairs"
NEAR_ZERO = 1e-3  # relative to the foreground scale; resampling leaves less around a brain


def simulate_pairs(
    scans: Sequence[Scan],
    out: Path | str,
    num_pairs: int,
    *,
    alphas: tuple[float, float] = (3.0, 12.0),
    sigma: float = 0.03,
    seed: int = 0,
    size: int | None = None,
    modes: int | None = None,
    velocity_scale: float | None = None,
    model: Model | None = None,
    splits: Mapping[str, str] | None = None,
    workers: int | None = None,
    callback: Callable[[int, int], object] | None = None,
) -> list[dict[str, Any]]:
    """Simulate pairs of known α from images (`simulate_matched_pair`) into a folder.

    Pairs that the folder already has are kept.

    Parameters
    ----------
    scans : sequence of Scan
        Skull-stripped images; pair i is made from scan i modulo their number.
    out : path
    num_pairs : int
    alphas : (low, high)
        Range of a uniform distribution of ln α. At the default `velocity_scale`, maps with α below
        3 often fold and are rejected, which biases the pairs toward smooth maps.
    sigma : float
        Standard deviation of the noise of both images, relative to the 99.5th percentile of the
        image's foreground.
    seed : int
    size : int, optional
        Number of voxels of the longest axis that images are resampled to.
    modes, velocity_scale
        Fields of `Model`; they override those of `model`.
    model : Model, optional
        The prior and the flow; 10 time steps by default.
    splits : dict, optional
        Split of each subject, as from `split_subjects` or an existing manifest.
    workers : int, optional
        Number of processes; by default one per core.
    callback : callable, optional
        Called with (number of pairs done, `num_pairs`).

    Returns
    -------
    list of dict
        The rows of ``pairs.csv``.

    Raises
    ------
    InputError
        An image is unusable, the folder has pairs of other parameters, a subject has no split, or
        1000 samples of a deformation were rejected (`draw_diffeomorphism`).
    MissingDependencyError
        Dask is not installed: ``pip install 'fourierreg[label]'``.
    """
    checks.count("num_pairs", num_pairs)
    scans, out = [_with_absolute_paths(scan) for scan in scans], Path(out)
    if splits is not None:
        _check_splits(splits, scans)
    model = model_of(model, modes=modes, velocity_scale=velocity_scale)
    parameters = _parameters(scans, alphas, sigma, seed, size, model)
    (out / PAIRS).mkdir(parents=True, exist_ok=True)
    ensure_header(out / HEADER, parameters, "out")
    rows, jobs = {}, []
    for index in range(num_pairs):
        path = out / PAIRS / f"{index:06d}.json"
        if path.exists():
            rows[index] = json.loads(path.read_text())
        else:
            jobs.append((tuple(scans[index % len(scans)]), str(out), index, parameters))
    with worker_pool(workers, None, "numpy", len(jobs)) as run:
        for job, row in run(write_simulated_pair, jobs):
            if isinstance(row, Exception):
                raise row
            rows[jobs[job][2]] = row
            if callback is not None:
                callback(len(rows), num_pairs)
    table = [rows[index] for index in range(num_pairs)]
    for row in table:
        row["split"] = "" if splits is None else splits[row["source_subject"]]
    check_pairs([Pair(**{name: row[name] for name in Pair._fields}) for row in table])
    write_table(out / MANIFEST, table)
    return table


def _with_absolute_paths(scan: Scan) -> Scan:
    """Copy of a scan with absolute paths."""
    paths = [str(Path(name).resolve()) if name else "" for name in (scan.image, scan.labels)]
    return scan._replace(image=paths[0], labels=paths[1])


def _check_splits(splits: Mapping[str, str], scans: Sequence[Scan]) -> None:
    """Check that every subject has a split."""
    unknown = sorted({s.subject for s in scans} - set(splits))
    if unknown:
        raise InputError(
            f"splits: no split is known for {', '.join(unknown)}; leave these images out, or "
            "give a manifest that has them"
        )


def _parameters(
    scans: Sequence[Scan],
    alphas: tuple[float, float],
    sigma: float,
    seed: int,
    size: int | None,
    model: Model,
) -> dict[str, Any]:
    """Validated parameters of all pairs, as in the header of the folder."""
    low, high = (checks.positive("alphas", float(a)) for a in alphas)
    if low > high:
        raise InputError(f"alphas: expected low, high; got {low:g}, {high:g}")
    parameters = {
        "alphas": [low, high],
        "sigma": float(sigma) if sigma == 0 else checks.positive("sigma", float(sigma)),
        "seed": checks.count("seed", seed, minimum=0),
        "size": None if size is None else checks.count("size", size, minimum=16),
        "modes": model.modes if isinstance(model.modes, int) else list(model.modes),
        "velocity_scale": model.velocity_scale,
        "images": [[scan.subject, sha256(scan.image)] for scan in scans],
    }
    others = {k: v for k, v in model.to_dict().items() if k not in parameters}
    return {**parameters, "model": others} if others else parameters


def write_simulated_pair(
    scan: tuple[str, str, str, str], folder: str, index: int, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Simulate a pair and write its files; return its row of the manifest. Runs on a worker.

    Parameters
    ----------
    scan : tuple
        Fields of a `Scan`.
    folder : str
    index : int
        Number of the pair.
    parameters : dict
        Contents of the header of the folder.
    """
    subject, session, image_path, labels_path = scan
    data, labels, geometry = _read_scan(image_path, labels_path, parameters["size"])
    low, high = parameters["alphas"]
    rng = np.random.default_rng([parameters["seed"], index])
    alpha = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    model = Model.from_dict(parameters.get("model", {})).with_fields(
        modes=parameters["modes"], velocity_scale=parameters["velocity_scale"]
    )
    metric = model.metric(geometry.shape, geometry.spacing, alpha)
    pair = simulate_matched_pair(
        data,
        metric,
        common_alpha=high,
        model=model,
        sigma=parameters["sigma"],
        seed=rng,
        labels=labels,
    )
    stem = f"{PAIRS}/{index:06d}"
    files = _write_images(pair, geometry, Path(folder), stem)
    row = {
        **Pair(**files, source_subject=subject, target_subject=subject, session=session)._asdict(),
        "alpha": alpha,
        "sigma": parameters["sigma"],
        "velocity_scale_mm": metric.velocity_scale,
        "reference_length_mm": metric.reference_length,
        "modes": "x".join(map(str, metric.band.modes)),
        "shape": "x".join(map(str, geometry.shape)),
        "spacing_mm": "x".join(f"{h:.6g}" for h in geometry.spacing),
        "max_displacement_mm": float(abs(pair.displacement).max()),
        "draws": pair.draws,
        "image": str(image_path),
    }
    with atomic_write(Path(folder) / f"{stem}.json") as file:
        json.dump(row, file)
    return row


def _read_scan(
    image_path: str, labels_path: str, size: int | None
) -> tuple[np.ndarray, np.ndarray | None, Geometry]:
    """Normalized intensities of a scan, its labels on the same grid or None, and the grid."""
    image = resized(read_image(image_path, "image"), size)
    geometry = Geometry.of(image)
    data = np.asarray(image.dataobj, dtype=np.float32)
    data /= np.float32(foreground_scale(data))
    data[data < NEAR_ZERO] = 0
    if not labels_path:
        return data, None, geometry
    label_image = read_labels(labels_path, "labels")
    values = np.asanyarray(label_image.dataobj)
    grid = Geometry.of(label_image)
    resampled = resample_onto(values.astype(np.float64), grid, geometry, order=0)
    return data, resampled.astype(values.dtype), geometry


def _write_images(pair: MatchedPair, geometry: Geometry, folder: Path, stem: str) -> dict[str, str]:
    """Write the images and labels of a pair; return their paths relative to the folder."""
    files = {}
    for name in ("source", "target", "source_labels", "target_labels"):
        values = getattr(pair, name)
        files[name] = "" if values is None else f"{stem}_{name}.nii.gz"
        if values is not None:
            image = nib.Nifti1Image(values, geometry.matrix, dtype=values.dtype)
            image.header.set_xyzt_units("mm")
            with temporary_path(folder / files[name]) as path:
                nib.save(image, path)
    return files
