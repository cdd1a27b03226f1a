"""Layer graph of a network, for diagrams."""

from typing import Any, NamedTuple

import keras

# Layers that are drawn with the layer before them.
MERGED = ("BatchNormalization", "ReLU", "PReLU", "Activation")


class LayerCall(NamedTuple):
    """One application of a layer to its inputs.

    Attributes
    ----------
    name : str
    kind : str
        Class name of the layer.
    kernel : tuple of int
        Kernel size; empty for layers without one.
    voxels : tuple of int
        Spatial shape of the output; empty if it has no spatial axes.
    channels : int
    row : int
        1 if the output depends on the source only, -1 on the target only, 0 on both.
    column : int
        Longest distance from the inputs.
    inputs : tuple of int
        Indices of the calls whose outputs it takes.
    merged : tuple of str
        Class names of the normalization and activation layers after it.
    """

    name: str
    kind: str
    kernel: tuple[int, ...]
    voxels: tuple[int, ...]
    channels: int
    row: int
    column: int
    inputs: tuple[int, ...]
    merged: tuple[str, ...]


def layer_calls(model: keras.Model) -> list[LayerCall]:
    """List the layer calls of a network in topological order.

    Normalization and activation layers are merged into the call before them.

    Parameters
    ----------
    model : keras.Model
        A network of `build_network`.

    Returns
    -------
    list of LayerCall
    """
    calls: list[LayerCall] = []
    index_of: dict[tuple[int, int], int] = {}  # index in `calls`
    images_of: dict[tuple[int, int], frozenset[str]] = {}  # input images that a call depends on
    for tensor in _topological_order(model.outputs[0]):
        layer, key = tensor._keras_history.operation, _key(tensor)
        parents = [_key(t) for t in _input_tensors(tensor)]
        kind = type(layer).__name__
        images = frozenset().union(*(images_of[p] for p in parents)) or frozenset([layer.name])
        images_of[key] = images
        if kind in MERGED and parents:
            index = index_of[key] = index_of[parents[0]]
            calls[index] = calls[index]._replace(merged=(*calls[index].merged, kind))
            continue
        inputs = tuple(index_of[p] for p in parents)
        index_of[key] = len(calls)
        calls.append(
            LayerCall(
                layer.name,
                kind,
                tuple(getattr(layer, "kernel_size", ())),
                tuple(tensor.shape[1:-1]),
                int(tensor.shape[-1]),
                {frozenset(["source"]): 1, frozenset(["target"]): -1}.get(images, 0),
                1 + max((calls[i].column for i in inputs), default=-1),
                inputs,
                (),
            )
        )
    return calls


def _key(tensor: Any) -> tuple[int, int]:
    """Identity of the layer call that produces a tensor."""
    layer, node, _ = tensor._keras_history
    return id(layer), node


def _input_tensors(tensor: Any) -> Any:
    """Inputs of the layer call that produces a tensor."""
    layer, node, _ = tensor._keras_history
    return layer._inbound_nodes[node].input_tensors


def _topological_order(output: Any) -> list[Any]:
    """Tensors that an output depends on, each after its own inputs."""
    visited: set[tuple[int, int]] = set()
    order: list[Any] = []

    def visit(tensor: Any) -> None:
        if _key(tensor) in visited:
            return
        visited.add(_key(tensor))
        for parent in _input_tensors(tensor):
            visit(parent)
        order.append(tensor)

    visit(output)
    return order
