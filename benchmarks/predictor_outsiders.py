"""Whether `brain-3d` says that a pair is unlike those it was trained on.

    python benchmarks/predictor_outsiders.py --data HELD_OUT AFIDS --heads HEADS

HELD_OUT has the two people that `predictor.py` keeps out of the training, AFIDS those
of another study, prepared likewise. Their pairs are changed as people's files are wrong: another
contrast, turned, shifted, one image twice, far more noise or smoothing than in the training. HEADS
holds raw scans with a skull; each is put on the cube by its center. False alarms on people of the
training's own studies are in the table of `predictor_scores.py`.
"""

import argparse
from itertools import permutations
from pathlib import Path

import nibabel as nib
import numpy as np
import tables
from conditions import degraded
from scipy import ndimage

import fourierreg
from fourierreg.data.nifti import read_image, resized
from fourierreg.image.foreground import foreground_scale
from fourierreg.image.geometry import Geometry, resample_onto

TABLE = "predictor_outsiders.csv"


def like(image, data):
    """An image with other intensities on the same grid."""
    return nib.Nifti1Image(np.ascontiguousarray(data, dtype=np.float32), image.affine)


def inverted(image):
    """Dark tissue bright and bright tissue dark, as in a T2-weighted scan."""
    data = image.get_fdata()
    return like(image, np.where(data > 0, 1.1 * foreground_scale(data) - data, 0).clip(0))


def turned(image):
    """Turned by 25 degrees about the left-right axis."""
    return like(image, ndimage.rotate(image.get_fdata(), 25, axes=(1, 2), reshape=False, order=1))


def shifted(image):
    """Shifted upward by a tenth of the field of view."""
    return like(image, np.roll(image.get_fdata(), image.shape[2] // 10, axis=2))


def halved(image):
    """One hemisphere removed."""
    data = image.get_fdata()
    data[: image.shape[0] // 2] = 0
    return like(image, data)


def flat(image):
    """No contrast within the brain."""
    data = image.get_fdata()
    return like(image, ndimage.gaussian_filter((data > 0).astype(float), 1))


CHANGES = {  # of source and target
    "none": (None, None),
    "one image twice": None,
    "inverted contrast, both": (inverted, inverted),
    "inverted contrast, source": (inverted, None),
    "turned by 25°, source": (turned, None),
    "shifted by 20 mm, source": (shifted, None),
    "one hemisphere, source": (halved, None),
    "no contrast, both": (flat, flat),
    "noise of 0.5, both": (lambda i: degraded(i, "noise", 0.5, 0),) * 2,
    "smoothed by 8 mm, both": (lambda i: degraded(i, "smooth", 8.0, 0),) * 2,
    "gain field of 0.5, both": (lambda i: degraded(i, "gain", 0.5, 0),) * 2,
}


def pairs_of(images):
    """All ordered pairs under every change: (change, source, target)."""
    for name, change in CHANGES.items():
        for source, target in permutations(images, 2):
            if change is None:
                yield name, source, source
                continue
            made = (f(i) if f else i for f, i in zip(change, (source, target), strict=True))
            yield (name, *made)


def on_cube(head, cube):
    """A head with its skull on a cube, center on center."""
    affine = head.affine.copy()
    center = [(n - 1) / 2 for n in head.shape] + [1]
    middle = [(n - 1) / 2 for n in cube.shape] + [1]
    affine[:3, 3] += (cube.affine @ middle)[:3] - (affine @ center)[:3]
    moved = nib.Nifti1Image(head.get_fdata(dtype=np.float32), affine)
    return like(cube, resample_onto(moved.get_fdata(), Geometry.of(moved), Geometry.of(cube)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, nargs="+", help="folders of brains")
    parser.add_argument("--heads", help="folder of raw scans with a skull")
    parser.add_argument("--model", default="brain-3d")
    options = parser.parse_args()
    model = fourierreg.load_model(options.model)
    rows = []
    for folder in map(Path, options.data):
        brains = images_in(folder, "*_t1.nii.gz")
        made = list(pairs_of([resized(image, model.shape) for image in brains]))
        rows += rows_of(model, folder.name, made)
    if options.heads:
        heads = [on_cube(head, brains[0]) for head in images_in(options.heads, "*.nii.gz")]
        heads = [resized(head, model.shape) for head in heads]
        made = [("heads with a skull", *pair) for pair in permutations(heads, 2)]
        rows += rows_of(model, Path(options.heads).name, made)
    tables.replace(TABLE, rows)


def images_in(folder, pattern):
    """Images of a folder."""
    return [read_image(path, path.name) for path in sorted(Path(folder).glob(pattern))]


def rows_of(model, name, made):
    """What a network says of pairs: a row for each change."""
    rows = []
    for change in dict.fromkeys(change for change, *_ in made):
        found = [
            fourierreg.predict_alpha(model, source, target)
            for other, source, target in made
            if other == change
        ]
        novelty = [prediction.novelty for prediction in found]
        rows.append(
            {
                "people of": name,
                "change": change,
                "pairs": len(found),
                "said to be unlike": sum(value > 1 for value in novelty),
                "at the edge of the range": sum(prediction.at_edge for prediction in found),
                "novelty": f"{np.median(novelty):.3g}",
                "predicted": f"{np.median([prediction.alpha for prediction in found]):.3g}",
            }
        )
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
