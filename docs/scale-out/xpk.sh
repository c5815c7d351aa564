#!/usr/bin/env bash
# A TPU slice by XPK: 64 chips of v5e, 16 hosts of 4; JobSet restarts what exits.
set -euo pipefail

xpk workload create \
  --cluster "${CLUSTER:?name of the XPK cluster}" \
  --workload "${WORKLOAD:-gr-jax}" \
  --tpu-type v5litepod-64 \
  --num-slices 1 \
  --max-restarts 100 \
  --docker-image "${IMAGE:?image with gr-jax and jax[tpu]}" \
  --command "gr-jax train --multihost \
    --gin_file=${MODEL_GIN:?gin file of the model} \
    --gin_file=run/train.gin \
    --gin.MIXTURE_OR_TASK_NAME=\"'${EXAMPLES:?folder of examples}'\" \
    --gin.TASK_FEATURE_LENGTHS=\"{'inputs': 64, 'targets': 16}\" \
    --gin.TRAIN_STEPS=${STEPS:-100000} \
    --gin.MODEL_DIR=\"'${MODEL_DIR:?folder of the run, mounted in every pod}'\" \
    --gin.BATCH_SIZE=${BATCH_SIZE:-4096} \
    --gin.MESH_FSDP=64"
