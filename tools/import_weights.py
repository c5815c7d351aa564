"""Verb `import`: Hugging Face or T5X weights become a run's checkpoint."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import cli

if TYPE_CHECKING:
    from gr_jax.core.progress import Progress
    from gr_jax.model import hf_import
    from gr_jax.model.config import ModelConfig

SUMMARY = "Hugging Face or T5X weights into a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        metavar="DIR",
        help="Hugging Face folder, or T5X checkpoint_<step> with --gin_file=model/..",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN")
    parser.add_argument(
        "--stacked",
        action="store_true",
        help="stack layers, for training with SCAN_LAYERS",
    )
    parser.add_argument("--dtype", default="float32", help="what is computed in later")


def run(args: argparse.Namespace) -> int:
    """Imports what the flags name."""
    import numpy as np

    from gr_jax.core import artifacts
    from gr_jax.model import accounting
    from gr_jax.model import config as model_config
    from gr_jax.train import checkpoint
    from tools import progress_bars

    config = _config(args)
    counts = dataclasses.asdict(accounting.parameters(config))
    facts: dict[str, Any] = {"weights": str(args.weights), "parameters": counts}
    if args.dry_run:
        facts["bytes"] = 4 * counts["total"]
        facts["model"] = model_config.to_json(config)
        _print(facts, args)
        return 0
    found = _loaded(args, config, progress_bars.bars(args))
    written = checkpoint.save(
        args.out,
        # T5X reads the step of whatever it starts from.
        {"target": found.params, "state": {"step": np.int32(0)}},
        checkpoint.Progress(step=0),
        config={
            "model": model_config.to_json(found.config),
            "stored_dtype": found.stored_dtype,
        },
        inputs=_digests(args.weights),
    )
    facts["checkpoint"] = str(written)
    facts["digest"] = artifacts.digest_of(written)
    _print(facts, args)
    return 0


def _is_hugging_face(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _config(args: argparse.Namespace) -> ModelConfig:
    from gr_jax.core import artifacts, errors
    from gr_jax.model import hf_config
    from tools import configure

    path = args.weights / "config.json"
    if _is_hugging_face(args.weights):
        options = {"dtype": args.dtype, "scan_layers": args.stacked}
        return hf_config.from_hugging_face(
            artifacts.read_json(path), where=path, **options
        )
    if not args.gin_file:
        raise errors.UsageError(
            f"{path}: missing: for a T5X checkpoint give its --gin_file=model/NAME.gin"
        )
    configure.load_args(args)
    config = dataclasses.replace(
        _bound_model(), scan_layers=args.stacked, dtype=args.dtype
    )
    return config


def _bound_model() -> ModelConfig:
    import gin

    from gr_jax.core import errors

    try:
        return gin.query_parameter("%MODEL").scoped_configurable_fn()
    except (ValueError, AttributeError):
        raise errors.UsageError(
            "MODEL: not bound: give a --gin_file of model/"
        ) from None


def _loaded(
    args: argparse.Namespace, config: ModelConfig, progress: Progress
) -> hf_import.Imported:
    from gr_jax.model import hf_import, t5x_import

    if _is_hugging_face(args.weights):
        options = {"dtype": args.dtype, "scan_layers": args.stacked}
        return hf_import.load(args.weights, progress=progress, **options)
    params = t5x_import.load(args.weights, config)
    return hf_import.Imported(config, params, "float32")


def _digests(folder: Path) -> dict[str, str]:
    from gr_jax.core import artifacts

    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {
        p.relative_to(folder).as_posix(): artifacts.sha256_file(p)
        for p in files
        if not p.name.startswith(".")
    }


def _print(facts: dict[str, Any], args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        print(f"{name:12s} {value}")


if __name__ == "__main__":
    raise SystemExit(cli.main(["import", *sys.argv[1:]]))
