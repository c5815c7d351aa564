#!/usr/bin/env bash
# What large models would take on stated machines: a row a plan; nothing is trained.
#   bash docs/scale-out/plans.sh
# TPU rows are compiled ahead of time where the TPU plugin is installed (no TPU is needed:
# pip install "jax[tpu]" at the version in use) and estimated from shapes elsewhere. GPU
# rows are always estimated. The second column says which.
set -euo pipefail

row() { # name, plan
  python - "$@" <<'PY'
import json, sys
name, plan = sys.argv[1], json.loads(sys.argv[2])
parts = ("param", "optimizer", "gradient", "activation", "total")
axes = [f"{axis} {size}" for axis, size in plan["mesh"].items() if size > 1]
how = "compiled" if plan["method"].startswith("compiled") else "estimated"
cells = [f"{name}, {plan['device']}: {' x '.join(axes)}", how]
cells += [f"{plan[part + '_bytes'] / 2**30:.1f}" for part in parts]
cells += ["?" if plan["fits"] is None else "yes" if plan["fits"] else "NO"]
cells += ["?" if plan["hours"] is None else f"{plan['hours']:.1f}"]
print("|", " | ".join(cells), "|", flush=True)
PY
}

plan() { # name, device flags, mesh, gin files and bindings..
  local name=$1 device=$2 mesh=$3
  shift 3
  # The flags are several words; none holds a space of its own.
  # shellcheck disable=SC2086
  row "$name" "$(gr-jax train --dry-run --json $device $mesh "$@" \
    --gin.MIXTURE_OR_TASK_NAME="'unread'" --gin.MODEL_DIR="'unread'" \
    --gin.TASK_FEATURE_LENGTHS="{'inputs': 128, 'targets': 16}" \
    --gin.BATCH_SIZE=512 --gin.TRAIN_STEPS=100000 --gin.REMAT="'full'")"
}

xxl=(--gin_file=model/t5_1_1_xxl.gin --gin_file=run/train_adafactor.gin)
llama=(--gin_file=model/llama2_70b.gin --gin_file=run/train.gin)
lora=(--gin_file=model/llama2_70b.gin --gin_file=run/train_lora.gin
  --gin.INITIAL_CHECKPOINT_PATH="'unread'")
mesh() { echo "--gin.MESH_DATA=$1 --gin.MESH_FSDP=$2 --gin.MESH_TENSOR=$3"; }

echo "| model, machine | method | parameters | optimizer | gradients | activations |" \
  "total GiB | fits | hours |"
echo "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |"
plan "T5 1.1 XXL, Adafactor" "--topology v5e:4x4" "$(mesh 1 16 1)" "${xxl[@]}"
plan "T5 1.1 XXL, Adafactor" "--topology v5e:8x8" "$(mesh 1 16 4)" "${xxl[@]}"
plan "T5 1.1 XXL, Adafactor" "--device h100" "$(mesh 1 8 1)" "${xxl[@]}"
plan "LLaMA 2 70B, AdamW" "--topology v5p:4x4x4" "$(mesh 1 16 4)" "${llama[@]}"
plan "LLaMA 2 70B, AdamW" "--device h200" "$(mesh 1 16 1)" "${llama[@]}"
plan "LLaMA 2 70B, LoRA" "--topology v5e:8x8" "$(mesh 1 64 1)" "${lora[@]}"
plan "LLaMA 2 70B, LoRA" "--device h200" "$(mesh 1 8 1)" "${lora[@]}"
