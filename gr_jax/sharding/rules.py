"""Logical axis names (T5X's) to mesh axes, collisions rejected."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gr_jax.core import errors
from gr_jax.sharding import mesh as meshes

Target = str | tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class Rules:
    """Ordered pairs (logical axis, mesh axis or axes or None).

    The first pair of a name decides. A name without a pair is an error, never a silent
    replication.

    Example:
      >>> Rules((("embed", "fsdp"), ("mlp", "tensor"))).target("mlp")
      ('tensor',)
    """

    pairs: tuple[tuple[str, Target], ...]

    def __post_init__(self) -> None:
        # Gin hands over lists; a compiled step's cache needs them hashable.
        pairs = tuple(
            (str(n), tuple(t) if isinstance(t, list) else t) for n, t in self.pairs
        )
        object.__setattr__(self, "pairs", pairs)
        for name, target in self.pairs:
            for axis in _axes(target):
                if axis not in meshes.AXES:
                    remedy = f"mesh axes are {', '.join(meshes.AXES)}"
                    raise errors.UsageError(errors.fault("rules", name, axis, remedy))

    def target(self, name: str) -> tuple[str, ...]:
        """Mesh axes of one logical axis.

        Raises:
          UsageError: If no rule names it.
        """
        for known, target in self.pairs:
            if known == name:
                return _axes(target)
        known = ", ".join(sorted({n for n, _ in self.pairs}))
        raise errors.UsageError(
            errors.fault("rules", "logical axis", name, f"add a rule; known: {known}")
        )

    def spec(
        self, axes: Sequence[str | None], *, where: str = "rules"
    ) -> PartitionSpec:
        """Partition of an array whose axes have these logical names.

        Raises:
          UsageError: If two axes of the array would use one mesh axis.
        """
        taken: dict[str, str] = {}
        parts: list[Target] = []
        for name in axes:
            targets = self.target(name) if name is not None else ()
            for axis in targets:
                if axis in taken:
                    remedy = f"{taken[axis]!r} uses it too: change a rule of the two"
                    fault = errors.fault(where, f"mesh axis of {name!r}", axis, remedy)
                    raise errors.UsageError(fault)
                taken[axis] = str(name)
            parts.append(_part(targets))
        return PartitionSpec(*parts)

    def for_flax(self) -> list[tuple[str, Target]]:
        """The pairs as `flax.linen.logical_axis_rules` takes them."""
        return list(self.pairs)


def _axes(target: Target) -> tuple[str, ...]:
    if target is None:
        return ()
    return (target,) if isinstance(target, str) else tuple(target)


def _part(targets: Sequence[str]) -> Target:
    if not targets:
        return None
    return targets[0] if len(targets) == 1 else tuple(targets)


DEFAULT = Rules(
    (
        ("batch", ("data", "fsdp")),
        ("activation_embed", None),
        ("activation_length", None),
        ("vocab", "tensor"),
        ("mlp", "tensor"),
        ("heads", "tensor"),
        ("kv_heads", "tensor"),
        ("joined_kv", "tensor"),
        ("embed", "fsdp"),
        ("kv", None),
        ("length", None),
        ("layers", None),
        ("stack", None),
        ("code_levels", None),
        ("relpos_buckets", None),
        ("abspos_buckets", None),
        ("mlp_activations", None),
        ("lora", None),
    )
)


def fitted(spec: PartitionSpec, shape: Sequence[int], mesh: Mesh) -> PartitionSpec:
    """The partition with every axis that does not divide evenly left whole.

    A vocabulary of 4,099 pieces cannot be split in 8; the parameter is then replicated
    along that axis. `unsplit` lists such parameters, so that a plan can show them.
    """
    parts: list[Target] = []
    for size, part in zip(shape, (*spec, *(None,) * len(shape)), strict=False):
        ways = math.prod(int(mesh.shape[axis]) for axis in _axes(part))
        parts.append(part if size % ways == 0 else None)
    return PartitionSpec(*parts)


def _is_names(value: object) -> bool:
    return isinstance(value, tuple | PartitionSpec)


def _named(tree: Any) -> list[tuple[str, Any]]:
    found = jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_names)[0]
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), x) for path, x in found
    ]


def param_specs(shapes: Any, axes: Any, mesh: Mesh, rules: Rules) -> Any:
    """Partition of every parameter: a tree of the shape of ``shapes``.

    Args:
      shapes: Tree of arrays or of `jax.ShapeDtypeStruct`.
      axes: The same tree with logical names (a tuple or `PartitionSpec`) at each leaf.
      mesh: The mesh.
      rules: Logical to mesh axes.

    Raises:
      UsageError: Names the parameter whose axes collide, or that has no names.
    """
    names: Mapping[str, Any] = dict(_named(axes))
    leaves, tree = jax.tree_util.tree_flatten(shapes)
    specs = []
    for (path, _), leaf in zip(_named(shapes), leaves, strict=True):
        if path not in names or len(names[path]) != len(leaf.shape):
            remedy = f"one logical name an axis of {tuple(leaf.shape)} is needed"
            raise errors.UsageError(
                errors.fault("parameter", path, names.get(path), remedy)
            )
        specs.append(fitted(rules.spec(names[path], where=path), leaf.shape, mesh))
    return jax.tree_util.tree_unflatten(tree, specs)


def param_shardings(shapes: Any, axes: Any, mesh: Mesh, rules: Rules) -> Any:
    """`param_specs` on the mesh, as `NamedSharding`."""
    specs = param_specs(shapes, axes, mesh, rules)
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def unsplit(shapes: Any, axes: Any, mesh: Mesh, rules: Rules) -> list[str]:
    """Parameters that a rule would split and whose size does not divide."""
    names = dict(_named(axes))
    return [
        path
        for path, leaf in _named(shapes)
        if fitted(rules.spec(names[path], where=path), leaf.shape, mesh)
        != rules.spec(names[path], where=path)
    ]


def batch_sharding(mesh: Mesh, rules: Rules = DEFAULT) -> NamedSharding:
    """Placement of a batch: rows over the axes of ``batch``, the rest whole."""
    return NamedSharding(mesh, rules.spec(("batch",)))
