#!/usr/bin/env bash
# Training on Kubernetes: fills launch/kubernetes.yaml and applies it.
#
#   IMAGE=... CLAIM=... launch/kubernetes.sh [TRAIN ARGUMENTS]              submit
#   IMAGE=... CLAIM=... DRY_RUN=1 launch/kubernetes.sh [TRAIN ARGUMENTS]    print the manifest, submit nothing
#   launch/kubernetes.sh --help                                             print this
#
# TRAIN ARGUMENTS are those of `jaxhep train`; run folders and data are best below runs/, which is the claimed volume.
# Set by the environment, with its default:
#   IMAGE     (none) container image with jaxhep and the package kubernetes; launch/README.md has a Dockerfile
#   CLAIM     (none) persistent volume claim for run folders and data: ReadWriteMany where HOSTS is above 1
#   NAME=jaxhep      of the job and all that belongs to it
#   HOSTS=1          pods, each a process with all its devices
#   DEVICES=1        of each pod
#   RESOURCE=nvidia.com/gpu    what a device is called in the cluster
#   CPUS=8 MEMORY=32Gi         of each pod
#   RESTARTS=20      pods that may fail, evicted ones not counted
set -euo pipefail
if [ "${1:-}" = --help ]; then sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0; fi
: "${NAME:=jaxhep}" "${HOSTS:=1}" "${DEVICES:=1}" "${RESOURCE:=nvidia.com/gpu}" "${CPUS:=8}" "${MEMORY:=32Gi}" "${RESTARTS:=20}"
for name in IMAGE CLAIM; do
    if [ -z "${!name:-}" ]; then echo "error: $name is not set: see $0 --help" >&2; exit 2; fi
done
ARGUMENTS="" # as a list in JSON, which YAML is made to read
if [ "$HOSTS" -gt 1 ]; then set -- --distributed auto "$@"; fi
for argument in "$@"; do
    argument=${argument//\\/\\\\}
    ARGUMENTS+="${ARGUMENTS:+, }\"${argument//\"/\\\"}\""
done
ARGUMENTS="[$ARGUMENTS]"
text=$(<"$(dirname "$0")/kubernetes.yaml")
for name in NAME IMAGE CLAIM HOSTS DEVICES RESOURCE CPUS MEMORY RESTARTS ARGUMENTS; do
    text=${text//"\${$name}"/"${!name}"}
done
if [ -n "${DRY_RUN:-}" ]; then echo "$text"; exit 0; fi
kubectl apply -f - <<<"$text"
echo "kubectl logs --follow job/$NAME        shows pod 0; delete the job before the next of this name"
