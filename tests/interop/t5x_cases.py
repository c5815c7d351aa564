"""Cases that need T5X, each run in a process of its own by `test_t5x`.

python tests/interop/t5x_cases.py CASE FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

if sys.argv[1] == "mesh":
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
from flax.core import unfreeze
from t5x import adafactor, checkpoints, decoding, models, partitioning, trainer
from t5x import utils as t5x_utils
from t5x.examples.t5 import network

from gr_jax.identifiers import constraint_index
from gr_jax.interop import t5x, t5x_decoding
from gr_jax.model import config as model_config
from gr_jax.model import families, ladder, t5x_import
from gr_jax.train import checkpoint
from gr_jax.train import loss as losses

VOCABULARY = 32
ROWS = [[9, 5, 1], [9, 6, 1], [9, 6, 7, 1], [12, 1], [20, 3, 3, 3, 1], [31, 1]]
RULES = partitioning.standard_logical_axis_rules(
    additional_rules=[("activation_embed", None), ("code_levels", None)]
)


def config_of(family: Any, **options: Any) -> model_config.ModelConfig:
    size = {"t5": "30k", "llama": "25k"}[family]
    return ladder.build(family, size, vocab_size=VOCABULARY, **options)


def ours(family: Any, config: Any = None, **options: Any) -> Any:
    optimizer = adafactor.Adafactor(logical_factor_rules=t5x.logical_factor_rules())
    return t5x.Model(config or config_of(family), None, None, optimizer, **options)


def batch_of(rows: int = 4) -> dict[str, jax.Array]:
    generator = np.random.default_rng(0)
    source = generator.integers(1, VOCABULARY, (rows, 8))
    source[1, 5:] = 0
    target = generator.integers(1, VOCABULARY, (rows, 5))
    target[0, 3:] = 0
    arrays = {
        "encoder_input_tokens": source,
        "decoder_input_tokens": np.pad(target[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": target,
        "decoder_loss_weights": target != 0,
    }
    return {name: jnp.asarray(rows, jnp.int32) for name, rows in arrays.items()}


def same(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def contract(folder: Path) -> None:
    """A `BaseTransformerModel` with every method, under the names T5X calls."""
    del folder
    model = ours("llama")
    assert isinstance(model, models.BaseTransformerModel)
    assert not t5x.Model.__abstractmethods__
    assert t5x.Model is t5x.Model
    for name in ("predict_batch_with_aux", "score_batch", "get_initial_variables"):
        theirs = inspect.signature(getattr(models.EncoderDecoderModel, name))
        mine = inspect.signature(getattr(t5x.Model, name))
        assert list(theirs.parameters) == list(mine.parameters), name
    assert (
        model.FEATURE_CONVERTER_CLS is models.EncoderDecoderModel.FEATURE_CONVERTER_CLS
    )


def training_loss(folder: Path) -> None:
    """T5X's loss of our model, its gradient and its metrics, against our own loss."""
    del folder
    batch = batch_of()
    for family in ("t5", "llama"):
        model = ours(family, z_loss=1e-3)
        params = model.model.init(jax.random.key(0))

        def objective(params: Any, model: Any = model) -> Any:
            logits = model.model.logits(
                params, batch["encoder_input_tokens"], batch["decoder_target_tokens"]
            )
            found = losses.cross_entropy(
                logits, batch["decoder_target_tokens"], z_loss=1e-3
            )
            return found.objective / found.tokens

        grad = jax.jit(jax.value_and_grad(model.loss_fn, has_aux=True))
        (value, metrics), gradient = grad(params, batch, None)
        expected, own_gradient = jax.jit(jax.value_and_grad(objective))(params)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        for a, b in zip(
            jax.tree.leaves(gradient), jax.tree.leaves(own_gradient), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        assert {"accuracy", "cross_ent_loss", "z_loss"} <= set(metrics)
        total = ours(family, z_loss=1e-3, loss_normalizing_factor=None)
        tokens = int((batch["decoder_target_tokens"] != 0).sum())
        np.testing.assert_allclose(
            total.loss_fn(params, batch, None)[0] / tokens, expected, rtol=1e-5
        )


def converted(pairs: list[Any], *, pack: bool) -> dict[str, jax.Array]:
    """One batch as SeqIO's converter of T5X's runs makes it."""
    dataset = tf.data.Dataset.from_generator(
        lambda: ({"inputs": source, "targets": target} for source, target in pairs),
        output_signature={
            name: tf.TensorSpec([None], tf.int32) for name in ("inputs", "targets")
        },
    )
    converter = models.EncoderDecoderModel.FEATURE_CONVERTER_CLS(pack=pack)
    rows = list(converter(dataset, {"inputs": 16, "targets": 12}).as_numpy_iterator())
    return {
        name: jnp.asarray(np.stack([row[name] for row in rows])) for name in rows[0]
    }


def packed(folder: Path) -> None:
    """Packed batches: loss and gradient of single pairs, logits of T5X's network."""
    del folder
    rng = np.random.default_rng(1)
    pairs = [
        tuple(rng.integers(2, VOCABULARY, length).tolist() for length in lengths)
        for lengths in ((3, 4), (9, 2), (4, 5), (16, 1), (2, 12), (5, 5), (6, 3))
    ]
    rows, alone = converted(pairs, pack=True), converted(pairs, pack=False)
    assert len(rows["encoder_input_tokens"]) < len(pairs)
    assert rows["decoder_segment_ids"].max() >= 3
    for family in ("t5", "llama"):
        model = ours(family)
        params = jax.tree.map(lambda x: 2 * x, model.model.init(jax.random.key(6)))
        grad = jax.jit(jax.value_and_grad(model.loss_fn, has_aux=True))
        (value, _), gradient = grad(params, rows, None)
        (expected, _), single = grad(params, alone, None)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        for a, b in zip(
            jax.tree.leaves(gradient), jax.tree.leaves(single), strict=True
        ):
            scale = np.abs(b).max()
            # Rounding: plain and fused attention differ by 1.3e-5 on the same rows.
            np.testing.assert_allclose(a / scale, b / scale, atol=3e-5)
        scored = jax.jit(model.score_batch)
        np.testing.assert_allclose(
            scored(params, rows).sum(), scored(params, alone).sum(), rtol=1e-5
        )
    config = config_of("t5")
    mine = ours("t5", config)
    theirs = models.EncoderDecoderModel(network_like(config), None, _Vocabulary(), None)
    params = mine.model.init(jax.random.key(7))
    is_real_BL = np.asarray(rows["decoder_loss_weights"]) == 1
    np.testing.assert_allclose(
        jax.jit(mine._compute_logits)(params, rows)[is_real_BL],
        jax.jit(theirs._compute_logits)(params, rows)[is_real_BL],
        atol=1e-4,
    )


def network_like(config: model_config.T5Config) -> network.Transformer:
    return network.Transformer(
        network.T5Config(
            vocab_size=config.vocab_size,
            emb_dim=config.embed_dim,
            num_heads=config.heads,
            num_encoder_layers=config.encoder_layers,
            num_decoder_layers=config.decoder_layers,
            head_dim=config.head_dim,
            mlp_dim=config.mlp_dim,
            mlp_activations=config.mlp_activations,
            dropout_rate=0.0,
            logits_via_embedding=config.tied_head,
        )
    )


def tree_index(folder: Path) -> str:
    flat = np.array([token for row in ROWS for token in row], np.int32)
    starts = np.cumsum([0, *map(len, ROWS)])
    constraint_index.build_rows(flat, starts, VOCABULARY).save(folder / "tree")
    return str(folder / "tree")


def own_network(folder: Path) -> None:
    """T5X's own network with our parameters: its logits, and our decoder under it."""
    decode_fn = t5x_decoding.constrained(tree_index(folder), beams=4)
    batch = batch_of()
    for options in ({}, {"mlp_activations": ("relu",), "tied_head": True}):
        config = config_of("t5", **options)
        mine = ours("t5", config, decode_fn=decode_fn)
        theirs = models.EncoderDecoderModel(
            network_like(config), None, _Vocabulary(), None, decode_fn=decode_fn
        )
        params = mine.model.init(jax.random.key(3))
        # Behind a target's end T5X masks, and we do not: nothing reads either.
        is_real_BL = np.asarray(batch["decoder_loss_weights"]) == 1
        np.testing.assert_allclose(
            jax.jit(mine._compute_logits)(params, batch)[is_real_BL],
            jax.jit(theirs._compute_logits)(params, batch)[is_real_BL],
            atol=1e-4,
        )
        np.testing.assert_allclose(
            jax.jit(mine.score_batch)(params, batch),
            jax.jit(theirs.score_batch)(params, batch),
            atol=1e-4,
        )
        for beams in (4, 8):
            asked = {"return_all_decodes": True, "num_decodes": beams}
            token_BML, aux = predicted(mine, params, batch, **asked)
            other_BML, other = predicted(theirs, params, batch, **asked)
            np.testing.assert_array_equal(token_BML, other_BML)
            np.testing.assert_allclose(aux["scores"], other["scores"], atol=1e-4)
            legal = {tuple(row) for row in ROWS}
            for row in np.asarray(token_BML).reshape(-1, 5):
                assert tuple(row[row > 0].tolist()) in legal | {()}
    best_BL, aux = predicted(mine, params, batch, num_decodes=8)
    np.testing.assert_array_equal(best_BL, aux["decodes"][:, -1])
    np.testing.assert_array_equal(best_BL, token_BML[:, -1])


def predicted(model: Any, params: Any, batch: Any, **asked: Any) -> Any:
    ask = functools.partial(model.predict_batch_with_aux, **asked)
    return jax.device_get(jax.jit(ask)(params, batch))


class _Vocabulary:
    eos_id = 1


def decoders(folder: Path) -> None:
    """T5X's own decoding functions with our models."""
    del folder
    batch = batch_of()
    for decode_fn, beams in (
        (decoding.beam_search, 3),
        (decoding.temperature_sample, 1),
    ):
        config = config_of("t5")
        mine = ours("t5", config, decode_fn=decode_fn)
        theirs = models.EncoderDecoderModel(
            network_like(config), None, _Vocabulary(), None, decode_fn=decode_fn
        )
        params = mine.model.init(jax.random.key(4))
        asked = {"return_all_decodes": True, "num_decodes": beams}
        token_BML, aux = predicted(mine, params, batch, **asked)
        other_BML, other = predicted(theirs, params, batch, **asked)
        np.testing.assert_array_equal(token_BML, other_BML)
        np.testing.assert_allclose(aux["scores"], other["scores"], atol=1e-4)
    for scan in (False, True):
        model = ours("llama", config_of("llama", scan_layers=scan))
        model._decode_fn = decoding.temperature_sample
        params = model.model.init(jax.random.key(5))
        rng = jax.random.key(0)
        token_BL, _ = predicted(model, params, batch, rng=rng, num_decodes=1)
        logits = jax.jit(model.model.logits)
        logits_BLV = logits(params, batch["encoder_input_tokens"], token_BL)
        best_BL = np.asarray(logits_BLV.argmax(axis=-1))
        ended_BL = np.cumsum(np.asarray(token_BL) == 1, axis=1) > 0
        before_BL = ~np.pad(ended_BL[:, :-1], ((0, 0), (1, 0)))
        np.testing.assert_array_equal(best_BL[before_BL], token_BL[before_BL])


def state_of(model: Any, partitioner: Any, **options: Any) -> tuple[Any, Any]:
    made = t5x_utils.TrainStateInitializer(
        optimizer_def=options.get("optimizer_def", model.optimizer_def),
        init_fn=model.get_initial_variables,
        input_shapes={name: rows.shape for name, rows in batch_of().items()},
        partitioner=partitioner,
    )
    return made, made.from_scratch(jax.random.PRNGKey(0))


def checkpoints_(folder: Path) -> None:
    """Parameters bit for bit through both of T5X's layouts and through ours."""
    partitioner = partitioning.PjitPartitioner(1, logical_axis_rules=RULES)
    batch = batch_of()
    for family in ("t5", "llama"):
        model = ours(family)
        _, state = state_of(model, partitioner)
        given = jax.tree.map(np.asarray, unfreeze(state.params))
        place = folder / family
        place.mkdir()
        writer = checkpoints.OrbaxCheckpointManagerInterface(
            str(place), state, partitioner
        )
        writer.save(state)
        writer.wait_until_finished()
        same(t5x_import.load(place / "checkpoint_0", config_of(family)), given)
        old = folder / f"{family}-legacy"
        old.mkdir()
        checkpoints.Checkpointer(state, partitioner, str(old)).save(state)
        found = t5x_import.load(old / "checkpoint_0", config_of(family))
        same(found, given)
        own = families.build(config_of(family))
        same(
            jax.jit(own.logits)(
                found, batch["encoder_input_tokens"], batch["decoder_target_tokens"]
            ),
            jax.jit(model._compute_logits)(given, batch),
        )
        read_by_t5x(folder / f"{family}-ours", model, partitioner, given)


def read_by_t5x(folder: Path, model: Any, partitioner: Any, given: Any) -> None:
    """What our trainer (or an import) writes, restored as `t5x.infer` restores it."""
    state = {"step": np.int32(7), "key": np.zeros(2, np.uint32), "param_states": {}}
    for kept in ({"step": np.int32(0)}, state):
        tree = {"target": given, "state": kept}
        path = checkpoint.save(folder, tree, checkpoint.Progress(step=7))
        made, _ = state_of(model, partitioner, optimizer_def=None)
        restored, _ = t5x_utils.create_checkpoint_manager_and_restore(
            made,
            partitioner,
            t5x_utils.RestoreCheckpointConfig(
                path=str(path), mode="specific", dtype="float32", strict=False
            ),
            str(path),
            None,
            use_orbax=True,
        )
        same(jax.tree.map(np.asarray, unfreeze(restored.params)), given)


def mesh(folder: Path) -> None:
    """Four devices: parameters split by their names, constraints in the step."""
    del folder
    rows = 8
    codes = model_config.CodeTables(levels=2, size=4)
    wide = {"heads": 4, "head_dim": 8}
    configs = {
        "t5": config_of("t5", codes=codes, **wide),
        "llama": dataclasses.replace(config_of("llama"), kv_heads=4, **wide),
    }
    for family, config in configs.items():
        model = ours(family, config)
        partitioner = partitioning.PjitPartitioner(4, logical_axis_rules=RULES)
        made, state = state_of(model, partitioner)
        layer = state.params["decoder"]["layers_0"]["self_attention"]
        kernel = layer["query"]["kernel"]
        assert kernel.sharding.spec == jax.sharding.PartitionSpec(None, "model")
        assert kernel.addressable_shards[0].data.shape == (32, 8)
        table = state.params["token_embedder"]["embedding"]
        assert table.addressable_shards[0].data.shape[0] == table.shape[0] // 4
        made_by = trainer.Trainer(
            model=model,
            train_state=state,
            partitioner=partitioner,
            eval_names=[],
            summary_dir=None,
            train_state_axes=made.train_state_axes,
            rng=jax.random.PRNGKey(0),
            learning_rate_fn=lambda step: 1e-3 + 0 * step,
            num_microbatches=None,
        )
        step = made_by._partitioned_train_step
        batch = {name: jnp.tile(a, (rows // 4, 1)) for name, a in batch_of().items()}
        text = step.lower(state, batch).as_text()
        count = text.count("sharding_constraint")
        assert count > 10, count
        after, metrics = step(state, batch)
        assert np.isfinite(metrics["loss"].compute())
        assert after.params["token_embedder"]["embedding"].sharding == table.sharding


if __name__ == "__main__":
    cases = {
        "contract": contract,
        "training_loss": training_loss,
        "packed": packed,
        "own_network": own_network,
        "decoders": decoders,
        "checkpoints": checkpoints_,
        "mesh": mesh,
    }
    cases[sys.argv[1]](Path(sys.argv[2]))
