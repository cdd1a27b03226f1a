"""Files of `Registration.save` by earlier versions."""

import math
import re
from typing import Any

from fourierreg.image.similarity import SIMILARITIES


def from_older_format(header: dict[str, Any], version: int) -> dict[str, Any]:
    """A header of format 2 or 3 as one of format 4."""
    if version == 2:
        header = _from_format_2(header)
    model = {"integrator": "euler", **header["model"]}  # the default was another one
    name, options = model.get("similarity", ["ssd", {}])
    if name == "lncc":  # its radius was in voxels of whatever grid, four by default
        spacing = header["metric"]["band"]["spacing"]
        voxel = math.prod(spacing) ** (1 / len(spacing))
        model["similarity"] = [name, {"radius": voxel * options.get("radius", 4)}]
    return {**header, "model": model}


def _from_format_2(header: dict[str, Any]) -> dict[str, Any]:
    """A header of format 2, which had the fields of `Model` one by one."""
    names = ("num_steps", "integrator", "dynamics", "space", "similarity")
    model = {name: header.pop(name) for name in names}
    called = re.fullmatch(r"(\w+)\((\w+)=(\d+)\)", model["similarity"])
    kinds = {kind.__name__: name for name, kind in SIMILARITIES.items()}
    if called and called[1] in kinds:  # such as LocalCorrelation(radius=2)
        model["similarity"] = [kinds[called[1]], {called[2]: int(called[3])}]
    elif model["similarity"] in SIMILARITIES:
        model["similarity"] = [model["similarity"], {}]
    else:  # a class of the user's own
        model["similarity"] = ["own", {"description": model["similarity"]}]
    metric = header["metric"]
    model |= {name: metric[name] for name in ("power", "reference_length", "velocity_scale")}
    model["modes"] = metric["band"]["modes"]
    header.pop("smoothing_length")
    return {"scales": (1.0, 1.0), **header, "model": model}
