#!/usr/bin/env bash
# From a trained model to Hugging Face's form, back, and onto another collection: whole,
# by adapters, and, for comparison, from scratch. Prints one line a way.
#
#   RUN=runs/pre/cells/HASH VOCABULARY=runs/pre/vocabulary COLLECTION=squad-1k \
#     WORK=runs/tuning bash docs/examples/fine_tuning.sh
#
# What exists below WORK is kept: a run that was stopped goes on.
set -euo pipefail
exec 3>&1 1>&2 # the table alone goes to stdout
RUN=${RUN:?a trained run, or a cell of a study}
VOCABULARY=${VOCABULARY:?the vocabulary of that run}
COLLECTION=${COLLECTION:?a folder with queries of the splits train, dev and test}
WORK=${WORK:?where everything goes}
STEPS=${STEPS:-1000}
SPLITS=${SPLITS:-dev test}
WAYS=${WAYS:-full lora scratch}
FULL_RATE=${FULL_RATE:-3e-2}
LORA_RATE=${LORA_RATE:-1e-2}
LORA_RANK=${LORA_RANK:-16}
LORA_TARGETS=${LORA_TARGETS:-(kernel|embedding)\$}

new() { [ ! -e "$1" ]; }  # whether a step is still to be done
mkdir -p "$WORK"

# Weights: out, in, and out again, the same bytes.
new "$WORK/hf" && gr-jax export --run "$RUN" --out "$WORK/hf"
new "$WORK/imported" && gr-jax import --weights "$WORK/hf" --out "$WORK/imported"
new "$WORK/hf-again" && gr-jax export --run "$WORK/imported" --out "$WORK/hf-again"
cmp "$WORK/hf/model.safetensors" "$WORK/hf-again/model.safetensors"
echo "export, import and export again: the same bytes"

# Identifiers, index and examples of the new collection, spelled with the old vocabulary.
new "$WORK/ids" && gr-jax ids --collection "$COLLECTION" --vocabulary "$VOCABULARY" \
  --kind rq --option levels=3 --option codes=32 --queries train --out "$WORK/ids"
new "$WORK/index" && gr-jax index --identifiers "$WORK/ids" --out "$WORK/index"
new "$WORK/examples" && gr-jax cache --pairs "$WORK/pairs" --collection "$COLLECTION" \
  --identifiers "$WORK/ids" --vocabulary "$VOCABULARY" --export "$WORK/examples" \
  --source-length 64

train() {  # way, flags..
  local way=$1
  shift
  gr-jax train --gin_file=model/checkpoint.gin "$@" \
    --gin.INITIAL_CHECKPOINT_PATH="'$WORK/imported'" \
    --gin.MIXTURE_OR_TASK_NAME="'$WORK/examples'" \
    --gin.TASK_FEATURE_LENGTHS="{'inputs': 64, 'targets': 5}" \
    --gin.TRAIN_STEPS="$STEPS" --gin.BATCH_SIZE=32 --gin.LABEL_SMOOTHING=0.1 \
    --gin.SCHEDULE="'cosine'" --gin.MODEL_DIR="'$WORK/$way'"
}

row() { # way, split, and what the three verbs said
  python - "$@" >&3 <<'PY'
import json, sys
way, split = sys.argv[1:3]
plan, done, found = map(json.loads, sys.argv[3:])
metrics = found["metrics"]
cells = [way, split, f"{plan['params_trained']:,}", f"{plan['optimizer_bytes']:,}"]
cells += [f"{done['final_loss']:.3f}", f"{done['wall_s']:.0f}"]
cells += [f"{metrics[name]['value']:.3f}" for name in ("recall@1", "recall@10")]
print("|", " | ".join(cells), "|", flush=True)
PY
}

echo "| way | split | trained | optimizer bytes | loss | s | Recall@1 | Recall@10 |" >&3
echo "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |" >&3
for way in $WAYS; do
  case "$way" in
    full) flags=(--gin_file=run/train_finetune.gin --gin.LEARNING_RATE="$FULL_RATE"
      --gin.OPTIMIZER="'adafactor'") ;;
    lora) flags=(--gin_file=run/train_lora.gin --gin.LEARNING_RATE="$LORA_RATE"
      --gin.LORA_RANK="$LORA_RANK" --gin.LORA_ALPHA="$LORA_RANK"
      --gin.LORA_TARGETS="('$LORA_TARGETS',)") ;;
    scratch) flags=(--gin_file=run/train_finetune.gin --gin.LEARNING_RATE="$FULL_RATE"
      --gin.OPTIMIZER="'adafactor'" --gin.recipe.Recipe.initial_checkpoint=None) ;;
    *) echo "WAYS: $way: use full, lora, scratch" >&2; exit 2 ;;
  esac
  plan=$(train "$way" "${flags[@]}" --dry-run --json)
  done=$(train "$way" "${flags[@]}" --json)
  for split in $SPLITS; do
    out=$WORK/$way-$split
    new "$out" && gr-jax decode --model "$WORK/$way" --collection "$COLLECTION" \
      --vocabulary "$VOCABULARY" --identifiers "$WORK/ids" --index "$WORK/index" \
      --split "$split" --beam 16 --out "$out"
    found=$(gr-jax evaluate --run "$out/run.trec" --qrels "$COLLECTION/qrels/$split.tsv" \
      --k 1 10 --json)
    row "$way" "$split" "$plan" "$done" "$found"
  done
done
