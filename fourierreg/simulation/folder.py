"""Sets of pairs of a known α made from given images: training data with the truth.

A folder holds ``simulate.json`` (what all pairs are made with), ``pairs/000000_source.nii.gz`` and
``…_target.nii.gz`` (labels alongside), and ``pairs.csv``, a manifest with the truth in further
columns. Pair i depends on the seed and on i alone, so that an interrupted run goes on where it
stopped and a set can be made longer.
"""

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from fourierreg import checks
from fourierreg.atomic import replacing, temporary_path, write_table
from fourierreg.data import cluster as engine
from fourierreg.data.manifest import Pair, check_pairs
from fourierreg.data.nifti import read_image, read_labels, resized, sha256
from fourierreg.data.run_header import claim
from fourierreg.errors import InputError
from fourierreg.image.geometry import Geometry, foreground_scale, resample_onto
from fourierreg.simulation.pair import simulate_carried_pair
from fourierreg.spectral.metric import Metric

HEADER, MANIFEST, PAIRS = "simulate.json", "pairs.csv", "pairs"
FAINTEST = 1e-3  # of the scale: resampling leaves less than this around a brain


def simulate_pairs(
    scans,
    out,
    num_pairs,
    *,
    alphas=(3.0, 12.0),
    sigma=0.03,
    seed=0,
    size=None,
    modes=16,
    velocity_scale=None,
    splits=None,
    workers=None,
    callback=None,
):
    """Make (or finish) a set of pairs by geodesics drawn from the prior (`simulate_carried_pair`).

    Parameters
    ----------
    scans : sequence of Scan
        Skull-stripped images; pair i comes from scan i modulo their number.
    out : path
    num_pairs : int
    alphas : (low, high)
        ln α is drawn uniformly between. At the default `velocity_scale` maps of α below 3 fold
        often and are drawn again, which favours the smooth ones.
    sigma : float
        Of the noise on either image, in units of the image's 99.5th percentile.
    seed : int
    size : int, optional
        Images are resampled to so many voxels on their longest axis.
    modes, velocity_scale
        Of the `Metric`.
    splits : dict, optional
        Subject to split, as of `split_subjects` or an existing manifest.
    workers : int, optional
        Processes; one per core by default.
    callback : callable, optional
        Called with (pairs done, `num_pairs`).

    Returns
    -------
    list of dict
        The rows of ``pairs.csv``.

    Raises
    ------
    InputError
        Bad images; a folder of other parameters; a subject without a split.
    RuntimeError
        Every draw folds.
    ImportError
        Dask is not installed: ``pip install 'fourierreg[label]'``.
    """
    low, high = (checks.positive("alphas", float(a)) for a in alphas)
    if low > high:
        raise InputError(f"alphas: expected low, high; got {low:g}, {high:g}")
    checks.count("num_pairs", num_pairs)
    scans, out = [_absolute(scan) for scan in scans], Path(out)
    if splits is not None:
        unknown = sorted({s.subject for s in scans} - set(splits))
        if unknown:
            raise InputError(
                f"splits: no split is known for {', '.join(unknown)}; leave these images out, or "
                "give a manifest that has them"
            )
    parameters = {
        "alphas": [low, high],
        "sigma": float(sigma) if sigma == 0 else checks.positive("sigma", float(sigma)),
        "seed": checks.count("seed", seed, minimum=0),
        "size": None if size is None else checks.count("size", size, minimum=16),
        "modes": checks.count("modes", modes, minimum=3),
        "velocity_scale": velocity_scale,
        "images": [[scan.subject, sha256(scan.image)] for scan in scans],
    }
    (out / PAIRS).mkdir(parents=True, exist_ok=True)
    claim(out / HEADER, parameters, "out")
    rows, jobs = {}, []
    for index in range(num_pairs):
        path = out / PAIRS / f"{index:06d}.json"
        if path.exists():
            rows[index] = json.loads(path.read_text())
        else:
            jobs.append((tuple(scans[index % len(scans)]), str(out), index, parameters))
    with engine.pool(workers, None, "numpy", len(jobs)) as run:
        for place, row in run(make_pair, jobs):
            if isinstance(row, Exception):
                raise row
            rows[jobs[place][2]] = row
            if callback is not None:
                callback(len(rows), num_pairs)
    table = [rows[index] for index in range(num_pairs)]
    for row in table:
        row["split"] = "" if splits is None else splits[row["source_subject"]]
    check_pairs([Pair(**{name: row[name] for name in Pair._fields}) for row in table])
    write_table(out / MANIFEST, table)
    return table


def _absolute(scan):
    """Its files by paths that do not depend on where they are read."""
    files = [str(Path(name).resolve()) if name else "" for name in (scan.image, scan.labels)]
    return scan._replace(image=files[0], labels=files[1])


def make_pair(scan, folder, index, parameters):
    """Files and row of one pair. Runs on a worker."""
    subject, session, image_path, labels_path = scan
    image = resized(read_image(image_path, "image"), parameters["size"])
    geometry = Geometry.of(image)
    data = np.asarray(image.dataobj, dtype=np.float32)
    data /= np.float32(foreground_scale(data))
    data[data < FAINTEST] = 0
    labels = None
    if labels_path:
        found = read_labels(labels_path, "labels")
        values = np.asanyarray(found.dataobj)
        where = Geometry.of(found)
        moved = resample_onto(values.astype(np.float64), where, geometry, order=0)
        labels = moved.astype(values.dtype)
    low, high = parameters["alphas"]
    rng = np.random.default_rng([parameters["seed"], index])
    alpha = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    metric = Metric.create(
        geometry.shape,
        spacing=geometry.spacing,
        modes=parameters["modes"],
        alpha=alpha,
        velocity_scale=parameters["velocity_scale"],
    )
    setting = {"carrier_alpha": high, "sigma": parameters["sigma"], "seed": rng, "labels": labels}
    pair = simulate_carried_pair(data, metric, **setting)
    stem = f"{PAIRS}/{index:06d}"
    names = {}
    for name in ("source", "target", "source_labels", "target_labels"):
        values = getattr(pair, name)
        names[name] = "" if values is None else f"{stem}_{name}.nii.gz"
        if values is not None:
            volume = nib.Nifti1Image(values, geometry.matrix, dtype=values.dtype)
            volume.header.set_xyzt_units("mm")
            with temporary_path(Path(folder) / names[name]) as path:
                nib.save(volume, path)
    row = {
        **Pair(*names.values(), subject, subject, session)._asdict(),
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
    with replacing(Path(folder) / f"{stem}.json") as file:
        json.dump(row, file)
    return row
