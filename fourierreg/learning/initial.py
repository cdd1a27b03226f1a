"""Networks that training continues from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fourierreg.data.nifti import sha256
from fourierreg.data.splits import SPLITS
from fourierreg.errors import InputError
from fourierreg.learning.examples import Conditions, Example
from fourierreg.learning.pretrained import TrainedNetwork, load_model


def load_initial(
    initial: TrainedNetwork | Path | str,
    splits: Mapping[str, Sequence[Example]],
    conditions: Conditions,
) -> TrainedNetwork:
    """Load the network to continue from, and check that it may be used with these splits.

    Raises
    ------
    InputError
        It cannot be loaded, has another grid, or was trained on subjects of the validation or test
        split.
    """
    start = initial if isinstance(initial, TrainedNetwork) else load_model(initial)
    missing = [key for key in ("name", "training", "data") if key not in start.card]
    if missing:
        raise InputError(
            f"initial: the card of {start.path} has no {', '.join(missing)}, so the subjects that "
            "it was trained on are unknown; train it again"
        )
    if start.shape != tuple(conditions.shape):
        raise InputError(
            f"initial: its grid is {start.shape}, that of datasets {tuple(conditions.shape)}; "
            "label and simulate at its --size, or train without initial"
        )
    seen = set(initial_record(start)["subjects"])
    held_out = {subject for name in SPLITS[1:] for e in splits[name] for subject in e.subjects}
    if seen & held_out:
        raise InputError(
            f"initial: it was trained on subjects {', '.join(sorted(seen & held_out))}, which are "
            "in the validation or test split of datasets; put them into the train split, or train "
            "without initial"
        )
    return start


def initial_record(start: TrainedNetwork) -> dict[str, Any]:
    """Name, checksum and training subjects (also of its own predecessors) of an initial network,
    for the card of the network that continues from it."""
    earlier = start.card["training"].get("initial") or {"subjects": []}
    seen = {*earlier["subjects"], *start.card["data"]["train"].get("subjects", ())}
    return {"name": start.card["name"], "sha256": sha256(start.path), "subjects": sorted(seen)}
