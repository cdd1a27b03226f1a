"""Batches of examples for Keras: lazy volumes, shuffled and augmented by the seed alone."""

import math

import keras
import numpy as np
from scipy.ndimage import gaussian_filter

from fourierreg import checks
from fourierreg.errors import InputError
from fourierreg.learning.examples import read_example

INTENSITY = 0.1  # of the natural logarithm of a common factor on both images


class PairSequence(keras.utils.PyDataset):
    """Batches of (images, α), and weights where there are any, from a list of examples.

    Parameters
    ----------
    examples : sequence of Example
        Of one split.
    shape : tuple of int
        The network's grid.
    batch_size : int
    output : {"log_alpha", "alpha"}
        What a network is to predict.
    shuffle : bool
        Another order in every epoch.
    augment : bool
        Flip axes of both images at random and scale both intensities by one factor: neither
        changes α. Bull-eyes on a square also have their axes swapped; brains have not, which look
        different from every side. Nothing is ever scaled in space, which would change α.
    smoothing : float
        With `augment`: smooth both images of half the pairs by one Gaussian, its standard deviation
        drawn uniformly up to so many voxels. A network then cannot read α from how sharp the
        images are.
    weights : sequence of float, optional
        Of the squared error of every example; all alike by default.
    seed : int
    memory : float
        Bytes of images that may be kept in memory once they were read.
    epoch : int
        The first one. Order and augmentation of epoch e depend on the seed and on e alone, so that
        a training that was stopped goes on as it would have.
    options
        Of `keras.utils.PyDataset` (`workers`, …).
    """

    def __init__(
        self,
        examples,
        shape,
        *,
        batch_size=16,
        output="log_alpha",
        shuffle=False,
        augment=False,
        smoothing=0.0,
        weights=None,
        seed=0,
        epoch=0,
        memory=2e9,
        **options,
    ):
        super().__init__(**options)
        self.kept, self.room = {}, memory
        self.examples, self.shape = list(examples), tuple(shape)
        if len({example.split for example in self.examples}) > 1:
            raise InputError("examples: expected those of one split; got several")
        self.batch_size = checks.count("batch_size", batch_size)
        self.output, self.shuffle = output, shuffle
        self.augment, self.smoothing = augment, smoothing
        self.weights = None if weights is None else np.asarray(weights, dtype=np.float32)
        self.seed, self.epoch = seed, epoch
        self._reorder()

    def __len__(self):
        return math.ceil(len(self.examples) / self.batch_size)

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        pairs = [self._read(int(i)) for i in chosen]
        inputs = {
            name: np.stack([pair[place] for pair in pairs])[..., None].astype(np.float32)
            for place, name in enumerate(("source", "target"))
        }
        values = self.values[chosen][:, None]
        return (inputs, values) if self.weights is None else (inputs, values, self.weights[chosen])

    def on_epoch_end(self):
        """A new order and new augmentation."""
        self.epoch += 1
        self._reorder()

    @property
    def values(self):
        """What the network is to predict, per example, float32."""
        alpha = np.array([example.alpha for example in self.examples])
        return (np.log(alpha) if self.output == "log_alpha" else alpha).astype(np.float32)

    def _reorder(self):
        count = len(self.examples)
        rng = np.random.default_rng([self.seed, self.epoch])
        self.order = rng.permutation(count) if self.shuffle else np.arange(count)

    def _read(self, index):
        pair = self.kept.get(index) or self._keep(index)
        if not self.augment:
            return pair
        rng = np.random.default_rng([self.seed, self.epoch, index])
        axes = tuple(np.flatnonzero(rng.random(len(self.shape)) < 0.5))
        factor = np.float32(np.exp(rng.uniform(-INTENSITY, INTENSITY)))
        flipped = tuple(factor * np.flip(image, axes) for image in pair)
        width = rng.uniform(-self.smoothing, self.smoothing)
        if self.examples[index].origin == "bullseye" and len(set(self.shape)) == 1:
            order = rng.permutation(len(self.shape))
            flipped = tuple(np.transpose(image, order) for image in flipped)
        if width <= 0:
            return flipped
        return tuple(gaussian_filter(image, width, truncate=3) for image in flipped)

    def _keep(self, index):
        """The images of an example from their files, kept while there is room."""
        pair = read_example(self.examples[index], self.shape)
        size = sum(image.nbytes for image in pair)
        if size <= self.room:
            self.kept[index] = pair
            self.room -= size
        return pair
