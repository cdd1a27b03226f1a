"""Small data sets to learn from."""

import nibabel as nib
import numpy as np

from fourierreg.data.manifest import find_scans
from fourierreg.simulation.bullseye_folder import make_bullseye_dataset
from fourierreg.simulation.folder import simulate_pairs
from tests.brains import head

ALPHAS = (0.2, 10.0, "log-uniform")
SHAPE, SPACING = (24, 26, 20), (2.0, 2.0, 2.0)
SUBJECTS = 6


def bullseyes(folder, count=24, sigma=0.02, shape=(24, 24)):
    """A folder of small bull-eye pairs."""
    setting = {"alphas": ALPHAS, "shape": shape, "modes": 6, "velocity_scale": 0.3}
    make_bullseye_dataset(folder, count, sigma=sigma, **setting)
    return folder


def write_scans(folder, count=SUBJECTS):
    """Small heads of several subjects."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*SPACING, 1.0])
    for subject in range(count):
        data = head(SHAPE, SPACING, seed=subject)
        nib.save(nib.Nifti1Image(data, affine), folder / f"sub-{subject}_T1w.nii.gz")
    return folder


def splits(count=SUBJECTS):
    """Two subjects in each split."""
    return {str(i): ("train", "validation", "test")[i // 2] for i in range(count)}


def simulated(folder, count=8, **setting):
    """A folder of simulated pairs of those heads."""
    scans = find_scans(write_scans(folder / "scans"))
    options = {"modes": 6, "splits": splits(), "workers": 1, **setting}
    simulate_pairs(scans, folder / "pairs", count, **options)
    return folder / "pairs"
