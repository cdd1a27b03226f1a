"""Small data sets for tests of networks."""

import nibabel as nib
import numpy as np

from fourierreg.data.scans import find_scans
from fourierreg.simulation.bullseye_folder import make_bullseye_dataset
from fourierreg.simulation.folder import simulate_pairs
from tests.brains import head

ALPHAS = (0.2, 10.0, "log-uniform")
SHAPE, SPACING = (24, 26, 20), (2.0, 2.0, 2.0)
SUBJECTS = 6
GRID, GRID_SPACING = (18, 20, 16), (3.0, 3.0, 3.0)  # of the network for 3D images
FAST = {"filters": 2, "batch_size": 8, "epochs": 2}  # keywords of `train`
FAST_OPTIONS = ["--filters", "2", "--batch-size", "8", "--quiet"]


def bullseyes(folder, count=24, sigma=0.02, shape=(24, 24)):
    """Make a data set of small bull-eye pairs and return its folder."""
    options = {"alphas": ALPHAS, "shape": shape, "modes": 6, "velocity_scale": 0.3}
    make_bullseye_dataset(folder, count, sigma=sigma, **options)
    return folder


def write_scans(folder, count=SUBJECTS):
    """Write small images of heads, one per subject."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*SPACING, 1.0])
    for subject in range(count):
        data = head(SHAPE, SPACING, seed=subject)
        nib.save(nib.Nifti1Image(data, affine), folder / f"sub-{subject}_T1w.nii.gz")
    return folder


def splits(count=SUBJECTS):
    """Split of each subject: two in each split."""
    return {str(i): ("train", "validation", "test")[i // 2] for i in range(count)}


def simulated(folder, count=8, **options):
    """Simulate pairs from small heads and return their folder."""
    scans = find_scans(write_scans(folder / "scans"))
    options = {"modes": 6, "splits": splits(), "workers": 1, **options}
    simulate_pairs(scans, folder / "pairs", count, **options)
    return folder / "pairs"


def card(grid=GRID, spacing=GRID_SPACING, **changes):
    """Model card of a network on a grid."""
    ndim = len(grid)
    scores = {"all": {"pairs": 9, "absolute_error_95": 0.4}}
    return {
        "grid": list(grid),
        "spacing_mm": list(spacing),
        "modes": [6] * ndim,
        "velocity_scale_mm": 1.0,
        "reference_length_mm": 3.0,
        "sigma": [0.05],
        "labels": ["truth"],
        "alpha_range": [1.0, 10.0],
        "network": {"output": "log_alpha"},
        "scores": {"validation": scores, "test": scores},
        **changes,
    }


def heads(shape=GRID, spacing=GRID_SPACING):
    """Source and target, two nibabel images of heads on one grid."""
    affine = np.diag([*spacing, 1.0])
    return [nib.Nifti1Image(head(shape, spacing, shift=s), affine) for s in (2.0, 0.0)]


def write_heads(folder):
    """Write the two heads to files and return their paths."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{name}.nii.gz" for name in ("source", "target")]
    for path, image in zip(paths, heads(), strict=True):
        nib.save(image, path)
    return paths
