"""Brain templates."""

import numpy as np

from fourierreg.data.structures import NEUROMORPHOMETRICS
from fourierreg.data.template import FIELD_OF_VIEW, labeled_template_brain, template_brain
from fourierreg.image.metrics import merge_labels

SIZE = 32


def test_the_template_is_normalized_and_centered_on_a_cube():
    image, affine = template_brain(SIZE)
    assert image.shape == (SIZE,) * 3 and image.dtype == np.float32
    np.testing.assert_allclose(np.diag(affine)[:3], FIELD_OF_VIEW / SIZE)
    assert 0.9 < np.percentile(image[image > 0], 99.5) < 1.1 and image.min() == 0
    for axis in range(3):  # background on every face, because the domain is periodic
        assert not np.moveaxis(image, axis, 0)[[0, -1]].any()


def test_labels_are_on_the_brain_at_anatomical_positions():
    image, labels, _ = labeled_template_brain(SIZE)
    assert labels.shape == image.shape and labels.dtype == np.int16
    assert np.mean(image[labels > 0] > 0) > 0.99
    masks = merge_labels(labels, NEUROMORPHOMETRICS)
    assert all(inside.any() for inside in masks.values())
    centers = {name: np.argwhere(inside).mean(axis=0) for name, inside in masks.items()}
    superior, anterior = 2, 1  # array axes
    assert (
        centers["cerebellum"][superior]
        < centers["putamen"][superior]
        < centers["precuneus"][superior]
    )
    assert (
        centers["cuneus"][anterior] < centers["hippocampus"][anterior] < centers["gyrus"][anterior]
    )
