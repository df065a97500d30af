#!/usr/bin/env bash
# Fetch with enough training, in one resumable run:  bash benchmarks/gpu_fetch.sh [OUT]
#
# For FetchPush and FetchPickAndPlace at once: record play, train with and without the simulator's
# object position, evaluate. Each part has a time limit and keeps what it has then, so that the
# whole takes about 8 minutes on 4 cores and a GPU; the table comes last. Needs the extra `fetch`.
#
# Started again, it does what is missing. Exit status: 0 all evaluations are there; 1 one is not.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
OUT=${1:-runs/gpu_fetch}
DEVICE=${DEVICE:-cuda}  # of the training
EVAL_DEVICE=${EVAL_DEVICE:-cpu}  # one decision of these small models is as fast there
TASKS=${TASKS:-push pick_place}
RECIPES=${RECIPES:-sim_small sim_small_unlabelled}
COLLECT_S=${COLLECT_S:-120}
TRAIN_S=${TRAIN_S:-150}
EVAL_S=${EVAL_S:-170}
EPISODES=${EPISODES:-5000}
VAL_EPISODES=${VAL_EPISODES:-40}
EVAL_EPISODES=${EVAL_EPISODES:-12}
BATCH=${BATCH:-64}
MAX_STEPS=${MAX_STEPS:-12000}
PROBE_STEPS=${PROBE_STEPS:-120}
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$OUT"

limited() {  # limited SECONDS NAME COMMAND...: ended by the signal that keeps finished work
    local seconds=$1 name=$2 began=$SECONDS status
    shift 2
    timeout --signal=INT --kill-after=45 "$seconds" python -m planning.cli.app "$@" \
        >> "$OUT/$name.log" 2>&1
    status=$?
    echo "$name: status $status after $((SECONDS - began)) s"
    return $status
}

record() {  # record TASK
    local words="environment=fetch_$1 length=28 workers=2"
    # shellcheck disable=SC2086 # several words on purpose
    [ -f "$OUT/$1_val/summary.json" ] || limited 120 "$1_val" collect $words seed=900000 \
        episodes="$VAL_EPISODES" out="$OUT/$1_val"
    # shellcheck disable=SC2086
    [ -f "$OUT/$1_data/summary.json" ] || limited "$COLLECT_S" "$1_data" collect $words \
        episodes="$EPISODES" out="$OUT/$1_data"
}

last_value() {  # last_value FILE KEY: newest number of that name in a file of JSON lines, or nothing
    python - "$1" "$2" << 'READ'
import json
import sys

lines = open(sys.argv[1]).read().splitlines()
print([row[sys.argv[2]] for row in map(json.loads, lines) if sys.argv[2] in row][-1])
READ
}

train() {  # train TASK RECIPE
    local run="$OUT/$1_$2" probe="$OUT/$1_$2_probe" rate steps reached
    local words="recipe=$2 data=$OUT/$1_data val=$OUT/$1_val cache=$OUT/cache actions=position
        transform=squeeze hue_deg=0 pattern=0 batch_size=$BATCH plan_clips=0 device=$DEVICE threads=1"
    [ -f "$run/summary.json" ] && return
    if [ ! -f "$run/steps.txt" ]; then  # a few steps tell how many fit into the time
        # shellcheck disable=SC2086
        limited 120 "$1_$2_probe" train $words steps="$PROBE_STEPS" log_every=20 save_every=1000 \
            eval_every=1000 val_clips=16 out="$probe"
        rate=$(last_value "$probe/metrics.jsonl" samples_per_s)
        steps=$(python -c "print(max(50, min($MAX_STEPS, int(0.6 * $TRAIN_S * ${rate:-0} / $BATCH))))")
        mkdir -p "$run"
        echo "$steps" > "$run/steps.txt"
    fi
    steps=$(cat "$run/steps.txt")
    # shellcheck disable=SC2086
    limited "$TRAIN_S" "$1_$2" train $words steps="$steps" eval_every=1000 out="$run" && return
    reached=$(last_value "$run/metrics.jsonl" step)
    # out of time: one more step of the same schedule writes the model
    # shellcheck disable=SC2086
    [ -n "$reached" ] && limited 60 "$1_$2" train $words steps="$steps" eval_every=1000 \
        stop_after=$((reached + 60)) out="$run"
}

evaluate() {  # evaluate TASK RECIPE
    local run="$OUT/$1_$2"
    [ -f "$run/eval/summary.json" ] || limited "$EVAL_S" "$1_$2_eval" eval environment="fetch_$1" \
        model="$run" device="$EVAL_DEVICE" precision=float32 episodes="$EVAL_EPISODES" seed=1 \
        workers=1 out="$run/eval"
}

task() {  # task TASK: record, then each recipe on its own core
    record "$1"
    for recipe in $RECIPES; do
        { train "$1" "$recipe"; evaluate "$1" "$recipe"; } &
    done
    wait
}

for name in $TASKS; do
    task "$name" &
done
wait

python - "$OUT" "$TASKS" "$RECIPES" << 'TABLE'
import json
import sys
from pathlib import Path

out, tasks, recipes = Path(sys.argv[1]), sys.argv[2].split(), sys.argv[3].split()


def read(path):
    return json.loads(path.read_text()) if path.is_file() else {}


def share(found):
    low, high = found.get("ci95", (float("nan"),) * 2)
    return f"{found['success_rate']:.0%} ({low:.0%}..{high:.0%})" if found else "-"


rows, missing = [], 0
print("task        recipe                 episodes  steps  val true / copy / shuffled   planner")
for task in tasks:
    recorded = read(out / f"{task}_data/summary.json")
    for recipe in recipes:
        run = out / f"{task}_{recipe}"
        trained, found = read(run / "summary.json"), read(run / "eval/summary.json")
        missing += not found
        last = trained.get("last", {})
        losses = " / ".join(f"{last.get('val_' + x, float('nan')):.4f}" for x in ("true", "copy", "shuffled"))
        figures = {k: found.get(k) for k in ("successes", "episodes", "success_rate", "ci95")}
        rows.append(
            {
                "task": task,
                "recipe": recipe,
                "recorded": recorded,
                "last": last,
                "minutes": trained.get("minutes"),
                "planner": figures,
                "final_error_m": found.get("final_error_m"),
                "seconds_per_action": found.get("seconds_per_action"),
                "baselines": found.get("baselines"),
            }
        )
        line = f"{task:11} {recipe:22} {recorded.get('episodes', 0):8} {last.get('step', 0):6}"
        print(f"{line}  {losses:27}  {share(found)}")
        for name, values in (found.get("baselines") or {}).items():
            print(f"{'':56}{name:>27}  {share(values)}")
(out / "fetch.json").write_text(json.dumps(rows, indent=1) + "\n")
sys.exit(bool(missing))
TABLE
