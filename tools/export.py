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
    parser.add_argument(
        "--run",
        type=Path,
        required=True,
        metavar="DIR",
        help="a run, an import, or a cell of a study; under LoRA the merged model",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--step", type=int, help="which checkpoint (default: newest)")
    parser.add_argument(
        "--dtype", help="float32, bfloat16 or float16 (default: as imported)"
    )
    parser.add_argument("--shard-gb", type=float, default=5.0, help="limit of one file")


def run(args: argparse.Namespace) -> int:
    """Exports what the flags name."""
    from gr_jax.model import hf_export, hf_layout
    from gr_jax.train import saved
    from tools import progress_bars

    found = saved.find(args.run, args.step)
    dtype = args.dtype or found.stored_dtype
    facts = {
        "run": str(found.folder),
        "step": found.step,
        "dtype": dtype,
        "tensors": len(hf_layout.entries(found.config)),
        "out": str(args.out),
    }
    if not args.dry_run:
        hf_export.save(
            args.out,
            found.config,
            found.params(),
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
