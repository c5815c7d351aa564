"""Parameters with a layer's name each, or stacked for a scan: from one to the other."""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np

from gr_jax.model import protocol

_LAYER = re.compile(r"layers_(\d+)")
_STACKED = "layers"


def arranged(params: protocol.Params, *, is_stacked: bool) -> protocol.Params:
    """The same host arrays as a config with or without ``scan_layers`` names them.

    Args:
      params: Of a model, layers stacked or apart.
      is_stacked: How they are wanted.

    Example:
      >>> apart = {"decoder": {"layers_0": {"w": np.ones(2)}, "norm": np.ones(1)}}
      >>> arranged(apart, is_stacked=True)["decoder"]["layers"]["w"].shape
      (1, 2)
    """
    change = _stacked if is_stacked else _apart
    return {
        name: change(child) if isinstance(child, dict) else child
        for name, child in params.items()
    }


def _stacked(group: dict[str, Any]) -> dict[str, Any]:
    places = sorted(int(m[1]) for name in group if (m := _LAYER.fullmatch(name)))
    if not places:
        return group
    layers = [group[f"{_STACKED}_{place}"] for place in places]
    rest = {name: leaf for name, leaf in group.items() if not _LAYER.fullmatch(name)}
    return {**rest, _STACKED: jax.tree.map(lambda *rows: np.stack(rows), *layers)}


def _apart(group: dict[str, Any]) -> dict[str, Any]:
    if _STACKED not in group:
        return group
    rest = {name: leaf for name, leaf in group.items() if name != _STACKED}
    count = len(jax.tree.leaves(group[_STACKED])[0])
    for place in range(count):
        rest[f"{_STACKED}_{place}"] = jax.tree.map(
            lambda leaf, place=place: leaf[place], group[_STACKED]
        )
    return rest
