#!/usr/bin/env bash
# The benchmarks on one NVIDIA GPU, in less than nine minutes. Run from the repository root; needs no network, and
# jax (CUDA), flax, optax, numpy and torch alone. Call it again, with the same folder, to go on where it stopped.
#   benchmarks/run_gpu.sh [FOLDER]
# writes FOLDER/throughput_gpu.jsonl, loading_gpu.jsonl and scaling_gpu.jsonl (copy them to benchmarks/results for
# `python -m benchmarks.report`) and prints the table. What can be set by the environment, with its default:
#   SECONDS_IN_ALL=520    end of everything; KEPT=90 of them for the others
#   FRAMEWORKS=jax,torch
#   LARGE=cvt,pointnet,resnet18   SMALL=mlp,cnn,resnet10   networks, the most important first
#   BATCHES=128,8192      SMALL_BATCH=128 (of the rows that compare variants of JAX)
#   BUDGET=60             seconds for a variant's set-up, and for a cell's timings
#   TOGETHER=4            variants set up at the same time (their timings are one by one)
#   REPEATS=7   LIMITS=0.2   NAME=gpu   PYTHON=python
#   OTHERS="loading scaling"   benchmarks run after it, where they can be imported
set -euo pipefail
folder=${1:-benchmarks/results}
: "${SECONDS_IN_ALL:=520}" "${LARGE:=cvt,pointnet,resnet18}" "${SMALL:=mlp,cnn,resnet10}" "${BATCHES:=128,8192}"
: "${SMALL_BATCH:=128}" "${BUDGET:=60}" "${TOGETHER:=4}" "${REPEATS:=7}" "${LIMITS:=0.2}" "${NAME:=gpu}"
: "${FRAMEWORKS:=jax,torch}" "${KEPT:=90}" "${PYTHON:=python}" "${OTHERS=loading scaling}"
export PYTHONUNBUFFERED=1
mkdir -p "$folder"
out=$folder/throughput_$NAME.jsonl
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null || echo "no nvidia-smi here"
began=$SECONDS
left() { echo $((SECONDS_IN_ALL - (SECONDS - began) - $1)); }

# measure ARGUMENTS: the benchmark with these arguments, ending KEPT seconds before the end of everything.
# --deadline ends it in order; `timeout` is for what does not obey.
measure() {
    local seconds
    seconds=$(left "$KEPT")
    if [ "$seconds" -lt 10 ]; then return; fi
    timeout -k 5 $((seconds + 10)) "$PYTHON" -m benchmarks.throughput --out "$out" --budget "$BUDGET" --repeats "$REPEATS" \
        --together "$TOGETHER" --limits "$LIMITS" --deadline "$seconds" --frameworks "$FRAMEWORKS" "$@" >"$folder/last_call.log" 2>&1 ||
        { echo "stopped: $*"; tail -n 2 "$folder/last_call.log"; }
    grep -E "variants$" "$folder/last_call.log" || true
}

measure --models "$LARGE" --batch "$BATCHES" --modes train --variants base
measure --models "$LARGE" --batch "$SMALL_BATCH" --modes train --frameworks jax --variants attention,optimiser,ensemble,data
measure --models "$LARGE,$SMALL" --batch "$BATCHES" --modes infer --variants base
measure --models "$SMALL" --batch "$BATCHES" --modes train --variants base
measure --models "$LARGE" --batch "$SMALL_BATCH" --modes train --variants autotune,precision,plain

for other in $OTHERS; do
    arguments=(--out "$folder/${other}_$NAME.jsonl")
    if [ "$other" = loading ]; then arguments+=(--seconds 40); fi
    if [ "$(left 0)" -lt 10 ] || ! "$PYTHON" -c "import benchmarks.$other" 2>/dev/null; then
        echo "$other: left out"
    else
        timeout -k 5 "$(left 0)" "$PYTHON" -m "benchmarks.$other" "${arguments[@]}" || echo "$other: stopped"
    fi
done
rm -f "$folder/last_call.log"
"$PYTHON" -m benchmarks.report "$out"
