"""Data sets of simulated bull-eye pairs: a folder with a manifest, one file per pair.

``dataset.json`` holds the parameters, ``manifest.csv`` a row per pair, ``pairs/000000.npz`` its
arrays. Pair i depends on the seed and i alone, so that an interrupted run goes on where it stopped
and a data set can be made longer.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fourierreg import checks
from fourierreg.atomic import replacing, write_table
from fourierreg.data.run_header import FORMAT, claim
from fourierreg.errors import InputError
from fourierreg.simulation.bullseye import bullseye, random_ellipses
from fourierreg.simulation.pair import simulate_pair

HEADER, MANIFEST = "dataset.json", "manifest.csv"


class StoredPair(NamedTuple):
    """A pair of a data set: images, displacement (mm) and its row of the manifest."""

    source: np.ndarray
    target: np.ndarray
    displacement: np.ndarray
    row: dict


class PairDataset(Sequence):
    """Pairs in a folder, read one at a time.

    Attributes
    ----------
    folder : Path
    parameters : dict
        What the data set was made with.
    rows : list of dict
        The manifest: `index`, `file`, `alpha`, half axes of both ellipses, `draws`.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        try:
            header = json.loads((self.folder / HEADER).read_text())
            with (self.folder / MANIFEST).open(newline="") as file:
                self.rows = [_typed(row) for row in csv.DictReader(file)]
        except OSError as error:
            raise InputError(
                f"folder: no complete data set in {self.folder} ({error.strerror}: "
                f"{Path(error.filename).name}); make it with make_bullseye_dataset"
            ) from error
        if header.pop("format") != FORMAT:
            raise InputError(f"folder: {self.folder} was made by another version; make it again")
        self.parameters = header["parameters"]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        with np.load(self.folder / row["file"], allow_pickle=False) as archive:
            return StoredPair(archive["source"], archive["target"], archive["displacement"], row)


def make_bullseye_dataset(
    folder,
    num_pairs,
    *,
    alphas,
    seed=0,
    shape=(100, 100),
    binary=False,
    vary_ellipses=True,
    sigma=0.03,
    modes=16,
    velocity_scale=1.0,
    callback=None,
):
    """Make (or finish) a data set of bull-eye pairs.

    Parameters
    ----------
    folder : path
    num_pairs : int
    alphas : sequence of float, or (low, high, "log-uniform")
        α of the pairs in turn; or a range from which ln α is drawn uniformly.
    seed : int
    shape, binary
        Of `bullseye`.
    vary_ellipses : bool
        Draw the half axes anew for every pair (`random_ellipses`).
    sigma, modes, velocity_scale
        Of `simulate_pair`; one s for all α of a data set.
    callback : callable, optional
        Called with (pairs done, `num_pairs`).

    Returns
    -------
    PairDataset

    Raises
    ------
    ValueError
        The folder holds a data set made with other parameters.
    """
    checks.count("num_pairs", num_pairs)
    folder, shape = Path(folder), checks.shape(shape)
    if sigma != 0:
        checks.positive("sigma", float(sigma))
    checks.modes(modes, shape)
    parameters = {
        "alphas": _checked_alphas(alphas),
        "seed": checks.count("seed", seed, minimum=0),
        "shape": list(shape),
        "binary": bool(binary),
        "vary_ellipses": bool(vary_ellipses),
        "sigma": float(sigma),
        "modes": checks.count("modes", modes, minimum=3),
        "velocity_scale": checks.positive("velocity_scale", float(velocity_scale)),
    }
    (folder / "pairs").mkdir(parents=True, exist_ok=True)
    claim(folder / HEADER, parameters, "folder")
    rows = []
    for index in range(num_pairs):
        rows.append(_make_pair(folder, index, parameters))
        if callback is not None:
            callback(index + 1, num_pairs)
    write_table(folder / MANIFEST, rows)
    return PairDataset(folder)


def _checked_alphas(alphas):
    if np.ndim(alphas) != 1 or len(alphas) == 0:
        raise InputError(
            f"alphas: expected a sequence of numbers, or (low, high, 'log-uniform'); got {alphas!r}"
        )
    if len(alphas) == 3 and alphas[2] == "log-uniform":
        low, high = (checks.positive("alphas", float(a)) for a in alphas[:2])
        return [low, high, "log-uniform"]
    return [checks.positive("alphas", float(a)) for a in alphas]


def _make_pair(folder, index, parameters):
    """The manifest's row of a pair, made if its file is not there yet."""
    name = f"pairs/{index:06d}.npz"
    path = folder / name
    if path.exists():
        with np.load(path, allow_pickle=False) as archive:
            return json.loads(str(archive["row"]))
    rng = np.random.default_rng([parameters["seed"], index])
    alphas, shape = parameters["alphas"], tuple(parameters["shape"])
    alpha = alphas[index % len(alphas)]
    if alphas[-1] == "log-uniform":
        alpha = float(np.exp(rng.uniform(*np.log(alphas[:2]))))
    ellipses = random_ellipses(shape, rng) if parameters["vary_ellipses"] else {}
    source = bullseye(shape, binary=parameters["binary"], **ellipses)
    names = ("sigma", "modes", "velocity_scale")
    pair = simulate_pair(source, alpha=alpha, seed=rng, **{k: parameters[k] for k in names})
    row = {"index": index, "file": name, "alpha": alpha, "draws": pair.draws}
    for key, axes in ellipses.items():
        row |= {f"{key}_a": axes[0], f"{key}_b": axes[1]}
    with replacing(path, "wb") as file:
        np.savez_compressed(
            file,
            source=pair.source,
            target=pair.target,
            displacement=pair.displacement,
            row=np.array(json.dumps(row)),
        )
    return row


def _typed(row):
    """A row of the manifest with numbers as numbers."""
    whole = ("index", "draws")
    return {
        key: int(v) if key in whole else v if key == "file" else float(v) for key, v in row.items()
    }
