#!/usr/bin/env bash
# What each part of the one-goal recipe is worth, on one GPU:  bash benchmarks/gpu_ablations.sh [OUT]
#
# Every arm changes one thing, and trains both phases with the same data, steps and seed; then come
# the errors of its rollouts by step, and evaluations on tuning episodes. `base`, `short`, `no_head`
# and `state` continue from the embedded model as the recipe does; `adaln` needs a new predictor, and
# is to be compared with `fresh`; `tokens` needs a new encoder as well, and is to be compared with
# `scratch`. JOBS arms run at a time on CORES cores. Numbers of steps are chosen once, from the
# measured pace, so that a phase takes about PHASE_S seconds. Nothing begins after TOTAL_S seconds.
# Finished parts leave OUT/PART.done and are not run again; each has its output in OUT/PART.log. The
# table comes last, and is OUT/ablations.json.
#
# SHORT_DATA and LONG_DATA are words of `worldmodel train` that name the data of the two phases, and
# VAL a folder of unseen episodes; without them the script collects its own.
#
# Exit status: 0 all parts are done; 1 a part failed; 75 parts are not finished, start again.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
OUT=${1:-runs/gpu_ablations}
PYTHON=${PYTHON:-python3}
DEVICE=${DEVICE:-cuda}  # cpu tries the script itself
CORES=${CORES:-4}
JOBS=${JOBS:-2}
ARMS=${ARMS:-"base adaln fresh short no_head state scratch tokens"}
TASKS=${TASKS:-"pick_place over_wall"}
EPISODES=${EPISODES:-20}
COLLECT=${COLLECT:-900}  # contact episodes that it collects, with half as many at a wall
PHASE_S=${PHASE_S:-60}
PART_S=${PART_S:-180}
TOTAL_S=${TOTAL_S:-900}
BATCH=${BATCH:-128}
LONG_BATCH=${LONG_BATCH:-256}  # of phase 2, whose steps wait for launches
PACE_STEPS=${PACE_STEPS:-60}
TRAIN="device=$DEVICE threads=1 seed=0 plan_clips=0 save_every=100000 eval_every=100000 log_every=20"
REPORT="$PYTHON benchmarks/gpu_ablations.py"
export OMP_NUM_THREADS=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

mkdir -p "$OUT"
rm -f "$OUT"/*.failed "$OUT"/*.unfinished
trap 'trap - TERM INT; kill 0; exit 75' TERM INT

part() {  # part NAME COMMAND...
    local name=$1 status
    shift
    [ -f "$OUT/$name.done" ] && return 0
    if [ "$SECONDS" -ge "$TOTAL_S" ]; then
        touch "$OUT/$name.unfinished"
        return 75
    fi
    echo "== $name"
    timeout --kill-after=20 "$PART_S" "$@" >> "$OUT/$name.log" 2>&1
    status=$?
    case $status in
        0) touch "$OUT/$name.done" ;;
        124 | 137) touch "$OUT/$name.unfinished" ;;
        *)
            touch "$OUT/$name.failed"
            echo "   $name failed with status $status; the end of its log:"
            tail -n 5 "$OUT/$name.log"
            ;;
    esac
    return $status
}

phase_one() {  # phase_one ARM OUT STEPS
    local arm=$1 words="recipe=sim_one_goal_labelled encoder=default"
    local joint="mode=joint stem_channels=[16,48,96,128] num_frames=2 contact_share=0.5 lr=6e-4
        rollout_kind=free rollout_steps=1 teacher_forcing=0 head_weight=2 head_label=simulator
        hue_deg=45 pattern=0.25"
    case $arm in
        adaln) words+=" warm_predictor=false conditioning=adaln" ;;
        fresh) words+=" warm_predictor=false" ;;
        state) words+=" predict_state=0.5" ;;
        no_head) words+=" head_weight=0 head_label=hindsight" ;;
        scratch) words="$joint patch_size=128" ;;
        tokens) words="$joint patch_size=32" ;;
    esac
    # shellcheck disable=SC2086 # several words on purpose, here and below
    part "$(basename "$2")" $PYTHON -m worldmodel train $words $SHORT_DATA $TRAIN batch_size="$BATCH" \
        steps="$3" out="$2"
}

phase_two() {  # phase_two ARM FIRST OUT STEPS
    local arm=$1 words="recipe=sim_one_goal_labelled_long"
    case $arm in
        short) words+=" num_frames=3 rollout_steps=2 rollout_restart=0" ;;
        state) words+=" predict_state=0.5" ;;
        no_head) words+=" head_weight=0 head_label=hindsight head_match=0" ;;
    esac
    # shellcheck disable=SC2086
    part "$(basename "$3")" $PYTHON -m worldmodel train $words $LONG_DATA $TRAIN batch_size="$LONG_BATCH" \
        steps="$4" encoder="$2" out="$3"
}

arm() {
    local arm=$1 task
    phase_one "$arm" "$OUT/first_$arm" "$SHORT_STEPS" || return
    phase_two "$arm" "$OUT/first_$arm" "$OUT/model_$arm" "$LONG_STEPS" || return
    part "rollouts_$arm" $PYTHON -m worldmodel inspect probes model="$OUT/model_$arm" device="$DEVICE" \
        data="$VAL" val="$VAL" count=500 fit_steps=20 out="$OUT/rollouts_$arm"
    for task in $TASKS; do
        part "eval_${arm}_$task" $PYTHON -m worldmodel eval task="$task" sub_goals=one method=skills seed=50 \
            episodes="$EPISODES" workers=$(((CORES + JOBS - 1) / JOBS)) baselines=false \
            pictures=false device="$DEVICE" model="$OUT/model_$arm" out="$OUT/eval_${arm}_$task"
    done
}

if [ -z "${SHORT_DATA:-}" ]; then
    CONTACT="mix=contact objects=[cube,box,cup,T,long_box] objects_per_scene=[0.8,0.2] walls=0.25 turned=0.6"
    VAL=$OUT/data/val
    # shellcheck disable=SC2086
    part collect_contact $PYTHON -m worldmodel collect $CONTACT episodes="$COLLECT" workers="$CORES" \
        seed=0 out="$OUT/data/train/contact"
    part collect_wall $PYTHON -m worldmodel collect mix=carry task=over_wall episodes=$((COLLECT / 2)) \
        workers="$CORES" seed=400000 out="$OUT/data/train/wall"
    # shellcheck disable=SC2086
    part collect_val $PYTHON -m worldmodel collect $CONTACT episodes=$((COLLECT / 10 + 2)) workers="$CORES" \
        seed=900000 out="$VAL"
    SHORT_DATA="data=$OUT/data/train val=$VAL"
fi
LONG_DATA=${LONG_DATA:-$SHORT_DATA}
VAL=${VAL:?VAL has to name a folder of unseen episodes}

if [ ! -f "$OUT/steps.txt" ]; then  # the pace of as many runs at a time as there will be
    for job in $(seq "$JOBS"); do
        (phase_one base "$OUT/pace_first_$job" "$PACE_STEPS" && \
            phase_two base "$OUT/pace_first_$job" "$OUT/pace_model_$job" "$PACE_STEPS") &
    done
    wait
    $REPORT steps "$OUT" "$PHASE_S" > "$OUT/steps.new" && mv "$OUT/steps.new" "$OUT/steps.txt"
fi
read -r SHORT_STEPS LONG_STEPS < "$OUT/steps.txt" || exit 1
echo "steps: $SHORT_STEPS and $LONG_STEPS"

for arm in $ARMS; do
    while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n; done
    arm "$arm" &
done
wait

$REPORT table "$OUT"
(cd "$OUT" && tar -cf - --exclude=data --exclude='*.safetensors' --exclude=checkpoints \
    --exclude='ablations.tar*' ./*) | gzip > "$OUT/ablations.tar.gz"
compgen -G "$OUT/*.failed" > /dev/null && exit 1
compgen -G "$OUT/*.unfinished" > /dev/null && exit 75
exit 0
