"""Verb `export`: a run's weights as a Hugging Face folder."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tools import cli

SUMMARY = "weights to Hugging Face safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument("--run", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--step", type=int, help="which checkpoint (default: newest)")
    parser.add_argument(
        "--dtype", help="float32, bfloat16 or float16 (default: as imported)"
    )
    parser.add_argument("--shard-gb", type=float, default=5.0, help="limit of one file")


def run(args: argparse.Namespace) -> int:
    """Exports what the flags name."""
    from gr_jax.core import errors
    from gr_jax.model import config as model_config
    from gr_jax.model import hf_export, hf_layout
    from gr_jax.train import checkpoint
    from tools import progress_bars

    if args.step is None:
        found = checkpoint.newest(args.run)
        if found is None:
            raise errors.ArtifactError(f"{args.run}: no checkpoint: train first")
        step, manifest, _ = found
    else:
        step, (manifest, _) = args.step, checkpoint.check(args.run, args.step)
    if "model" not in manifest.config:
        path = checkpoint.path_of(args.run, step)
        raise errors.ArtifactError(f"{path}: model: not recorded: train or import anew")
    config = model_config.from_json(manifest.config["model"])
    dtype = args.dtype or manifest.config.get("stored_dtype", "float32")
    facts = {
        "run": str(args.run),
        "step": step,
        "dtype": dtype,
        "tensors": len(hf_layout.entries(config)),
        "out": str(args.out),
    }
    if not args.dry_run:
        hf_export.save(
            args.out,
            config,
            checkpoint.read_params(args.run, step=step),
            dtype=dtype,
            shard_bytes=int(args.shard_gb * 1e9),
            progress=progress_bars.bars(args),
        )
    if args.json:
        print(json.dumps(facts))
    else:
        print("\n".join(f"{name:8s} {value}" for name, value in facts.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(cli.main(["export", *sys.argv[1:]]))
