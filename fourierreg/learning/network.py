"""Network architectures: two images in, ln α (or α) out.

They consist of Keras' own layers only, so that `keras.models.load_model` reads a saved network
under any Keras backend, without this package.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from fourierreg import checks
from fourierreg.errors import InputError

ARCHITECTURES = ("two-stream", "resnet3d", "vgg3d")
ACTIVATIONS = ("relu", "prelu")
OUTPUTS = ("log_alpha", "alpha")
KERNEL_SIZE, POOL_SIZE = 5, 2
MOMENTUM = 0.95  # of batch normalization: its statistics must converge in a few thousand steps
MIN_SIZE = 16  # voxels per axis, of which three poolings leave two


def build_network(
    input_shape: Sequence[int],
    architecture: str = "two-stream",
    *,
    filters: int = 8,
    activation: str = "relu",
    shared_streams: bool = True,
    weight_decay: float = 1e-4,
    output: str = "log_alpha",
    mean: float = 0.0,
    scale: float = 1.0,
    seed: int = 0,
) -> keras.Model:
    """Build a network that predicts ln α, or α, of a pair of images.

    Parameters
    ----------
    input_shape : sequence of int
        (N_1, …, N_d), d = 2 or 3, at least 16 voxels per axis.
    architecture : {"two-stream", "resnet3d", "vgg3d"}
        The network of the paper (§3.2), or one of the two alternatives that it names. The names
        with "3d" are the paper's; for 2D images the layers are two-dimensional.
    filters : int
        Filters of the first block; each further block that pools has twice as many.
    activation : {"relu", "prelu"}
    shared_streams : bool
        Whether both streams have the same weights ("two-stream" only). α depends on how the two
        images differ, and features of both can be compared only if the same filters compute them.
    weight_decay : float
        λ of the penalty Σ λ‖W‖² on kernels.
    output : {"log_alpha", "alpha"}
        "alpha" adds an exponential.
    mean, scale : float
        Mean and standard deviation of ln α in the training data: ln α = `mean` + `scale` × output
        of the last dense layer.
    seed : int
        Seed of the initial weights (He normal).

    Returns
    -------
    keras.Model
        Inputs ``source`` and ``target``, each (batch, N_1, …, N_d, 1); output (batch, 1).

    Raises
    ------
    InputError
        An argument is out of range.

    Notes
    -----
    "two-stream": each stream has four blocks of convolution (5 voxels per axis), batch
    normalization, activation and max-pooling (2 per axis). The fourth block does not pool, so that
    128³ ends at 16³ as the paper states (erratum E9). The streams are fused, and followed by three
    blocks with kernels of 3 per axis and no pooling, a fully connected layer at every remaining
    voxel, the average over voxels, and one output.

    Fusion concatenates both streams and their batch-normalized difference, which is small compared
    with the features themselves.
    """
    shape = checks.shape(input_shape)
    if min(shape) < MIN_SIZE:
        raise InputError(
            f"input_shape: expected at least {MIN_SIZE} voxels per axis, because the network pools "
            f"three times; got {shape}"
        )
    checks.choice("architecture", architecture, ARCHITECTURES)
    checks.choice("activation", activation, ACTIVATIONS)
    checks.choice("output", output, OUTPUTS)
    make = _LayerFactory(
        len(shape),
        activation,
        0.0 if weight_decay == 0 else checks.positive("weight_decay", float(weight_decay)),
        checks.count("seed", seed, minimum=0),
    )
    checks.count("filters", filters)
    source, target = (
        keras.Input((*shape, 1), name=name, dtype="float32") for name in ("source", "target")
    )
    if architecture == "two-stream":
        x = _two_stream(make, source, target, filters, shared_streams)
    else:
        x = layers.Concatenate(name="pair")([source, target])
        x = (_resnet if architecture == "resnet3d" else _vgg)(make, x, filters)
    # The last layers are in single precision under mixed precision too: they cost little, and
    # half precision would round ln α.
    x = make.dense(1, "output", dtype="float32")(x)
    scale = checks.positive("scale", float(scale))
    x = layers.Rescaling(scale, float(mean), dtype="float32", name="log_alpha")(x)
    if output == "alpha":
        x = layers.Activation("exponential", dtype="float32", name="alpha")(x)
    return keras.Model({"source": source, "target": target}, x, name=architecture.replace("-", "_"))


class _LayerFactory:
    """Creates the layers of a network; every kernel is initialized from its own seed."""

    def __init__(self, ndim: int, activation: str, weight_decay: float, seed: int) -> None:
        self.ndim, self.activation = ndim, activation
        self.weight_decay, self.seed = weight_decay, seed
        self.pooling = {2: layers.MaxPooling2D, 3: layers.MaxPooling3D}[ndim]
        self.average = {2: layers.GlobalAveragePooling2D, 3: layers.GlobalAveragePooling3D}[ndim]

    def _kernel_options(self) -> dict[str, Any]:
        self.seed += 1
        return {
            "kernel_initializer": keras.initializers.HeNormal(seed=self.seed),
            "kernel_regularizer": keras.regularizers.L2(self.weight_decay)
            if self.weight_decay
            else None,
        }

    def dense(self, units: int, name: str, **options: Any) -> Any:
        """Fully connected layer."""
        return layers.Dense(units, name=name, **self._kernel_options(), **options)

    def convolution(self, filters: int, name: str, size: int = KERNEL_SIZE) -> Any:
        """Convolution without bias, which the batch normalization after it has."""
        layer = {2: layers.Conv2D, 3: layers.Conv3D}[self.ndim]
        options = self._kernel_options()
        return layer(filters, size, padding="same", use_bias=False, name=name, **options)

    def normalization(self, name: str) -> Any:
        """Batch normalization."""
        return layers.BatchNormalization(momentum=MOMENTUM, name=name)

    def activate(self, name: str) -> Any:
        """ReLU, or PReLU with a slope per channel."""
        if self.activation == "relu":
            return layers.ReLU(name=name)
        return layers.PReLU(shared_axes=list(range(1, self.ndim + 1)), name=name)

    def block(
        self, filters: int, name: str, pool: bool, size: int = KERNEL_SIZE
    ) -> Callable[[Any], Any]:
        """Convolution, batch normalization, activation and optional max-pooling."""
        sequence = [
            self.convolution(filters, f"{name}_convolution", size),
            self.normalization(f"{name}_normalization"),
            self.activate(f"{name}_activation"),
        ]
        if pool:
            sequence.append(self.pooling(POOL_SIZE, name=f"{name}_pooling"))

        def apply(x: Any) -> Any:
            for layer in sequence:
                x = layer(x)
            return x

        return apply


def _two_stream(make: _LayerFactory, source: Any, target: Any, filters: int, shared: bool) -> Any:
    """Features of the paper's network, averaged over voxels."""
    streams = []
    for name in ("stream",) if shared else ("source", "target"):
        streams.append(
            [make.block(filters * 2**i, f"{name}_{i + 1}", pool=i < 3) for i in range(4)]
        )
    features = []
    for x, blocks in zip((source, target), (streams[0], streams[-1]), strict=True):
        for block in blocks:
            x = block(x)
        features.append(x)
    difference = layers.Subtract(name="difference")(features[::-1])
    difference = make.normalization("difference_normalization")(difference)
    x = layers.Concatenate(name="fusion")([*features, difference])
    for i in range(3):
        x = make.block(filters * 8, f"fusion_{i + 1}", pool=False, size=3)(x)
    x = make.dense(filters * 8, "fully_connected")(x)
    x = make.activate("fully_connected_activation")(x)
    return make.average(name="average")(x)


def _vgg(make: _LayerFactory, x: Any, filters: int) -> Any:
    """VGG (Simonyan and Zisserman 2014): two convolutions of 3 per axis before each pooling."""
    for i in range(4):
        for j in range(2):
            x = make.block(filters * 2**i, f"vgg_{i + 1}_{j + 1}", pool=j == 1 and i < 3, size=3)(x)
    x = make.dense(filters * 8, "fully_connected")(x)
    x = make.activate("fully_connected_activation")(x)
    return make.average(name="average")(x)


def _resnet(make: _LayerFactory, x: Any, filters: int) -> Any:
    """Residual network (Hara et al. 2017): four stages of one residual block, 10 layers.

    Max-pooling before a stage halves the resolution; convolutions have no strides.
    """
    x = make.block(filters, "stem", pool=False)(x)
    for i in range(4):
        width, name = filters * 2**i, f"residual_{i + 1}"
        if i > 0:
            x = make.pooling(POOL_SIZE, name=f"{name}_pooling")(x)
        y = make.block(width, f"{name}_1", pool=False, size=3)(x)
        y = make.convolution(width, f"{name}_2_convolution", 3)(y)
        y = make.normalization(f"{name}_2_normalization")(y)
        if x.shape[-1] != width:
            x = make.convolution(width, f"{name}_shortcut_convolution", 1)(x)
            x = make.normalization(f"{name}_shortcut")(x)
        x = make.activate(f"{name}_activation")(layers.Add(name=f"{name}_sum")([x, y]))
    return make.average(name="average")(x)
