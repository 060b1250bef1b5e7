#!/usr/bin/env bash
# The throughput benchmark on one NVIDIA GPU, in less than nine minutes. Run from the repository root.
# Needs jax (CUDA), flax, optax, numpy and torch. Call it again to go on where it stopped.
#   benchmarks/run_gpu.sh [FILE]
set -euo pipefail
out=${1:-benchmarks/results/throughput_gpu.jsonl}
export XLA_PYTHON_CLIENT_PREALLOCATE=false PYTHONUNBUFFERED=1
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader

# `timeout` leaves room for a cell that began just before a deadline; a finished cell is already in the file.
began=$SECONDS
measure() {
    left=$((520 - (SECONDS - began)))
    if [ "$left" -lt 30 ]; then return; fi
    timeout "$left" python -m benchmarks.throughput --out "$out" "$@" || echo "stopped: $*"
}

# Training first, the large networks before the small ones; a compilation may take the set-up budget of 75 s.
# The CvT's variants together need too much memory at 1,024 events.
measure --models cvt --batch 512 --modes train --budget 75 --repeats 7
measure --models resnet18 --batch 1024 --modes train --budget 75 --repeats 7
measure --models cnn,mlp --batch 1024 --modes train --budget 40 --repeats 7
measure --models cvt,resnet18,cnn,mlp --batch 128 --modes train --budget 40 --repeats 7
measure --models resnet18,cnn,mlp --batch 1024 --modes infer --budget 30 --repeats 5
measure --models resnet10 --batch 1024,128 --modes train,infer --budget 30 --repeats 5
python -c "
from pathlib import Path
from benchmarks.throughput_table import read_rows, table
print(table(read_rows(Path('$out'))))"
