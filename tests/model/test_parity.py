"""Logits against Hugging Face transformers: stored ones always, live ones with torch.

The stored logits are made by ``python tests/model/golden/make_golden.py``.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from gr_jax.model import families, hf_import, protocol

GOLDEN = Path(__file__).parent / "golden"
VARIANTS = sorted(path.stem for path in GOLDEN.glob("*.npz"))
TOLERANCE = 1e-4


def _folder(tmp_path: Path, config: dict[str, Any], weights: dict[str, Any]) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config))
    contiguous = {k: np.ascontiguousarray(v) for k, v in weights.items()}
    safetensors_numpy.save_file(contiguous, tmp_path / "model.safetensors")
    return tmp_path


def _differences(
    folder: Path, source_BS: np.ndarray, target_BL: np.ndarray, wanted: np.ndarray
) -> tuple[float, float]:
    """Largest difference of our whole and of our cached logits from ``wanted``."""
    imported = hf_import.load(folder)
    model = families.build(imported.config)
    source_BS = jnp.asarray(source_BS, jnp.int32)
    target_BL = jnp.asarray(target_BL, jnp.int32)

    @jax.jit
    def both(params: Any) -> tuple[jax.Array, jax.Array]:
        prompt = model.prefill(params, source_BS)
        cache = model.empty_cache(source_BS.shape[0], 1, target_BL.shape[1])
        inputs = protocol.decoder_inputs(target_BL, model.start_token)

        def step(cache: Any, t: jax.Array) -> tuple[Any, jax.Array]:
            token = jax.lax.dynamic_slice_in_dim(inputs, t, 1, axis=1)[:, None]
            logits, cache = model.extend(params, prompt, cache, token, t)
            return cache, logits[:, 0, 0]

        steps = jax.lax.scan(step, cache, jnp.arange(target_BL.shape[1]))[1]
        return model.logits(params, source_BS, target_BL), steps.swapaxes(0, 1)

    whole, cached = both(imported.params)
    # A shape that broadcasts, or a NaN, must not pass for a small difference.
    assert whole.shape == cached.shape == wanted.shape
    return float(np.abs(whole - wanted).max()), float(np.abs(cached - wanted).max())


_TABLE = "largest difference of logits from transformers"


@pytest.mark.parametrize("variant", VARIANTS)
def test_stored_logits_are_met(
    variant: str, tmp_path: Path, figure: Callable[..., None]
) -> None:
    with np.load(GOLDEN / f"{variant}.npz", allow_pickle=False) as golden:
        config = json.loads(golden["config"].tobytes())
        weights = {
            key.removeprefix("weight/"): golden[key]
            for key in golden.files
            if key.startswith("weight/")
        }
        folder = _folder(tmp_path, config, weights)
        batch = (golden["source_BS"], golden["target_BL"], golden["logits_BLV"])
    assert np.abs(batch[2]).max() > 1.0
    whole, cached = _differences(folder, *batch)
    figure(_TABLE, variant, "stored, whole", whole)
    figure(_TABLE, variant, "stored, cached", cached)
    assert whole <= TOLERANCE
    assert cached <= TOLERANCE


def test_every_kind_of_model_has_stored_logits() -> None:
    assert {"t5_1_0", "t5_1_1", "llama_mha", "llama_gqa_2", "llama_mqa"} <= set(
        VARIANTS
    )
    assert all(p.stat().st_size < 200_000 for p in GOLDEN.glob("*.npz"))


def _maker() -> Any:
    spec = importlib.util.spec_from_file_location(
        "make_golden", GOLDEN / "make_golden.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parity
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("variant", VARIANTS)
def test_live_logits_are_met(
    variant: str, tmp_path: Path, figure: Callable[..., None]
) -> None:
    pytest.importorskip("torch", reason="live parity needs the extra `parity`")
    pytest.importorskip("transformers")
    maker = _maker()
    # Other weights and tokens than the stored ones.
    reference = maker.reference(variant, seed=1)
    source_BS, target_BL = maker.batch(1)
    wanted = maker.logits(reference, source_BS, target_BL)
    cached = maker.cached_logits(reference, source_BS, target_BL)
    np.testing.assert_allclose(cached, wanted, atol=TOLERANCE, rtol=0)
    folder = _folder(tmp_path, maker.VARIANTS[variant], maker.weights(reference))
    whole, cached = _differences(folder, source_BS, target_BL, wanted)
    figure(_TABLE, variant, "live, whole", whole)
    figure(_TABLE, variant, "live, cached", cached)
    assert whole <= TOLERANCE
    assert cached <= TOLERANCE
