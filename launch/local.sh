#!/usr/bin/env bash
# Training on one host, on all its devices.
#
#   launch/local.sh [TRAIN ARGUMENTS]                 one process, all devices
#   PROCESSES=gpus launch/local.sh [TRAIN ARGUMENTS]  one process per NVIDIA GPU
#   DRY_RUN=1 launch/local.sh [TRAIN ARGUMENTS]       print the commands
#   launch/local.sh --help                            print this
#
# TRAIN ARGUMENTS are those of `jaxhep train`, as in: --config cvt:paper --workdir runs/cvt
# Set by the environment, with its default:
#   PYTHON=python   that has jaxhep installed
#   PROCESSES=1     a number, or gpus
#   PORT=           where the processes meet on this host; any free one
#   GRACE=60        seconds that the others have to end when one process has died
#
# SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 are handed on: all processes save, and the same command continues. The status is
# that of the first process that did not end with 0. With several processes all write to one terminal.
set -euo pipefail
if [ "${1:-}" = --help ]; then sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0; fi
: "${PYTHON:=python}" "${PROCESSES:=1}" "${PORT:=}" "${GRACE:=60}" "${DRY_RUN:=}"
gpus=""
if [ "$PROCESSES" = gpus ]; then
    gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true)
    if [ "${gpus:-0}" -eq 0 ]; then echo "error: PROCESSES=gpus, but nvidia-smi lists no GPU here" >&2; exit 2; fi
    PROCESSES=$gpus
fi
case $PROCESSES in
"" | *[!0-9]* | 0) echo "error: PROCESSES is '$PROCESSES', wanted a number or gpus" >&2; exit 2 ;;
esac

command=("$PYTHON" -u -m jaxhep.train)
if [ "$PROCESSES" -eq 1 ]; then
    command+=("$@")
    if [ -n "$DRY_RUN" ]; then echo "${command[*]@Q}"; exit 0; fi
    exec "${command[@]}"
fi

if [ -z "$PORT" ]; then
    PORT=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
fi
# A job of its own each: so Ctrl-C reaches this shell alone, which hands it on, and no process ignores it.
set -m
pids=()
for ((i = 0; i < PROCESSES; i++)); do
    one=("${command[@]}" --coordinator "127.0.0.1:$PORT" --processes "$PROCESSES" --process "$i" "$@")
    sees=() # each process sees its own GPU alone
    if [ -n "$gpus" ]; then sees=(env "CUDA_VISIBLE_DEVICES=$i"); fi
    if [ -n "$DRY_RUN" ]; then one=("${sees[@]}" "${one[@]}"); echo "${one[*]@Q}"; continue; fi
    "${sees[@]}" "${one[@]}" </dev/null &
    pids+=($!)
done
if [ -n "$DRY_RUN" ]; then exit 0; fi

trap 'kill -TERM "${pids[@]}" 2>/dev/null' TERM
trap 'kill -INT "${pids[@]}" 2>/dev/null' INT
trap 'kill -USR1 "${pids[@]}" 2>/dev/null' USR1
first="" deadline=""
alive=("${pids[@]}")
while [ "${#alive[@]}" -gt 0 ]; do
    left=()
    for pid in "${alive[@]}"; do
        if kill -0 "$pid" 2>/dev/null; then left+=("$pid"); continue; fi
        status=0
        wait "$pid" || status=$?
        if [ "$status" -ne 0 ] && [ -z "$first" ]; then first=$status deadline=$((SECONDS + GRACE)); fi
    done
    alive=("${left[@]}")
    if [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ] && [ "${#alive[@]}" -gt 0 ]; then
        echo "launch/local.sh: ${#alive[@]} processes are left $GRACE s after one ended with status $first: killed" >&2
        kill -KILL "${alive[@]}" 2>/dev/null || true
        deadline=""
    fi
    sleep 0.2
done
exit "${first:-0}"
