"""Batches of examples for Keras: read on demand, shuffled and augmented reproducibly."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from scipy.ndimage import gaussian_filter

from fourierreg import checks
from fourierreg.errors import InputError
from fourierreg.learning.examples import Example, read_example

MAX_LOG_FACTOR = 0.1  # of the random intensity factor


class PairSequence(keras.utils.PyDataset):
    """Batches of (images, outputs), or (images, outputs, weights), from a list of examples.

    Parameters
    ----------
    examples : sequence of Example
        Of one split.
    shape : sequence of int
        Grid of the network.
    batch_size : int
    output : {"log_alpha", "alpha"}
        Quantity that the network predicts.
    shuffle : bool
        Reorder the examples in every epoch.
    augment : bool
        Flip axes of both images at random and multiply both by one random factor; neither changes
        α. Axes of square bull-eye images are also permuted; those of brains are not, because their
        anatomy is not symmetric between axes. Images are never scaled in space, which would
        change α.
    smoothing : float
        With `augment`: smooth both images of half the pairs by the same Gaussian. Its standard
        deviation in voxels is uniform up to this value. This prevents a network from reading α
        from the sharpness of the images.
    contrast : float
        With `augment`: raise the intensities of both images to one random power, whose logarithm is
        uniform up to this value on either side, as scanners and sequences differ in contrast.
    exchange : bool
        With `augment`: exchange source and target of half the pairs. The estimates of either
        direction are close, not equal.
    weights : sequence of float, optional
        Weight of the squared error of each example; equal by default.
    seed : int
    epoch : int
        Number of the first epoch. Order and augmentation depend only on the seed and the epoch, so
        that a resumed training is identical to an uninterrupted one.
    cache_bytes : float
        Maximum size of the images kept in memory after their first use.
    options
        Keywords of `keras.utils.PyDataset` (`workers`, …).

    Raises
    ------
    InputError
        The examples are of several splits, or the batch size is not a positive integer.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        shape: Sequence[int],
        *,
        batch_size: int = 16,
        output: str = "log_alpha",
        shuffle: bool = False,
        augment: bool = False,
        smoothing: float = 0.0,
        contrast: float = 0.0,
        exchange: bool = False,
        weights: Sequence[float] | None = None,
        seed: int = 0,
        epoch: int = 0,
        cache_bytes: float = 4e9,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.examples, self.shape = list(examples), tuple(shape)
        if len({example.split for example in self.examples}) > 1:
            raise InputError(
                "examples: expected examples of one split; got several: make one PairSequence for "
                "each"
            )
        self.batch_size = checks.count("batch_size", batch_size)
        self.output, self.shuffle = output, shuffle
        self.augment, self.smoothing = augment, smoothing
        self.contrast, self.exchange = contrast, exchange
        self.weights = None if weights is None else np.asarray(weights, dtype=np.float32)
        self.seed, self.epoch = seed, epoch
        self._cache: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._cache_left = cache_bytes
        self._reorder()

    def __len__(self) -> int:
        return math.ceil(len(self.examples) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        chosen = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        inputs = stack_pairs([self.read_pair(int(i)) for i in chosen])
        outputs = self.outputs[chosen][:, None]
        if self.weights is None:
            return inputs, outputs
        return inputs, outputs, self.weights[chosen]

    def on_epoch_end(self) -> None:
        """Start the next epoch: a new order and new augmentation."""
        self.epoch += 1
        self._reorder()

    @property
    def outputs(self) -> np.ndarray:
        """Value to predict for each example, float32."""
        alpha = np.array([example.alpha for example in self.examples])
        return (np.log(alpha) if self.output == "log_alpha" else alpha).astype(np.float32)

    def read_pair(self, index: int) -> tuple[np.ndarray, ...]:
        """Source and target of an example, augmented for the current epoch."""
        pair = self._read_cached(index)
        if not self.augment:
            return pair
        rng = np.random.default_rng([self.seed, self.epoch, index])
        axes = tuple(np.flatnonzero(rng.random(len(self.shape)) < 0.5))
        factor = np.float32(np.exp(rng.uniform(-MAX_LOG_FACTOR, MAX_LOG_FACTOR)))
        images = tuple(factor * np.flip(image, axes) for image in pair)
        width = rng.uniform(-self.smoothing, self.smoothing)
        if self.examples[index].origin == "bullseye" and len(set(self.shape)) == 1:
            order = rng.permutation(len(self.shape))
            images = tuple(np.transpose(image, order) for image in images)
        if self.contrast:
            power = np.float32(np.exp(rng.uniform(-self.contrast, self.contrast)))
            images = tuple(_signed_power(image, power) for image in images)
        if self.exchange and rng.random() < 0.5:
            images = images[::-1]
        if width <= 0:
            return images
        return tuple(gaussian_filter(image, width, truncate=3) for image in images)

    def _reorder(self) -> None:
        count = len(self.examples)
        rng = np.random.default_rng([self.seed, self.epoch])
        self._order = rng.permutation(count) if self.shuffle else np.arange(count)

    def _read_cached(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Images of an example; cached while the cache has room."""
        if index in self._cache:
            return self._cache[index]
        pair = read_example(self.examples[index], self.shape)
        size = sum(image.nbytes for image in pair)
        if size <= self._cache_left:
            self._cache[index] = pair
            self._cache_left -= size
        return pair


def _signed_power(image: np.ndarray, power: np.float32) -> np.ndarray:
    """Magnitudes raised to a power, with the signs kept."""
    return image**power if image.min() >= 0 else np.copysign(abs(image) ** power, image)


def stack_pairs(pairs: Sequence[tuple[np.ndarray, ...]]) -> dict[str, np.ndarray]:
    """Inputs of a network from pairs of images: float32 arrays (batch, N_1, …, N_d, 1)."""
    return {
        name: np.stack([pair[position] for pair in pairs])[..., None].astype(np.float32)
        for position, name in enumerate(("source", "target"))
    }
