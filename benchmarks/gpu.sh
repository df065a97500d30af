#!/usr/bin/env bash
# Everything that wants a CUDA machine, in one resumable run:  bash benchmarks/gpu.sh [OUT]
# Finished stages leave a .done file in OUT and are not run again. The table comes last.
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${1:-runs/gpu}
WORKERS=${WORKERS:-$(nproc)}
EPISODES=${EPISODES:-12000}
STEPS=${STEPS:-12000}
PRETRAIN=${PRETRAIN:-vit_small}  # recipe of configs/pretrain
PRETRAIN_STEPS=${PRETRAIN_STEPS:-24000}
OBJECTS="objects=[cube,cube,cube,box,cup]"
mkdir -p "$OUT"
python -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "No CUDA device: this script is for a machine with one.")'
python -c 'import torch; print(torch.cuda.get_device_name())' > "$OUT/device.txt"

stage() {  # stage NAME COMMAND...: run once, keep its output
    local name=$1
    shift
    if [ -f "$OUT/$name.done" ]; then return; fi
    echo "== $name: $*"
    if "$@" > "$OUT/$name.log" 2>&1; then touch "$OUT/$name.done"; else
        echo "   failed; see $OUT/$name.log"
        tail -n 5 "$OUT/$name.log"
    fi
}

stage tests python -m pytest -q -m gpu -p no:cacheprovider
stage planning worldmodel bench planning device=cuda "sizes=[ac]" "horizons=[1,2]" samples=800 iterations=10 repeats=1 out="$OUT/planning"
stage collect worldmodel collect episodes="$EPISODES" workers="$WORKERS" "$OBJECTS" out="$OUT/data/train"
stage collect_val worldmodel collect episodes=400 seed=500000 workers="$WORKERS" "$OBJECTS" out="$OUT/data/val"
stage train worldmodel train recipe=sim_small device=cuda data="$OUT/data/train" val="$OUT/data/val" \
    batch_size=256 steps="$STEPS" encoder_dim=384 predictor_dim=384 predictor_heads=6 encoder_heads=6 out="$OUT/model"
# Masked-video pretraining, then action-conditioned training on its encoder: frozen as published,
# and fine-tuned with the terms of joint training. No simulator label in any of the three.
stage train_unlabelled worldmodel train recipe=sim_small_unlabelled device=cuda data="$OUT/data/train" \
    val="$OUT/data/val" batch_size=256 steps="$STEPS" encoder_dim=384 predictor_dim=384 \
    predictor_heads=6 encoder_heads=6 out="$OUT/model_unlabelled"
stage pretrain worldmodel pretrain recipe="$PRETRAIN" device=cuda data="$OUT/data/train" \
    val="$OUT/data/val" steps="$PRETRAIN_STEPS" out="$OUT/pretrain"
for mode in frozen finetune; do
    stage "train_$mode" worldmodel train recipe=sim_small_$mode device=cuda \
        encoder="$OUT/pretrain/encoder.safetensors" data="$OUT/data/train" val="$OUT/data/val" \
        batch_size=128 num_frames=8 steps="$STEPS" predictor_dim=256 predictor_heads=4 \
        out="$OUT/model_$mode"
done
for model in model model_unlabelled model_frozen model_finetune; do
    stage "probes_$model" worldmodel inspect probes model="$OUT/$model/model.safetensors" \
        data="$OUT/data/train" val="$OUT/data/val" out="$OUT/probes_$model"
    for task in reach grasp pick_place push; do
        stage "eval_${model}_$task" worldmodel eval task=$task episodes=40 workers="$WORKERS" \
            model="$OUT/$model/model.safetensors" out="$OUT/eval_${model}_$task"
    done
done

OUT="$OUT" python - <<'TABLE'
import json, os
from pathlib import Path

out = Path(os.environ["OUT"])
print("device:", (out / "device.txt").read_text().strip())
for folder in sorted(out.glob("eval_*")):
    if (folder / "summary.json").is_file():
        row = json.loads((folder / "summary.json").read_text())
        model = Path(row["model"]).parent.name
        print(f"{model:18s} {row['task']:12s} {row['successes']}/{row['episodes']}  "
              f"{row['seconds_per_action']['median']:.3f} s/action")
for folder in sorted(out.glob("probes_*")):
    if (folder / "summary.json").is_file():
        row = json.loads((folder / "summary.json").read_text())
        names = ("object_encoded_m", "object_predicted_m", "loss_true", "loss_copy", "loss_shuffled")
        print(f"{folder.name:26s}", " ".join(f"{n}={row[n]:.4f}" for n in names))
file = out / "pretrain" / "summary.json"
if file.is_file():
    last = json.loads(file.read_text())["last"]
    names = ("val_masked_short", "val_masked_long", "val_mean", "feature_std", "effective_rank")
    print("pretraining:", " ".join(f"{n}={last[n]:.4g}" for n in names))
file = out / "planning" / "summary.json"
if file.is_file():
    for row in json.loads(file.read_text())["rows"]:
        print(" ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()))
TABLE
