#!/usr/bin/env bash
# What launch/condor.sub runs: training that saves every so often and says so to HTCondor by status 85.
#
#   launch/condor.sh [TRAIN ARGUMENTS]              train
#   DRY_RUN=1 launch/condor.sh [TRAIN ARGUMENTS]    print the command
#   launch/condor.sh --help                         print this
#
# Set by the environment, with its default:
#   PYTHON=python3   that has jaxhep installed
#   EVERY=3600       seconds after which it saves (SIGUSR1) and ends with status 85; 0 never
#
# SIGTERM, as an eviction sends it, saves and ends with status 143. All other statuses are those of `jaxhep train`.
set -euo pipefail
if [ "${1:-}" = --help ]; then sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0; fi
: "${PYTHON:=python3}" "${EVERY:=3600}" "${DRY_RUN:=}"
command=("$PYTHON" -u -m jaxhep.train "$@")
if [ -n "$DRY_RUN" ]; then echo "${command[*]@Q}"; exit 0; fi

# SIGUSR1 at the time comes to the training alone, and its status is kept.
timeout --foreground --preserve-status --signal=USR1 "$EVERY" "${command[@]}" &
child=$! interrupted=""
trap 'interrupted=yes; kill -TERM "$child" 2>/dev/null' TERM
while true; do
    status=0
    wait "$child" || status=$?
    if [ -z "$interrupted" ]; then break; fi # else it was the trap that ended the wait
    interrupted=""
done
if [ "$status" -eq 138 ]; then exit 85; fi
exit "$status"
