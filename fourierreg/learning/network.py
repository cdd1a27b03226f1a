"""The networks: two images in, ln α (or α) out.

They are made of Keras' own layers only, so that `keras.models.load_model` reads them anywhere,
under any backend, whether or not this package is installed.
"""

import keras
from keras import layers

from fourierreg import checks
from fourierreg.errors import InputError

ARCHITECTURES = ("two-stream", "resnet3d", "vgg3d")
ACTIVATIONS = ("relu", "prelu")
OUTPUTS = ("log_alpha", "alpha")
KERNEL, POOL = 5, 2
MOMENTUM = 0.95  # of batch normalisation: a training of a few thousand steps must settle it
SMALLEST = 16  # voxels per axis: three poolings leave two


def build_network(
    input_shape,
    architecture="two-stream",
    *,
    filters=8,
    activation="relu",
    shared_streams=True,
    weight_decay=1e-4,
    output="log_alpha",
    mean=0.0,
    scale=1.0,
    seed=0,
):
    """A network that predicts ln α, or α, of a pair of images.

    Parameters
    ----------
    input_shape : tuple of int
        (N_1, …, N_d), d = 2 or 3, at least 16 voxels per axis.
    architecture : {"two-stream", "resnet3d", "vgg3d"}
        The paper's network (§3.2), or one of the two it names beside it; "3d" is their name, in 2D
        they are two-dimensional.
    filters : int
        Of the first block; each further one that pools has twice as many.
    activation : {"relu", "prelu"}
    shared_streams : bool
        Both streams have the same weights ("two-stream" only). What tells α is how the two images
        differ, and only features that were computed alike can be compared.
    weight_decay : float
        λ of Σ λ‖W‖² over kernels.
    output : {"log_alpha", "alpha"}
        "alpha" adds an exponential.
    mean, scale : float
        Of ln α in the training data: ln α is `mean` + `scale` × the last layer.
    seed : int
        Of the initial weights (He normal).

    Returns
    -------
    keras.Model
        Inputs ``source`` and ``target``, each (batch, N_1, …, N_d, 1); output (batch, 1).

    Raises
    ------
    ValueError
        One line that names the argument, what was expected, what came and what to do.

    Notes
    -----
    "two-stream": per stream four blocks of convolution (5 per axis), batch normalisation,
    activation and max-pooling (2 per axis; the fourth block does not pool, so that 128³ ends at 16³
    as the paper states: erratum E9); fusion of both streams; three such blocks, of 3 per axis and
    without pooling; a fully connected layer at every remaining voxel; the average over them; one
    output.

    Fusion is the concatenation of both streams and of their normalised difference, which is small
    beside the features themselves.
    """
    shape = checks.shape(input_shape)
    if min(shape) < SMALLEST:
        raise InputError(
            f"input_shape: expected at least {SMALLEST} voxels per axis, which three poolings "
            f"leave two of; got {shape}"
        )
    checks.choice("architecture", architecture, ARCHITECTURES)
    checks.choice("activation", activation, ACTIVATIONS)
    checks.choice("output", output, OUTPUTS)
    make = _Blocks(
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
    # Mixed precision ends here: the last layers are small and ln α needs its digits.
    x = make.dense(1, "output", dtype="float32")(x)
    scale = checks.positive("scale", float(scale))
    x = layers.Rescaling(scale, float(mean), dtype="float32", name="log_alpha")(x)
    if output == "alpha":
        x = layers.Activation("exponential", dtype="float32", name="alpha")(x)
    return keras.Model({"source": source, "target": target}, x, name=architecture.replace("-", "_"))


class _Blocks:
    """Layers as all networks here have them; every kernel has a seed of its own."""

    def __init__(self, ndim, activation, weight_decay, seed):
        self.ndim, self.activation = ndim, activation
        self.weight_decay, self.seed = weight_decay, seed
        self.pooling = {2: layers.MaxPooling2D, 3: layers.MaxPooling3D}[ndim]
        self.average = {2: layers.GlobalAveragePooling2D, 3: layers.GlobalAveragePooling3D}[ndim]

    def _kernel(self):
        self.seed += 1
        return {
            "kernel_initializer": keras.initializers.HeNormal(seed=self.seed),
            "kernel_regularizer": keras.regularizers.L2(self.weight_decay)
            if self.weight_decay
            else None,
        }

    def dense(self, units, name, **options):
        """Fully connected."""
        return layers.Dense(units, name=name, **self._kernel(), **options)

    def convolution(self, filters, name, size=KERNEL):
        """Convolution without bias: batch normalisation has one."""
        kind = {2: layers.Conv2D, 3: layers.Conv3D}[self.ndim]
        return kind(filters, size, padding="same", use_bias=False, name=name, **self._kernel())

    def activate(self, name):
        """ReLU, or PReLU with a slope per channel."""
        if self.activation == "relu":
            return layers.ReLU(name=name)
        return layers.PReLU(shared_axes=list(range(1, self.ndim + 1)), name=name)

    def block(self, filters, name, pool, size=KERNEL):
        """Convolution, batch normalisation, activation and, if it pools, max-pooling."""
        made = [
            self.convolution(filters, f"{name}_convolution", size),
            layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_normalisation"),
            self.activate(f"{name}_activation"),
        ]
        if pool:
            made.append(self.pooling(POOL, name=f"{name}_pooling"))

        def apply(x):
            for layer in made:
                x = layer(x)
            return x

        return apply


def _two_stream(make, source, target, filters, shared):
    """The paper's network, to the average over voxels."""
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
    difference = layers.BatchNormalization(momentum=MOMENTUM, name="difference_normalisation")(
        difference
    )
    x = layers.Concatenate(name="fusion")([*features, difference])
    for i in range(3):
        x = make.block(filters * 8, f"fusion_{i + 1}", pool=False, size=3)(x)
    x = make.dense(filters * 8, "fully_connected")(x)
    x = make.activate("fully_connected_activation")(x)
    return make.average(name="average")(x)


def _vgg(make, x, filters):
    """VGG (Simonyan and Zisserman 2014): pairs of small convolutions, then pooling."""
    for i in range(4):
        for j in range(2):
            x = make.block(filters * 2**i, f"vgg_{i + 1}_{j + 1}", pool=j == 1 and i < 3, size=3)(x)
    x = make.dense(filters * 8, "fully_connected")(x)
    x = make.activate("fully_connected_activation")(x)
    return make.average(name="average")(x)


def _resnet(make, x, filters):
    """Residual network (Hara et al. 2017): four stages of one residual block, 10 layers.

    Stages are halved by pooling in front of them, not by strides.
    """
    x = make.block(filters, "stem", pool=False)(x)
    for i in range(4):
        wide, name = filters * 2**i, f"residual_{i + 1}"
        if i > 0:
            x = make.pooling(POOL, name=f"{name}_pooling")(x)
        y = make.block(wide, f"{name}_1", pool=False, size=3)(x)
        y = make.convolution(wide, f"{name}_2_convolution", 3)(y)
        y = layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_2_normalisation")(y)
        if x.shape[-1] != wide:
            x = make.convolution(wide, f"{name}_shortcut_convolution", 1)(x)
            x = layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_shortcut")(x)
        x = make.activate(f"{name}_activation")(layers.Add(name=f"{name}_sum")([x, y]))
    return make.average(name="average")(x)
