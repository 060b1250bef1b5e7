#!/usr/bin/env bash
# Training on a Cloud TPU VM or a slice of several hosts, by gcloud from your own machine, in the repository root.
#
#   TPU=name ZONE=zone launch/tpu_vm.sh setup                      copy the repository to all hosts and install it
#   TPU=name ZONE=zone launch/tpu_vm.sh train [TRAIN ARGUMENTS]    start in the background on all hosts
#   TPU=name ZONE=zone launch/tpu_vm.sh log                        show the end of the log of every host
#   TPU=name ZONE=zone launch/tpu_vm.sh stop                       save on all hosts and end; `train` again continues
#   DRY_RUN=1 ... launch/tpu_vm.sh ...                             print the commands
#   launch/tpu_vm.sh --help                                        print this
#
# TRAIN ARGUMENTS are those of `jaxhep train`. With several hosts, --workdir and the data must be on a file system that
# all of them mount, such as Filestore.
# Set by the environment, with its default:
#   TPU     (none) name of the TPU VM, made before by `gcloud compute tpus tpu-vm create`
#   ZONE    (none) its zone
#   FOLDER=jaxhep             on the hosts, in the home folder
#   PYTHON=python3.11         of the hosts, for `setup`; installed by apt where it is missing
set -euo pipefail
if [ "${1:-}" = --help ]; then sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0; fi
: "${FOLDER:=jaxhep}" "${PYTHON:=python3.11}" "${DRY_RUN:=}"
for name in TPU ZONE; do
    if [ -z "${!name:-}" ]; then echo "error: $name is not set: see $0 --help" >&2; exit 2; fi
done
run() { if [ -n "$DRY_RUN" ]; then echo "${*@Q}"; else "$@"; fi; }
on_all() { run gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"; }

what=${1:-}
shift || true
case $what in
setup)
    archive=$(mktemp -d)/jaxhep.tar.gz
    trap 'rm -rf "$(dirname "$archive")"' EXIT
    run git archive --format=tar.gz --output="$archive" HEAD
    run gcloud compute tpus tpu-vm scp "$archive" "$TPU:jaxhep.tar.gz" --zone="$ZONE" --worker=all
    on_all "set -e; command -v $PYTHON || sudo apt-get install -y $PYTHON $PYTHON-venv; mkdir -p $FOLDER; tar -xzf jaxhep.tar.gz -C $FOLDER; cd $FOLDER; $PYTHON -m venv .venv; .venv/bin/pip install -q -e '.[tpu]'"
    ;;
train)
    # In a session of its own, so that it outlives the connection.
    command=(.venv/bin/python -u -m jaxhep.train --distributed auto "$@")
    on_all "cd $FOLDER && { setsid nohup ${command[*]@Q} >>train.log 2>&1 </dev/null & echo \$! >train.pid; }"
    ;;
log) on_all "tail -n 20 $FOLDER/train.log" ;;
stop) on_all "kill -TERM \$(cat $FOLDER/train.pid)" ;;
*) echo "error: '$what' is none of setup, train, log, stop: see $0 --help" >&2; exit 2 ;;
esac
