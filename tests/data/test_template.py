"""Templates on their cube."""

import numpy as np

from fourierreg.data.structures import NEUROMORPHOMETRICS
from fourierreg.data.template import FIELD_OF_VIEW, labelled_template_brain, template_brain
from fourierreg.image.metrics import merge_labels

SIZE = 32


def test_brain_on_its_cube():
    image, affine = template_brain(SIZE)
    assert image.shape == (SIZE,) * 3 and image.dtype == np.float32
    np.testing.assert_allclose(np.diag(affine)[:3], FIELD_OF_VIEW / SIZE)
    assert 0.9 < np.percentile(image[image > 0], 99.5) < 1.1 and image.min() == 0
    for axis in range(3):  # a margin on every side: the domain is periodic
        assert not np.moveaxis(image, axis, 0)[[0, -1]].any()


def test_labels_lie_on_the_brain():
    image, labels, _ = labelled_template_brain(SIZE)
    assert labels.shape == image.shape and labels.dtype == np.int16
    assert np.mean(image[labels > 0] > 0) > 0.99
    parts = merge_labels(labels, NEUROMORPHOMETRICS)
    assert all(inside.any() for inside in parts.values())
    places = {name: np.argwhere(inside).mean(axis=0) for name, inside in parts.items()}
    up, ahead = 2, 1  # axes are right, anterior, superior
    assert places["cerebellum"][up] < places["putamen"][up] < places["precuneus"][up]
    assert places["cuneus"][ahead] < places["hippocampus"][ahead] < places["gyrus"][ahead]
