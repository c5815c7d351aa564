#!/usr/bin/env bash
# One node, all its GPUs, one process: parameters and optimizer split over them.
set -euo pipefail

GPUS="${GPUS:-8}"
export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}"

while true; do
  code=0
  gr-jax train \
    --gin_file="${MODEL_GIN:?gin file of the model}" \
    --gin_file=run/train.gin \
    --gin.MIXTURE_OR_TASK_NAME="'${EXAMPLES:?folder of examples}'" \
    --gin.TASK_FEATURE_LENGTHS="{'inputs': 64, 'targets': 16}" \
    --gin.TRAIN_STEPS="${STEPS:-100000}" \
    --gin.MODEL_DIR="'${MODEL_DIR:?folder of the run}'" \
    --gin.BATCH_SIZE="${BATCH_SIZE:-1024}" \
    --gin.MESH_FSDP="${GPUS}" || code=$?
  # 75: asked to stop, saved. Anything else is an end or an error.
  [[ "${code}" -eq 75 && "${REQUEUE:-0}" -eq 1 ]] || exit "${code}"
done
