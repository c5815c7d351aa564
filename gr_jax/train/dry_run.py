"""What a run would take, before there is a machine to run it on.

Parameters and optimizer state are exact: their shapes and placement are those of the
real step. The rest is read from XLA where it can compile for the machine, and estimated
from shapes where it cannot; `Plan.method` says which.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AbstractMesh, AxisType, Mesh

from gr_jax.core import errors
from gr_jax.model import accounting, families, packing
from gr_jax.model import config as model_config
from gr_jax.sharding import mesh as meshes
from gr_jax.sharding import rules as sharding_rules
from gr_jax.train import feed
from gr_jax.train import optimizer as optimizers
from gr_jax.train import recipe as recipes
from gr_jax.train import step as steps

UTILISATION = 0.4
_GIB = 2.0**30


@dataclasses.dataclass(frozen=True)
class Device:
    """An accelerator by its maker's figures: dense bf16 FLOP/s and bytes of memory."""

    peak_flops: float
    memory_bytes: float


DEVICES = {
    "a100-40": Device(312e12, 40 * _GIB),
    "a100": Device(312e12, 80 * _GIB),
    "h100": Device(989e12, 80 * _GIB),
    "h200": Device(989e12, 141e9),
    "tpu-v4": Device(275e12, 32 * _GIB),
    "tpu-v5e": Device(197e12, 16 * _GIB),
    "tpu-v5p": Device(459e12, 95 * _GIB),
    "tpu-v6e": Device(918e12, 32 * _GIB),
}


# What JAX calls them, the more particular first.
_KINDS = {
    "H200": "h200",
    "H100": "h100",
    "A100-SXM4-40GB": "a100-40",
    "A100": "a100",
    "TPU v4": "tpu-v4",
    "TPU v5 lite": "tpu-v5e",
    "TPU v5e": "tpu-v5e",
    "TPU v5": "tpu-v5p",
    "TPU v6": "tpu-v6e",
}


def of_kind(device_kind: str) -> Device | None:
    """The accelerator by JAX's name for its kind; None if not known.

    Example:
      >>> of_kind("NVIDIA H200").peak_flops
      989000000000000.0
    """
    for part, name in _KINDS.items():
        if part in device_kind:
            return DEVICES[name]
    return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Bytes are of one device; ``hours`` supposes `UTILISATION` of the peak.

    ``fits`` and ``hours`` are None where the device is not known.
    """

    method: str
    device: str
    devices: int
    mesh: dict[str, int]
    params: int
    params_trained: int
    param_bytes: int
    optimizer_bytes: int
    gradient_bytes: int
    activation_bytes: int
    total_bytes: int
    fits: bool | None
    step_flops: float
    steps: int
    hours: float | None
    unsplit: list[str]


def plan(
    recipe: recipes.Recipe, *, device: str | None = None, topology: str | None = None
) -> Plan:
    """The plan of a recipe on its mesh.

    Args:
      recipe: The run; its data is not read.
      device: A name of `DEVICES`; what is here unless given.
      topology: A TPU topology such as ``v5e:4x4``; compiled for ahead of time where
        the TPU plugin is installed.

    Raises:
      UsageError: If the device is unknown, or the mesh needs ``data`` spelled out.
    """
    if device is not None and device not in DEVICES:
        remedy = f"known: {', '.join(DEVICES)}"
        raise errors.UsageError(errors.fault("dry run", "device", device, remedy))
    target, method, can_compile = _target(recipe, device, topology)
    # A topology is named after its chips: v5e:4x4.
    known = DEVICES.get(device or f"tpu-{(topology or '').split(':')[0]}")
    if isinstance(target, Mesh):
        known = of_kind(target.devices.flat[0].device_kind)
    model = families.build(recipe.model)
    programs = steps.programs(
        model, recipe.training.for_step(), target, recipe.rules, recipe.training.lora
    )
    state = programs.abstract
    frozen = None if recipe.training.lora is None else programs.base
    param_bytes = _bytes(state.params) + (0 if frozen is None else _bytes(frozen))
    gradient_bytes = _bytes(state.params)
    activation_bytes = activations(recipe, target)
    activation_bytes += _copies(recipe.model, param_bytes, gradient_bytes)
    if can_compile:
        compiled = _compiled(recipe, programs, frozen)
        # XLA's temporaries hold activations and gradients together.
        activation_bytes = max(0, compiled - gradient_bytes)
    parts = (param_bytes, _bytes(state.optimizer), gradient_bytes, activation_bytes)
    devices = math.prod(target.shape.values())
    flops = accounting.train_flops(
        recipe.model, recipe.source_length, recipe.target_length, recipe.batch
    )
    hours = None
    if known is not None:
        seconds = flops / (devices * known.peak_flops * UTILISATION)
        hours = recipe.training.steps * seconds / 3600
    axes = model.param_axes()
    return Plan(
        method=method,
        device=device or topology or jax.devices()[0].device_kind,
        devices=devices,
        mesh={str(k): int(v) for k, v in target.shape.items()},
        params=_count(programs.base),
        params_trained=_count(state.params),
        param_bytes=parts[0],
        optimizer_bytes=parts[1],
        gradient_bytes=parts[2],
        activation_bytes=parts[3],
        total_bytes=sum(parts),
        fits=None if known is None else sum(parts) <= 0.92 * known.memory_bytes,
        step_flops=flops,
        steps=recipe.training.steps,
        hours=hours,
        unsplit=sharding_rules.unsplit(programs.base, axes, target, recipe.rules),
    )


def _target(
    recipe: recipes.Recipe, device: str | None, topology: str | None
) -> tuple[Any, str, bool]:
    """A mesh to place on, how it will be judged, and whether XLA can compile for it."""
    shape = recipe.mesh
    needed = math.prod(shape.sizes)
    reason = "no plugin for it here"
    if topology is not None:
        try:
            described = topologies.get_topology_desc(topology, "tpu")
            made = meshes.make_mesh(*shape.sizes, devices=described.devices)
            return made, f"compiled ahead of time for {topology}", True
        except (RuntimeError, ValueError, NotImplementedError) as error:
            reason = str(error).splitlines()[0][:120]
    elif device is None and needed <= jax.device_count():
        made = meshes.make_mesh(*shape.sizes)
        return made, "compiled for the devices here", True
    if needed == 0:
        remedy = "spell out data: the number of devices is not known"
        raise errors.UsageError(errors.fault("dry run", "mesh", shape.sizes, remedy))
    abstract = AbstractMesh(shape.sizes, meshes.AXES, axis_types=(AxisType.Auto,) * 3)
    return abstract, f"estimated from shapes ({reason})", False


def _compiled(recipe: recipes.Recipe, programs: steps.Programs, frozen: Any) -> int:
    """Bytes of XLA's temporaries in the real step, allocating nothing."""
    names = (*feed.FIELDS, *(packing.FIELDS if recipe.layout.pack else ()))
    shapes = {
        name: recipe.source_length if name.endswith("S") else recipe.target_length
        for name in names
    }
    batch = {
        name: jax.ShapeDtypeStruct(
            (recipe.batch, length), np.int32, sharding=programs.batch
        )
        for name, length in shapes.items()
    }
    numbers = {
        name: jax.ShapeDtypeStruct((), np.float32)
        for name in optimizers.schedule_numbers(recipe.training)
    }
    step: Any = programs.step
    with jax.set_mesh(programs.mesh):
        compiled = step.lower(programs.abstract, frozen, batch, numbers).compile()
    return int(compiled.memory_analysis().temp_size_in_bytes)


def activations(recipe: recipes.Recipe, target: Mesh | AbstractMesh) -> int:
    """Bytes of activations kept for the backward pass on one device, estimated.

    Counted are what ``remat`` keeps of each layer, the attention weights (not kept by
    fused kernels), one layer's work, the logits with their gradient in float32, and
    two layers' kernels where fsdp gathers them.
    """
    config = recipe.model
    rows = recipe.batch / (target.shape["data"] * target.shape["fsdp"])
    rows /= recipe.training.accumulation
    split = target.shape["tensor"]
    source, tokens = recipe.source_length, recipe.target_length
    if isinstance(config, model_config.T5Config):
        kept = config.encoder_layers * _layer(config, source, source, split)
        kept += config.decoder_layers * _layer(config, tokens, tokens + source, split)
        working = _layer(config, max(source, tokens), source, split, remat="none")
    else:
        whole = source + tokens
        kept = config.layers * _layer(config, whole, whole, split)
        working = _layer(config, whole, whole, split, remat="none")
    logits = 2 * 4.0 * tokens * config.vocab_size / split
    if config.remat == "none":
        working = 0.0
    gathered = 0.0
    if target.shape["fsdp"] > 1:
        # Two layers' kernels are whole at a time: one computed with, one on its way.
        size = np.dtype(jax.numpy.dtype(config.dtype)).itemsize
        counted = accounting.parameters(config)
        gathered = 2 * size * counted.non_embedding / _layers(config) / split
    return int(rows * (kept + working + logits) + gathered)


def _copies(
    config: model_config.ModelConfig, param_bytes: int, gradient_bytes: int
) -> int:
    """Bytes of whole trees that XLA holds beside parameters and gradients.

    They are the updates and, where something else than float32 is computed in, the
    parameters and the gradients in that type: XLA converts a stack of layers at once.
    Without them plans for TPUs came to half of what was allocated there.
    """
    size = np.dtype(jax.numpy.dtype(config.dtype)).itemsize
    converted = 0 if size == 4 else (param_bytes + gradient_bytes) * size // 4
    return gradient_bytes + converted


def _layers(config: model_config.ModelConfig) -> int:
    if isinstance(config, model_config.T5Config):
        return config.encoder_layers + config.decoder_layers
    return config.layers


def _layer(
    config: model_config.ModelConfig,
    tokens: int,
    keys: int,
    split: int,
    remat: str | None = None,
) -> float:
    """Bytes that one layer keeps of one row."""
    remat = config.remat if remat is None else remat
    size = np.dtype(jax.numpy.dtype(config.dtype)).itemsize
    if remat == "full":
        return float(tokens * config.embed_dim * size)
    joined = config.heads * config.head_dim + 2 * config.kv_heads * config.head_dim
    hidden = len(config.mlp_activations) * config.mlp_dim
    products = joined + config.heads * config.head_dim + hidden
    wide = 2 * config.embed_dim
    if remat == "none":
        products += hidden + config.mlp_dim
        wide = 6 * config.embed_dim
    weights = 0 if config.attention != "plain" else config.heads * keys * (4 + size)
    return tokens * ((products * size + weights) / split + wide * size)


def _bytes(tree: Any) -> int:
    """Bytes of a tree on one device of its sharding."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def readable(made: Plan) -> str:
    """The plan as lines for people."""
    axes = " x ".join(f"{name} {size}" for name, size in made.mesh.items())
    lines = [
        f"method          {made.method}",
        f"devices         {made.devices} of {made.device} ({axes})",
        f"parameters      {made.params:,} ({made.params_trained:,} trained)",
    ]
    for name in ("param", "optimizer", "gradient", "activation", "total"):
        size = getattr(made, f"{name}_bytes") / _GIB
        lines.append(f"{name + ' memory':15s} {size:.3f} GiB a device")
    if made.fits is not None:
        lines.append(f"fits            {'yes' if made.fits else 'NO'}")
    lines.append(f"step            {made.step_flops:.3e} FLOPs")
    if made.hours is not None:
        lines.append(
            f"time            {made.hours:.2f} h for {made.steps:,} steps at "
            f"{UTILISATION:.0%} of the peak"
        )
    if made.unsplit:
        lines.append(f"not split       {', '.join(made.unsplit)} (sizes do not divide)")
    return "\n".join(lines)
