#!/usr/bin/env bash
# Everything that needs a CUDA machine, in one resumable run:  bash benchmarks/gpu.sh [OUT]
#
# A stage gets STAGE_S seconds (default 540) at a time. One that needs longer is stopped and keeps
# its finished work: start the script again to continue it. Finished stages leave OUT/NAME.done and
# are not run again; each has its output in OUT/NAME.log. The table of what was measured comes last.
#
# Exit status: 0 all stages are done; 1 a stage failed (those that need it are skipped, the others
# are run); 75 stages are not finished, start again; 2 something is missing on this machine.
#
# ONLY="tests encoder planning_1" runs these stages alone, each if what it needs is done.
# TOTAL_S=570 ends the call in time: later stages get the time that is left, or wait for the next
# call. Where a machine is lent for ten minutes at a time, repeat  TOTAL_S=570 bash benchmarks/gpu.sh
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
OUT=${1:-runs/gpu}
ONLY=${ONLY:-}
DEVICE=${DEVICE:-cuda}  # cpu tries the script itself
STAGE_S=${STAGE_S:-540}
TOTAL_S=${TOTAL_S:-0}  # 0: no limit
LEAST_S=${LEAST_S:-45}  # a stage with less time left does not begin
WORKERS=${WORKERS:-$(nproc --all)}  # plain nproc obeys OMP_NUM_THREADS
EPISODES=${EPISODES:-12000}
VAL_EPISODES=${VAL_EPISODES:-400}
STEPS=${STEPS:-12000}
PRETRAIN=${PRETRAIN:-vit_small}  # recipe of configs/pretrain
PRETRAIN_STEPS=${PRETRAIN_STEPS:-24000}
EVAL_EPISODES=${EVAL_EPISODES:-40}
ENCODERS=${ENCODERS:-"vit_large vit_giant"}
KERNELS_SIZE=${KERNELS_SIZE:-ac}
BENCH_SIZE=${BENCH_SIZE:-ac}  # predictor size of the planning stages
BENCH_SAMPLES=${BENCH_SAMPLES:-800}
BENCH_ITERATIONS=${BENCH_ITERATIONS:-4}
POST=${POST:-droid_vitg}  # recipe of the post-training stages
POST_ENCODER=${POST_ENCODER:-random:vit_giant}
POST_SIZE=${POST_SIZE:-256}  # side of its images
POST_CLIPS=${POST_CLIPS:-16}
POST_STEPS=${POST_STEPS:-20}
WIDTH="encoder_dim=384 predictor_dim=384 predictor_heads=6 encoder_heads=6"
OBJECTS="objects=[cube,cube,cube,box,cup]"
CONTACT="mix=contact objects=[cube,box,cup,T,long_box] objects_per_scene=[0.8,0.2] walls=0.25 turned=0.6"
DATA="data=$OUT/data/train val=$OUT/data/val"
failed=() skipped=() unfinished=()

mkdir -p "$OUT"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
if ! command -v worldmodel > /dev/null; then  # a checkout that is not installed
    mkdir -p "$OUT/bin"
    printf '#!/bin/sh\nexec python -m planning.cli.app "$@"\n' > "$OUT/bin/worldmodel"
    chmod +x "$OUT/bin/worldmodel"
    PATH=$(cd "$OUT/bin" && pwd):$PATH
fi
python benchmarks/gpu_report.py check "$OUT" "$DEVICE" || exit 2
DEVICES=$(cat "$OUT/devices.txt")

stage() {  # stage NAME "NEEDED STAGES" COMMAND...
    local name=$1 needs=$2 need status limit=$STAGE_S began=$SECONDS
    shift 2
    [ -f "$OUT/$name.done" ] && return
    [ -n "$ONLY" ] && [[ " $ONLY " != *" $name "* ]] && return
    for need in $needs; do
        if [ ! -f "$OUT/$need.done" ]; then
            echo "== $name: skipped, since $need is not done"
            skipped+=("$name")
            return
        fi
    done
    if [ "$TOTAL_S" -gt 0 ] && [ $((TOTAL_S - SECONDS)) -lt "$limit" ]; then
        limit=$((TOTAL_S - SECONDS))
        if [ "$limit" -lt "$LEAST_S" ]; then
            echo "== $name: left for the next call"
            unfinished+=("$name")
            return
        fi
    fi
    echo "== $name: $*"
    timeout --kill-after=60 "$limit" "$@" < /dev/null >> "$OUT/$name.log" 2>&1
    status=$?
    echo $((SECONDS - began)) >> "$OUT/$name.seconds"
    case $status in
        0) touch "$OUT/$name.done" ;;
        124 | 137)
            echo "   not finished after $limit s; start the script again to continue it"
            unfinished+=("$name")
            ;;
        *)
            echo "   failed with status $status; the end of $OUT/$name.log:"
            tail -n 5 "$OUT/$name.log"
            failed+=("$name")
            ;;
    esac
}

GPU_TESTS=$(grep -rlF --include='test_*.py' pytest.mark.gpu tests)  # others need not be importable
# shellcheck disable=SC2086 # several words on purpose, here and below
[ "$DEVICE" = cuda ] && stage tests "" python -m pytest -q -s -m gpu -p no:cacheprovider $GPU_TESTS
for precision in float32 tf32 bfloat16; do
    stage agreement_$precision "" python benchmarks/agreement.py device="$DEVICE" precision=$precision \
        out="$OUT/agreement_$precision.json"
done
stage encoder "" python benchmarks/gpu_encoder.py --device "$DEVICE" --presets $ENCODERS --out "$OUT/encoder.json"
stage kernels "" python benchmarks/gpu_kernels.py --device "$DEVICE" --size "$KERNELS_SIZE" \
    --out "$OUT/kernels.json"
for horizon in 1 2; do
    stage planning_$horizon "" worldmodel bench planning device="$DEVICE" sizes=[$BENCH_SIZE] \
        horizons=[$horizon] samples="$BENCH_SAMPLES" iterations="$BENCH_ITERATIONS" repeats=1 pairs=2 \
        out="$OUT/planning_$horizon"
done

# Post-training at its published size: from frames, and from stored features of the same encoder.
POST_WORDS="recipe=$POST device=$DEVICE encoder=$POST_ENCODER image_size=$POST_SIZE batch_size=$POST_CLIPS accumulate=1
    steps=$POST_STEPS warmup=1 decay=1 log_every=5 eval_every=$POST_STEPS save_every=$POST_STEPS
    val_clips=8 plan_clips=0"
stage collect_post "" worldmodel collect episodes=64 seed=600000 workers="$WORKERS" out="$OUT/data/post"
stage index_post collect_post worldmodel data index root="$OUT/data/post" out="$OUT/index_post"
stage frames_post index_post worldmodel data prepare index="$OUT/index_post" image_size=$POST_SIZE \
    out="$OUT/frames_post"
stage features_post index_post worldmodel data prepare index="$OUT/index_post" what=features \
    encoder="$POST_ENCODER" image_size=$POST_SIZE device="$DEVICE" out="$OUT/features_post"
stage post_frames frames_post worldmodel train $POST_WORDS data="$OUT/frames_post" \
    val="$OUT/frames_post" out="$OUT/post_frames"
stage post_features features_post worldmodel train $POST_WORDS data="$OUT/features_post" \
    val="$OUT/features_post" out="$OUT/post_features"
stage post_compiled features_post worldmodel train $POST_WORDS compile=true data="$OUT/features_post" \
    val="$OUT/features_post" out="$OUT/post_compiled"
if [ "$DEVICES" -ge 2 ]; then
    for parallel in ddp fsdp; do
        stage post_two_$parallel features_post torchrun --nproc-per-node=2 -m planning.cli.app train \
            $POST_WORDS parallel=$parallel data="$OUT/features_post" val="$OUT/features_post" \
            out="$OUT/post_two_$parallel"
    done
fi

# The embedded models, larger: with the simulator's label and without.
stage collect "" worldmodel collect episodes="$EPISODES" workers="$WORKERS" "$OBJECTS" out="$OUT/data/train"
stage collect_val "" worldmodel collect episodes="$VAL_EPISODES" seed=500000 workers="$WORKERS" "$OBJECTS" \
    out="$OUT/data/val"
stage train "collect collect_val" worldmodel train recipe=sim_small device="$DEVICE" $DATA \
    batch_size=256 steps="$STEPS" $WIDTH out="$OUT/model"
stage train_unlabelled "collect collect_val" worldmodel train recipe=sim_small_unlabelled \
    device="$DEVICE" $DATA batch_size=256 steps="$STEPS" $WIDTH out="$OUT/model_unlabelled"

# The models that plan from one goal image: on the larger one without labels, and with the label.
stage collect_contact "" worldmodel collect $CONTACT episodes="$EPISODES" workers="$WORKERS" \
    out="$OUT/data/contact"
stage collect_contact_val "" worldmodel collect $CONTACT episodes="$VAL_EPISODES" seed=900000 \
    workers="$WORKERS" out="$OUT/data/contact_val"
CONTACT_DATA="data=$OUT/data/contact val=$OUT/data/contact_val"
stage train_one_goal_short "train_unlabelled collect_contact collect_contact_val" worldmodel train \
    recipe=sim_one_goal device="$DEVICE" $CONTACT_DATA encoder="$OUT/model_unlabelled" \
    batch_size=256 steps="$STEPS" out="$OUT/one_goal_short"
stage train_one_goal_labelled_short "train collect_contact collect_contact_val" worldmodel train \
    recipe=sim_one_goal_labelled device="$DEVICE" $CONTACT_DATA encoder="$OUT/model" \
    batch_size=256 steps="$STEPS" out="$OUT/one_goal_labelled_short"
stage train_one_goal train_one_goal_short worldmodel train recipe=sim_one_goal_long \
    device="$DEVICE" $CONTACT_DATA encoder="$OUT/one_goal_short" steps="$STEPS" out="$OUT/model_one_goal"
stage train_one_goal_labelled train_one_goal_labelled_short worldmodel train \
    recipe=sim_one_goal_labelled_long device="$DEVICE" $CONTACT_DATA \
    encoder="$OUT/one_goal_labelled_short" steps="$STEPS" out="$OUT/model_one_goal_labelled"

# Masked-video pretraining, then action-conditioned training on its encoder: frozen as published,
# and fine-tuned with the terms of joint training.
stage pretrain "collect collect_val" worldmodel pretrain recipe="$PRETRAIN" device="$DEVICE" $DATA \
    steps="$PRETRAIN_STEPS" out="$OUT/pretrain"
for mode in frozen finetune; do
    stage "train_$mode" pretrain worldmodel train recipe=sim_small_$mode device="$DEVICE" \
        encoder="$OUT/pretrain/encoder.safetensors" $DATA batch_size=128 num_frames=8 steps="$STEPS" \
        predictor_dim=256 predictor_heads=4 out="$OUT/model_$mode"
done

evaluate() {  # evaluate MODEL NEEDED_STAGE TASKS OPTIONS...
    local model=$1 need=$2 tasks=$3 task
    shift 3
    for task in $tasks; do
        stage "eval_${model}_$task" "$need" worldmodel eval task="$task" "$@" device="$DEVICE" \
            episodes="$EVAL_EPISODES" workers="$WORKERS" pictures=false \
            model="$OUT/$model/model.safetensors" out="$OUT/eval_${model}_$task"
    done
}
for name in "" _unlabelled _frozen _finetune; do
    stage "probes_model$name" "train$name" worldmodel inspect probes model="$OUT/model$name/model.safetensors" \
        $DATA out="$OUT/probes_model$name"
    evaluate "model$name" "train$name" "reach grasp pick_place"
done
evaluate model_one_goal train_one_goal "pick_place push" sub_goals=one
evaluate model_one_goal_labelled train_one_goal_labelled "pick_place push push_pose over_wall" sub_goals=one

echo
[ ${#unfinished[@]} -gt 0 ] && echo "not finished: ${unfinished[*]}"
[ ${#skipped[@]} -gt 0 ] && echo "skipped: ${skipped[*]}"
[ ${#failed[@]} -gt 0 ] && echo "failed: ${failed[*]}"
python benchmarks/gpu_report.py table "$OUT"
[ ${#failed[@]} -gt 0 ] && exit 1
[ ${#unfinished[@]} -gt 0 ] && exit 75
exit 0
