"""The graph of a network, read off the network itself."""

from typing import NamedTuple

FOLDED = ("BatchNormalization", "ReLU", "PReLU", "Activation")  # told with the layer they follow


class Step(NamedTuple):
    """A layer as it is applied once.

    `row` is 1 for what depends on the source alone, -1 on the target alone, 0 on both; `column` is
    its place from the inputs; `inputs` are indices into the list of steps; `voxels` is empty where
    none are left.
    """

    name: str
    kind: str
    kernel: tuple
    voxels: tuple
    channels: int
    row: int
    column: int
    inputs: tuple
    also: tuple


def steps_of(model):
    """The layers of a network in order; normalisations and activations stand with their layer.

    Parameters
    ----------
    model : keras.Model
        Of `build_network`.

    Returns
    -------
    list of Step
    """
    steps, places, seen = [], {}, {}
    for tensor in _in_order(model.outputs[0]):
        operation, node, _ = tensor._keras_history
        key = (id(operation), node)
        parents = [_key(t) for t in operation._inbound_nodes[node].input_tensors]
        kind = type(operation).__name__
        names = frozenset().union(*(seen[p] for p in parents)) or frozenset([operation.name])
        seen[key] = names
        if kind in FOLDED and parents:
            places[key] = places[parents[0]]
            place = places[key]
            steps[place] = steps[place]._replace(also=(*steps[place].also, kind))
            continue
        inputs = tuple(places[p] for p in parents)
        places[key] = len(steps)
        steps.append(
            Step(
                operation.name,
                kind,
                tuple(getattr(operation, "kernel_size", ())),
                tuple(tensor.shape[1:-1]),
                int(tensor.shape[-1]),
                {frozenset(["source"]): 1, frozenset(["target"]): -1}.get(names, 0),
                1 + max((steps[i].column for i in inputs), default=-1),
                inputs,
                (),
            )
        )
    return steps


def _key(tensor):
    operation, node, _ = tensor._keras_history
    return id(operation), node


def _in_order(output):
    """Tensors that lead to an output, each after those it needs."""
    done, order = set(), []

    def visit(tensor):
        if _key(tensor) in done:
            return
        done.add(_key(tensor))
        operation, node, _ = tensor._keras_history
        for parent in operation._inbound_nodes[node].input_tensors:
            visit(parent)
        order.append(tensor)

    visit(output)
    return order
