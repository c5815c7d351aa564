"""Verb `train`: one model, from scratch or from weights, on any mesh."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tools import cli

if TYPE_CHECKING:
    from gr_jax.train.recipe import Recipe

SUMMARY = "train one model, whole or by LoRA, on one device or a mesh; resumes"
_DEFAULT = "run/train.gin"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the verb's own flags."""
    parser.add_argument("--coordinator_address", metavar="HOST:PORT")
    parser.add_argument("--process_count", type=int, metavar="N")
    parser.add_argument("--process_index", type=int, metavar="I")
    parser.add_argument(
        "--multihost",
        action="store_true",
        help="join the other processes that SLURM, Kubernetes or a TPU pod announces",
    )
    parser.add_argument(
        "--device",
        default=None,
        metavar="NAME",
        help="with --dry-run: plan for this accelerator (h100, a100, tpu-v5e, ..)",
    )
    parser.add_argument(
        "--topology",
        default=None,
        metavar="NAME",
        help="with --dry-run: compile ahead of time for this TPU topology (v5e:4x4)",
    )


def run(args: argparse.Namespace) -> int:
    """Trains, resumes, or plans with --dry-run."""
    from gr_jax.sharding import hosts
    from gr_jax.train import dry_run, recipe
    from tools import configure, progress_bars

    configure.load_args(args, default=_DEFAULT)
    if args.multihost or args.coordinator_address:
        place = (args.coordinator_address, args.process_count, args.process_index)
        hosts.connect(*place)
    asked = configure.build(recipe.Recipe)
    if not args.dry_run:
        asked = _with_examples(asked, args)
    if args.dry_run:
        plan = dry_run.plan(asked, device=args.device, topology=args.topology)
        value = dataclasses.asdict(plan)
        print(json.dumps(value) if args.json else dry_run.readable(plan))
        return 0
    done = recipe.run(asked, progress_bars.bars(args))
    value = {
        "folder": asked.folder,
        "steps": done.steps,
        "final_loss": done.final_loss,
        "data_tokens": done.data_tokens,
        "examples_seen": done.examples_seen,
        "wall_s": round(done.wall_s, 3),
        "resumed_from": done.resumed_from,
        "skipped": list(done.skipped),
    }
    if hosts.describe()["process"] == 0:
        print(
            json.dumps(value)
            if args.json
            else "\n".join(f"{name:14s} {shown}" for name, shown in value.items())
        )
    return 0


def _with_examples(asked: Recipe, args: argparse.Namespace) -> Recipe:
    """The recipe with a folder of examples where it names a SeqIO task.

    With several processes the first one exports; they share the run's folder.
    """
    if Path(asked.data).is_dir():
        return asked
    from jax.experimental import multihost_utils

    from gr_jax.data import named_task
    from gr_jax.sharding import hosts
    from tools import configure, progress_bars

    named = configure.build(named_task.NamedTask, name=asked.data)
    if named.module is not None and not _is_given(args, "MIXTURE_OR_TASK_MODULE"):
        configure.check_module(named.module, where="MIXTURE_OR_TASK_MODULE")
    place = hosts.describe()
    folder = Path(asked.folder) / "examples"
    if place["process"] == 0:
        named_task.prepare(
            named,
            folder,
            lengths=asked.lengths,
            reporter=progress_bars.bars(args),
        )
    if place["processes"] > 1:
        multihost_utils.sync_global_devices("examples exported")
    return dataclasses.replace(asked, data=str(folder))


def _is_given(args: argparse.Namespace, macro: str) -> bool:
    """Whether the user wrote a macro on the command line, not only a file."""
    return any(b.split("=")[0].strip() == macro for b in args.gin_bindings)


if __name__ == "__main__":
    raise SystemExit(cli.main(["train", *sys.argv[1:]]))
