"""Data sets of simulated bull's-eye pairs: 2D arrays in a folder, read one pair at a time.

The folder has ``dataset.json`` with the parameters, ``manifest.csv`` with a row per pair, and
``pairs/000000.npz`` and so on with the arrays. Pair i depends only on the seed and i, so that an
interrupted run resumes and a data set can be extended.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fourierreg import checks
from fourierreg.atomic import atomic_write, write_table
from fourierreg.data.run_header import FORMAT, ensure_header
from fourierreg.errors import InputError
from fourierreg.simulation.bullseye import bullseye, random_ellipses
from fourierreg.simulation.pair import simulate_pair

HEADER, MANIFEST = "dataset.json", "manifest.csv"


class StoredPair(NamedTuple):
    """A pair of a data set: images, displacement (mm) and its row of the manifest."""

    source: np.ndarray
    target: np.ndarray
    displacement: np.ndarray
    row: dict[str, Any]


class PairDataset(Sequence[StoredPair]):
    """Sequence of the pairs in a folder, read from disk when indexed.

    Attributes
    ----------
    folder : Path
    parameters : dict
        Parameters that the data set was made with.
    rows : list of dict
        The manifest: `index`, `file`, `alpha`, semi-axes of both ellipses, `draws`.

    Raises
    ------
    InputError
        The folder has no complete data set, or one of another format version.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        try:
            header = json.loads((self.folder / HEADER).read_text())
            with (self.folder / MANIFEST).open(newline="") as file:
                self.rows = [_parse_row(row) for row in csv.DictReader(file)]
        except OSError as error:
            raise InputError(
                f"folder: no complete data set in {self.folder} ({error.strerror}: "
                f"{Path(error.filename).name}); make it with make_bullseye_dataset"
            ) from error
        if header.pop("format") != FORMAT:
            raise InputError(
                f"folder: {self.folder} was made by another version of fourierreg; make it again"
            )
        self.parameters: dict[str, Any] = header["parameters"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> StoredPair:  # type: ignore[override]
        row = self.rows[index]
        with np.load(self.folder / row["file"], allow_pickle=False) as archive:
            return StoredPair(archive["source"], archive["target"], archive["displacement"], row)


def make_bullseye_dataset(
    folder: Path | str,
    num_pairs: int,
    *,
    alphas: Sequence[float | str],
    seed: int = 0,
    shape: Sequence[int] = (100, 100),
    binary: bool = False,
    vary_ellipses: bool = True,
    sigma: float = 0.03,
    modes: int = 16,
    velocity_scale: float = 1.0,
    callback: Callable[[int, int], object] | None = None,
) -> PairDataset:
    """Make a data set of bull's-eye pairs, or resume an interrupted one.

    Parameters
    ----------
    folder : path
    num_pairs : int
    alphas : sequence of float, or (low, high, "log-uniform")
        Values of α that the pairs cycle through, or the range of a uniform distribution of ln α.
    seed : int
    shape, binary
        As for `bullseye`.
    vary_ellipses : bool
        Draw new semi-axes for every pair (`random_ellipses`).
    sigma, modes, velocity_scale
        As for `simulate_pair`, the same for all pairs.
    callback : callable, optional
        Called with (number of pairs done, `num_pairs`).

    Returns
    -------
    PairDataset

    Raises
    ------
    InputError
        The folder has a data set made with other parameters.
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
    ensure_header(folder / HEADER, parameters, "folder")
    rows = []
    for index in range(num_pairs):
        rows.append(_load_or_simulate(folder, index, parameters))
        if callback is not None:
            callback(index + 1, num_pairs)
    write_table(folder / MANIFEST, rows)
    return PairDataset(folder)


def _checked_alphas(alphas: Any) -> list[float | str]:
    """Check the values or the range of α."""
    if np.ndim(alphas) != 1 or len(alphas) == 0:
        raise InputError(
            f"alphas: expected a sequence of numbers, or (low, high, 'log-uniform'); got {alphas!r}"
        )
    if len(alphas) == 3 and alphas[2] == "log-uniform":
        low, high = (checks.positive("alphas", float(a)) for a in alphas[:2])
        return [low, high, "log-uniform"]
    return [checks.positive("alphas", float(a)) for a in alphas]


def _load_or_simulate(folder: Path, index: int, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Manifest row of a pair, which is simulated if its file does not exist."""
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
    ellipses: dict[str, Any] = random_ellipses(shape, rng) if parameters["vary_ellipses"] else {}
    source = bullseye(shape, binary=parameters["binary"], **ellipses)
    names = ("sigma", "modes", "velocity_scale")
    pair = simulate_pair(source, alpha=alpha, seed=rng, **{k: parameters[k] for k in names})
    row = {"index": index, "file": name, "alpha": alpha, "draws": pair.draws}
    for key, axes in ellipses.items():
        row |= {f"{key}_a": axes[0], f"{key}_b": axes[1]}
    with atomic_write(path, "wb") as file:
        np.savez_compressed(
            file,
            source=pair.source,
            target=pair.target,
            displacement=pair.displacement,
            row=np.array(json.dumps(row)),
        )
    return row


def _parse_row(row: Mapping[str, str]) -> dict[str, Any]:
    """Row of the manifest with text converted to numbers."""
    integers = ("index", "draws")
    return {
        key: int(v) if key in integers else v if key == "file" else float(v)
        for key, v in row.items()
    }
