#!/usr/bin/env bash
# SLURM for real, on one Debian machine: its daemons run in a scratch folder, and launch/slurm.sbatch trains under a time
# limit that is too short. It must save ahead of the limit, be requeued, continue, and end with the very parameters of
# an uninterrupted run. A job of two processes follows. Run it from the repository root, as root, in about ten minutes:
#
#   launch/try_slurm.sh              do it; status 0 says that all arrays of the checkpoints are equal
#   DRY_RUN=1 launch/try_slurm.sh    print what it would install, start and submit
#   launch/try_slurm.sh --help       print this
#
# Set by the environment, with its default:
#   PYTHON=python   that has jaxhep installed
#   EPOCHS=600      of 8 small steps each: enough to outlast the limit
#   MINUTES=2       time limit of the job; SLURM looks at it once a minute
#   AHEAD=45        seconds ahead of it that USR1 comes; SLURM may send it up to a minute earlier
#   TWO=yes         the job of two processes too; anything else leaves it out
# It installs the packages slurm-wlm and munge where they are missing, and leaves them installed. Everything else is
# removed at the end, and the daemons are stopped.
set -euo pipefail
if [ "${1:-}" = --help ]; then sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0; fi
: "${PYTHON:=python}" "${EPOCHS:=600}" "${MINUTES:=2}" "${AHEAD:=45}" "${TWO:=yes}" "${DRY_RUN:=}"
root=$(cd "$(dirname "$0")/.." && pwd)
run() { if [ -n "$DRY_RUN" ]; then echo "${*@Q}"; else "$@"; fi; }
say() { echo "== $*"; }

if [ -n "$DRY_RUN" ]; then
    place=SCRATCH
else
    if [ "$(id -u)" -ne 0 ]; then echo "error: root is needed: SLURM's daemons start the processes of jobs" >&2; exit 2; fi
    place=$(mktemp -d)
    chmod 755 "$place" # munge wants to reach its socket
fi
stop() {
    local name pid
    for name in slurmd slurmctld munged; do
        pid=$(cat "$place/$name.pid" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
        kill -9 "$pid" 2>/dev/null || true
    done
    if [ -n "${KEEP:-}" ]; then echo "kept: $place"; else rm -rf "$place"; fi
}
if [ -z "$DRY_RUN" ]; then trap stop EXIT; fi

if ! command -v slurmctld slurmd munged >/dev/null; then
    run env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends slurm-wlm munge
fi

configure() { # one node, this machine; no cgroups, which containers lack, and no accounting
    local host hardware
    host=$(hostname -s)
    hardware=$(slurmd -C | sed -n 's/^NodeName=[^ ]* \(CPUs=.*\)/\1/p')
    mkdir -p "$place/state" "$place/spool"
    cat >"$place/slurm.conf" <<END
ClusterName=try
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$((20000 + RANDOM % 5000))
SlurmdPort=$((25000 + RANDOM % 5000))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$place/munge.socket,cred_expire=5
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
OverTimeLimit=0
KillWait=60
MinJobAge=600
SchedulerParameters=sched_interval=5,bf_interval=5
NodeName=$host NodeAddr=127.0.0.1 $hardware
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
}
if [ -n "$DRY_RUN" ]; then echo "configure SCRATCH/slurm.conf: one node, this machine"; else configure; fi
export SLURM_CONF=$place/slurm.conf
run dd if=/dev/urandom of="$place/munge.key" bs=128 count=1 status=none
run chmod 600 "$place/munge.key"
run munged --force --key-file="$place/munge.key" --socket="$place/munge.socket" --pid-file="$place/munged.pid" \
    --log-file="$place/munged.log" --seed-file="$place/munge.seed"
run slurmctld -f "$place/slurm.conf"
run slurmd -f "$place/slurm.conf"
if [ -z "$DRY_RUN" ]; then
    for _ in $(seq 60); do if sinfo -h -o %T 2>/dev/null | grep -q idle; then break; fi; sleep 1; done
    sinfo -h -o %T | grep -q idle || { echo "error: the node does not come up:" >&2; tail -n 5 "$place"/slurm*.log >&2; exit 1; }
    say "$(date -u +%Y-%m-%d), $(slurmd -V), $("$PYTHON" -c 'import jax; print("jax", jax.__version__)'), $(nproc) CPU cores"
fi

cd "$root"
export PYTHON JAX_PLATFORMS=cpu
train=(--config mlp:smoke --config.data.folder="$place/prepared" --config.train.epochs="$EPOCHS" --config.train.patience=0)
show() { grep -E '^launch|^srun|^slurmstepd|saved at|continuing at|scored with|error' "$1" || true; }
submit() { # NAME NAME-OF-RUN SBATCH ARGUMENTS: submit, wait for the end, show the log
    local name=$1 job state="" began=$SECONDS
    shift
    job=$(sbatch --parsable --job-name="$name" --output="$place/$name.log" "$@" launch/slurm.sbatch "${train[@]}" --workdir "$place/$name")
    say "job $job: sbatch ${*} launch/slurm.sbatch"
    while [ $((SECONDS - began)) -lt 1800 ]; do
        state=$(scontrol show job "$job" | sed -n 's/.*JobState=\([A-Z]*\).*/\1/p')
        case $state in COMPLETED | FAILED | TIMEOUT | CANCELLED | NODE_FAIL | OUT_OF_MEMORY) break ;; esac
        sleep 2
    done
    show "$place/$name.log"
    say "job $job: $state, $(scontrol show job "$job" | grep -oE 'Restarts=[0-9]+'), $((SECONDS - began)) s"
    if [ "$state" != COMPLETED ]; then tail -n 30 "$place/$name.log" "$place/slurmctld.log" >&2; exit 1; fi
}
compare() { # RUN RUN EXACT: last checkpoints, array by array
    "$PYTHON" - "$place/$1/checkpoints" "$place/$2/checkpoints" "$3" <<'END'
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

found, reader = [], ocp.PyTreeCheckpointer()
for folder in sys.argv[1:3]:
    last = max(Path(folder).glob("step_*"), key=lambda path: int(path.name.removeprefix("step_")))
    # As arrays of NumPy: those of two processes do not fit the devices of one.
    tree = reader.metadata(last / "state").item_metadata.tree
    wanted = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    found.append((last.name, jax.tree.leaves(reader.restore(last / "state", restore_args=wanted))))
(name, ours), (other, theirs) = found
assert name == other and len(ours) == len(theirs), (name, other)
assert sum(np.size(array) for array in ours) > 1000
equal = sum(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
apart = max(float(np.abs(np.asarray(a, np.float64) - b).max(initial=0)) for a, b in zip(ours, theirs, strict=True))
print(f"{name}: {equal} of {len(ours)} arrays are equal bit for bit, the largest difference is {apart:.1e}")
# Two processes add in another order, and thousands of steps enlarge it.
sys.exit(equal < len(ours) if sys.argv[3] == "exact" else apart > 0.05)
END
}

limit=(--time="$MINUTES" --signal="B:USR1@$AHEAD")
if [ -n "$DRY_RUN" ]; then
    echo "'$PYTHON' '-m' 'jaxhep.train' ${train[*]@Q} '--workdir' '$place/whole'"
    echo "sbatch ${limit[*]@Q} launch/slurm.sbatch ${train[*]@Q} '--workdir' '$place/requeued'"
    echo "sbatch '--time=30' '--ntasks-per-node=2' launch/slurm.sbatch ${train[*]@Q} '--workdir' '$place/two'"
    exit 0
fi
say "the uninterrupted run, without SLURM"
began=$SECONDS
"$PYTHON" -u -m jaxhep.train "${train[@]}" --workdir "$place/whole" >"$place/whole.log" 2>&1 ||
    { tail -n 20 "$place/whole.log" >&2; exit 1; }
show "$place/whole.log"
say "$((SECONDS - began)) s"
submit requeued "${limit[@]}"
grep -q "saved at step" "$place/requeued.log" || { echo "error: it was never interrupted: raise EPOCHS" >&2; exit 1; }
compare whole requeued exact
if [ "$TWO" = yes ]; then
    submit two --time=30 --ntasks-per-node=2
    compare whole two rounded
fi
say "all as it should be"
