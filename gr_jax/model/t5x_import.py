"""Weights of a T5X checkpoint, without t5x: Orbax's layout and the older one.

Orbax: ``checkpoint_<step>/state`` holds ``{target, state}``. Older: the file
``checkpoint_<step>/checkpoint`` is a msgpack index whose large leaves are tensorstore
specs of zarr arrays beside it; the public T5, mT5 and FLAN weights are of that kind.
Neither holds a config, so the caller names one and the tree is checked against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import msgpack
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from flax import serialization

from gr_jax.core import errors
from gr_jax.model import config as model_config
from gr_jax.model import families, protocol, stacking

_INDEX = "checkpoint"
_STATE = "state"


def load(folder: Path, config: model_config.ModelConfig) -> protocol.Params:
    """The parameters in a T5X checkpoint, as float32 host arrays.

    Those of T5X's ``scalable_t5`` are not among them: there every layer has position
    biases of its own, so no config of this package is that model.

    Args:
      folder: The ``checkpoint_<step>`` folder.
      config: What the checkpoint holds; layers are stacked or taken apart as it says.

    Raises:
      ArtifactError: If it is no such folder, cannot be read, or a parameter is missing,
        unknown or of another shape than the config's.
    """
    if (folder / _STATE).is_dir():
        held = _orbax_target(folder / _STATE)
    elif (folder / _INDEX).is_file():
        held = _legacy_target(folder)
    else:
        raise errors.ArtifactError(
            f"{folder}: neither {_STATE}/ nor {_INDEX}: give a checkpoint_<step> folder"
        )
    held = stacking.arranged(held, is_stacked=config.scan_layers)
    return _checked(held, config, folder)


def _orbax_target(state: Path) -> Any:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        try:
            tree = reader.metadata(state.absolute()).item_metadata.tree
            like = jax.tree.map(lambda _: 0, {"target": tree["target"]})
            to_host = ocp.RestoreArgs(restore_type=np.ndarray)
            arguments = jax.tree.map(lambda _: to_host, like)
            restored = reader.restore(
                state.absolute(),
                args=ocp.args.PyTreeRestore(
                    item=like, restore_args=arguments, partial_restore=True
                ),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _unreadable(state, error) from error
    return restored["target"]


def _legacy_target(folder: Path) -> Any:
    path = folder / _INDEX
    try:
        content = serialization.msgpack_restore(path.read_bytes())
        target = content["optimizer"]["target"]
    except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
        raise _unreadable(path, error) from error
    return _resolved(target, folder)


def _resolved(node: Any, folder: Path) -> Any:
    """A tree of arrays, its tensorstore specs read."""
    if not isinstance(node, dict):
        return np.asarray(node)
    if "driver" in node and "kvstore" in node:
        return _zarr(node, folder)
    return {name: _resolved(child, folder) for name, child in node.items()}


def _zarr(spec: dict[str, Any], folder: Path) -> np.ndarray:
    name = str(spec["kvstore"].get("path", ""))
    # A checkpoint may come from anywhere; its specs may name only what lies beside it.
    place = (folder / name).resolve()
    if spec["driver"] != "zarr" or folder.resolve() not in place.parents:
        raise errors.ArtifactError(
            errors.fault(folder / _INDEX, "spec", spec, "only zarr arrays beside it")
        )
    asked = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(place)}}
    try:
        return tensorstore.open(asked, open=True, read=True).result().read().result()
    except (OSError, ValueError) as error:
        raise _unreadable(place, error) from error


def _checked(
    held: Any, config: model_config.ModelConfig, folder: Path
) -> protocol.Params:
    model = families.build(config)
    wanted = jax.eval_shape(model.init, jax.random.key(0))
    found, shapes = dict(_flat(held)), dict(_flat(wanted))
    for name in sorted(found.keys() ^ shapes.keys()):
        state = "missing" if name in shapes else "not a parameter of the config"
        raise errors.ArtifactError(f"{folder}: {name}: {state}: give its own config")
    for name, leaf in shapes.items():
        if found[name].shape != leaf.shape:
            remedy = f"{leaf.shape} by config: give its own config"
            raise errors.ArtifactError(
                errors.fault(f"{folder}: {name}", "shape", found[name].shape, remedy)
            )
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), held)


def _flat(tree: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    for name, child in tree.items():
        path = f"{above}/{name}" if above else name
        if isinstance(child, dict):
            yield from _flat(child, path)
        else:
            yield path, child


def _unreadable(path: Path, error: Exception) -> errors.ArtifactError:
    reason = errors.shown(str(error).splitlines()[0] if str(error) else error)
    return errors.ArtifactError(f"{path}: cannot be read ({reason}): get it anew")
