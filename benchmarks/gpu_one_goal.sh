#!/usr/bin/env bash
# Collect data for both one-goal models, train and judge them:  bash benchmarks/gpu_one_goal.sh [OUT]
# The options are at the top of gpu_one_goal.py.
cd "$(dirname "$0")/.." || exit 2
exec "${PYTHON:-python3}" benchmarks/gpu_one_goal.py "$@"
