"""Verb train by gin, and the scale-out recipes: they parse, their flags exist."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gr_jax.data import arrays, pairs
from gr_jax.testing import toy
from gr_jax.train import recipe
from tools import cli, configure, train

_RECIPES = Path(__file__).resolve().parents[2] / "docs" / "scale-out"
_MODEL = """
from __gin__ import dynamic_registration
from gr_jax.model import ladder
MODEL = @ladder.build()
ladder.build.family = 'llama'
ladder.build.size = '25k'
ladder.build.vocab_size = 32
"""


def _arguments(tmp_path: Path, *more: str) -> list[str]:
    (tmp_path / "model.gin").write_text(_MODEL)
    return [
        "train",
        f"--gin_file={tmp_path / 'model.gin'}",
        "--gin_file=run/train.gin",
        f"--gin.MIXTURE_OR_TASK_NAME='{tmp_path / 'examples'}'",
        "--gin.TASK_FEATURE_LENGTHS={'inputs': 8, 'targets': 4}",
        "--gin.TRAIN_STEPS=3",
        f"--gin.MODEL_DIR='{tmp_path / 'run'}'",
        "--gin.BATCH_SIZE=8",
        "--json",
        *more,
    ]


def _examples(folder: Path) -> None:
    generator = np.random.default_rng(0)
    rows = [generator.integers(4, 30, 5).tolist() for _ in range(16)]
    targets = [[*row[:2], 1] for row in rows]
    names = [f"q{i}" for i in range(16)]
    arrays.save(folder, arrays.from_rows(rows, targets, names, [0] * 16))


def test_trains_and_resumes_by_gin(tmp_path, capsys):
    _examples(tmp_path / "examples")
    assert cli.main(_arguments(tmp_path)) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["steps"], first["examples_seen"], first["data_tokens"]) == (3, 24, 72)
    assert cli.main(_arguments(tmp_path)) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["resumed_from"] == 3
    assert again["final_loss"] == first["final_loss"]


def test_a_seqio_task_by_name_trains_as_its_export(tmp_path, capsys, monkeypatch):
    vocab = toy.small_vocabulary(tmp_path / "study" / "vocabulary")
    made = toy.collection()
    judged = pairs.judged(made, "train")
    targets = [[[*vocab.encode(d.text)[:3], 1]] for _, d in judged]
    pairs.save(
        tmp_path / "study" / "pairs" / "x",
        pairs.query_pairs(judged, targets),
        collection="pydocs",
        identifiers="x",
        target_vocabulary=vocab.size,
    )
    monkeypatch.setenv("GR_JAX_STUDY", str(tmp_path / "study"))
    importlib.reload(importlib.import_module("tasks.builtin"))
    width = f"--gin.ladder.build.vocab_size={vocab.size}"
    words = _arguments(tmp_path, width, "--gin.MIXTURE_OR_TASK_NAME='pydocs_x_query'")
    assert cli.main([*words, "--gin.MIXTURE_OR_TASK_MODULE='tasks.builtin'"]) == 0
    first = json.loads(capsys.readouterr().out)
    examples = tmp_path / "run" / "examples"
    assert len(arrays.load(examples)) == len(judged)
    again = _arguments(
        tmp_path,
        width,
        f"--gin.MIXTURE_OR_TASK_NAME='{examples}'",
        f"--gin.MODEL_DIR='{tmp_path / 'other'}'",
    )
    assert cli.main(again) == 0
    assert json.loads(capsys.readouterr().out)["final_loss"] == first["final_loss"]


def test_a_files_task_module_is_on_the_allow_list(tmp_path, capsys):
    words = _arguments(tmp_path, "--gin.MIXTURE_OR_TASK_NAME='nowhere'")
    with (tmp_path / "model.gin").open("a") as file:
        file.write("MIXTURE_OR_TASK_MODULE = 'json'\n")
    # Files are read in order: this one after run/train.gin.
    words[1], words[2] = words[2], words[1]
    assert cli.main(words) == 2
    assert "gin files may import only" in capsys.readouterr().err
    assert cli.main([*words, "--gin.MIXTURE_OR_TASK_MODULE='json'"]) == 2
    assert "MIXTURE_OR_TASK_NAME: 'nowhere'" in capsys.readouterr().err


def test_dry_run_reads_no_data(tmp_path, capsys):
    words = _arguments(tmp_path, "--dry-run", "--device=h100", "--gin.MESH_FSDP=4")
    assert cli.main(words) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["devices"] == 4
    assert plan["method"].startswith("estimated from shapes")


def test_settings_that_exclude_each_other_are_one_line(tmp_path, capsys):
    words = _arguments(tmp_path, "--gin.PACK=True", "--gin.BUCKETS=(4, 8)")
    assert cli.main(words) == 2
    message = capsys.readouterr().err
    assert "choose one" in message
    assert message.count("\n") == 1


def test_missing_macro_is_a_usage_error(tmp_path, capsys):
    words = [w for w in _arguments(tmp_path) if "TRAIN_STEPS" not in w]
    assert cli.main(words) == 2
    assert "TRAIN_STEPS" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [("finetune", "adamw"), ("adafactor", "adafactor"), ("lora", "adamw")],
)
def test_run_files_make_their_settings(tmp_path, name, optimizer):
    (tmp_path / "model.gin").write_text(_MODEL)
    configure.load(
        [f"run/train_{name}.gin", str(tmp_path / "model.gin")],
        [
            "MIXTURE_OR_TASK_NAME='examples'",
            "TASK_FEATURE_LENGTHS={'inputs': 8, 'targets': 4}",
            "TRAIN_STEPS=3",
            "MODEL_DIR='run'",
            "INITIAL_CHECKPOINT_PATH='base'",
        ],
    )
    made = configure.build(recipe.Recipe)
    assert made.training.optimizer == optimizer
    assert made.initial_checkpoint == "base"
    assert (made.training.lora is not None) == (name == "lora")


# GiB of a device that XLA allocated when docs/scale-out/plans.sh was compiled for TPUs.
@pytest.mark.parametrize(
    ("name", "fsdp", "flags", "allocated"),
    [
        ("t5_1_1_xxl", 16, ["--gin_file=run/train_adafactor.gin"], 13.5),
        (
            "llama2_70b",
            64,
            [
                "--gin_file=run/train_lora.gin",
                "--gin.INITIAL_CHECKPOINT_PATH='unread'",
            ],
            12.2,
        ),
    ],
)
def test_estimates_are_near_what_xla_allocates_on_a_tpu(
    name, fsdp, flags, allocated, capsys
):
    common = [
        "--gin.TASK_FEATURE_LENGTHS={'inputs': 128, 'targets': 16}",
        "--gin.BATCH_SIZE=512",
        "--gin.REMAT='full'",
        "--gin.TRAIN_STEPS=10",
        "--gin.MIXTURE_OR_TASK_NAME='unread'",
        "--gin.MODEL_DIR='unread'",
        f"--gin.MESH_FSDP={fsdp}",
    ]
    asked = ["train", "--dry-run", "--json", "--device", "tpu-v5e"]
    assert cli.main([*asked, f"--gin_file=model/{name}.gin", *flags, *common]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert 0.75 < plan["total_bytes"] / 2**30 / allocated < 1.25


@pytest.mark.parametrize(
    "path",
    [
        "multi_gpu.sh",
        "slurm.sbatch",
        "xpk.sh",
        "prepare.sh",
        "plans.sh",
        "../examples/fine_tuning.sh",
    ],
)
def test_shell_recipes_parse(path):
    done = subprocess.run(
        ["bash", "-n", str(_RECIPES / path)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("path", "verbs"),
    [
        ("prepare.sh", ["corpus", "vocab", "ids", "cache", "cache"]),
        (
            "../examples/fine_tuning.sh",
            [
                "export",
                "import",
                "export",
                "ids",
                "index",
                "cache",
                "decode",
                "evaluate",
            ],
        ),
    ],
)
def test_examples_use_verbs_and_flags_that_exist(path, verbs):
    text = (_RECIPES / path).read_text().replace("\\\n", " ")
    commands = re.findall(r"gr-jax (\w+)([^\n]*)", text)
    # `train` takes gin macros, which another test looks at.
    commands = [found for found in commands if found[0] != "train"]
    assert [verb for verb, _ in commands] == verbs
    for verb, rest in commands:
        parser = argparse.ArgumentParser()
        importlib.import_module(cli.VERBS[verb]).add_arguments(parser)
        known = {o for action in parser._actions for o in action.option_strings}
        flags = set(re.findall(r"(?<=\s)--[a-z-]+(?=\s)", rest)) - {"--json"}
        assert flags
        assert flags <= known, (verb, flags - known)


def test_jobset_is_yaml_of_one_process_a_host():
    yaml: Any = pytest.importorskip("yaml")
    value = yaml.safe_load((_RECIPES / "gke_jobset.yaml").read_text())
    job = value["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["parallelism"] == job["completions"] == 4
    (container,) = job["template"]["spec"]["containers"]
    assert container["command"][:2] == ["gr-jax", "train"]


@pytest.mark.parametrize(
    "path",
    [
        "multi_gpu.sh",
        "slurm.sbatch",
        "xpk.sh",
        "gke_jobset.yaml",
    ],
)
def test_recipes_use_flags_and_macros_that_exist(path):
    text = (_RECIPES / path).read_text()
    command = text[text.index("gr-jax train") if "gr-jax train" in text else 0 :]
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    known = {option for action in parser._actions for option in action.option_strings}
    known |= {"--gin_file", "--dry-run"}
    flags = set(re.findall(r"(?<![\w-])--[a-z_]+(?=[=\s])", command))
    assert flags <= known, flags - known
    macros = set(re.findall(r"--gin\.(\w+)=", text))
    shipped = (_RECIPES.parents[1] / "gin_configs" / "run" / "train.gin").read_text()
    assert macros
    assert all(f"\n{macro} =" in shipped for macro in macros)
