"""How the processes of one training find each other: flags, environment variables, SLURM, Open MPI, Kubernetes, TPU."""

import os
import zlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple

from jaxhep.errors import BadInput, one_of

VARIABLES = {"coordinator": "JAXHEP_COORDINATOR", "processes": "JAXHEP_PROCESSES", "process": "JAXHEP_PROCESS"}


class Launch(NamedTuple):
    """How this process joins the others."""

    coordinator: str  # HOST:PORT of process 0
    processes: int
    process: int
    devices: tuple[int, ...] | None = None  # GPUs of this process by index; None: all that it sees


def find(
    distributed: str = "auto",
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Launch | None:
    """Return how to join the others, or None where this process is alone.

    What is given comes first, then JAXHEP_COORDINATOR, JAXHEP_PROCESSES and JAXHEP_PROCESS, then SLURM, Open MPI,
    Kubernetes and Cloud TPU. Raises BadInput for half of it, and for numbers out of range.
    """
    one_of(distributed, ("auto", "off"), "--distributed")
    flags: dict[str, Any] = {"coordinator": coordinator, "processes": processes, "process": process}
    if distributed == "off":
        if given := [name for name, value in flags.items() if value is not None]:
            raise BadInput(f"--distributed is off, and --{given[0]} is given: one of them only")
        return None
    found = {n: environ.get(VARIABLES[n]) if v is None else v for n, v in flags.items()}
    missing = [name for name, value in found.items() if value in (None, "")]
    if len(missing) == 3:
        return _detected(environ)
    if missing:
        name = missing[0]
        have = ", ".join(f"--{n}" for n in found if n not in missing)
        raise BadInput(
            f"{have} without --{name} (or {VARIABLES[name]}): wanted --coordinator, --processes and --process"
        )
    return _checked(str(found["coordinator"]), _number(found, "processes"), _number(found, "process"))


def _number(found: Mapping[str, Any], name: str) -> int:
    try:
        return int(found[name])
    except ValueError:
        raise BadInput(f"--{name} (or {VARIABLES[name]}) is {found[name]!r}, wanted a number") from None


def _checked(coordinator: str, processes: int, process: int) -> Launch | None:
    if processes < 1:
        raise BadInput(f"--processes is {processes}, wanted at least 1")
    if not 0 <= process < processes:
        raise BadInput(f"--process is {process}, wanted 0 to {processes - 1}")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise BadInput(f"--coordinator is {coordinator!r}, wanted HOST:PORT of process 0")
    return Launch(coordinator, processes, process) if processes > 1 else None


def _detected(environ: Mapping[str, str]) -> Launch | None:
    tasks = environ.get("SLURM_STEP_NUM_TASKS", environ.get("SLURM_NTASKS", "1"))
    if "SLURM_STEP_NODELIST" in environ and "SLURM_PROCID" in environ and int(tasks) > 1:
        on_node = environ.get("SLURM_STEP_TASKS_PER_NODE", "0").partition("(")[0].partition(",")[0]
        own = _own_devices(environ, int(environ.get("SLURM_LOCALID", "0")), int(on_node))
        return Launch(
            _cluster("slurm").get_coordinator_address(300, _port(environ)),
            int(tasks),
            int(environ["SLURM_PROCID"]),
            own,
        )
    size = int(environ.get("OMPI_COMM_WORLD_SIZE", "1"))
    if size > 1:
        here = int(environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "0"))
        own = _own_devices(environ, int(environ.get("OMPI_COMM_WORLD_LOCAL_RANK", "0")), here)
        return Launch(_mpi_coordinator(environ, size == here), size, int(environ["OMPI_COMM_WORLD_RANK"]), own)
    if "KUBERNETES_SERVICE_HOST" in environ and "JOB_COMPLETION_INDEX" in environ:
        if find_spec("kubernetes") is None:
            wanted = "pip install kubernetes, set JAXHEP_COORDINATOR, or say --distributed off"
            raise BadInput(f"an indexed Job of Kubernetes without the package that finds its other pods: {wanted}")
        return _asked("k8s", environ)
    tpu = environ.keys() & {
        "TPU_WORKER_HOSTNAMES",
        "TPU_PROCESS_ADDRESSES",
        "TPU_WORKER_ID",
        "TPU_NAME",
        "TPU_SKIP_MDS_QUERY",
    }
    if tpu or (find_spec("libtpu") is not None and environ.get("JAX_PLATFORMS", "") in ("", "tpu")):
        return _asked("gketpu", environ) or _asked("gcetpu", environ)
    return None


def _mpi_coordinator(environ: Mapping[str, str], one_host: bool) -> str:
    if "OMPI_MCA_orte_hnp_uri" in environ:  # Open MPI up to 4
        return _cluster("ompi").get_coordinator_address(300, _port(environ))
    if find_spec("mpi4py") is not None:
        return _cluster("mpi4py").get_coordinator_address(300, _port(environ))
    if not one_host:
        wanted = "pip install mpi4py, or set JAXHEP_COORDINATOR, JAXHEP_PROCESSES and JAXHEP_PROCESS"
        raise BadInput(f"Open MPI 5 on several hosts does not say where process 0 is: {wanted}")
    namespace = environ.get("PMIX_NAMESPACE", environ.get("OMPI_MCA_ess_base_jobid", ""))
    return f"127.0.0.1:{_port(environ) or 61440 + zlib.crc32(namespace.encode()) % 4096}"


def _port(environ: Mapping[str, str]) -> str | None:
    return environ.get("JAX_COORDINATOR_PORT")


def _cluster(name: str) -> Any:
    from jax._src import clusters  # JAX tells nobody else what it detects

    return next(kind for kind in clusters.ClusterEnv._cluster_types if kind.name == name)


def _asked(name: str, environ: Mapping[str, str]) -> Launch | None:
    cluster = _cluster(name)
    if not cluster.is_env_present() or cluster.get_process_count() < 2:
        return None
    address = cluster.get_coordinator_address(300, _port(environ))
    return Launch(address, cluster.get_process_count(), cluster.get_process_id())


def _own_devices(environ: Mapping[str, str], index: int, on_host: int) -> tuple[int, ...] | None:
    """Return the GPUs of process `index` of `on_host` (0: unknown): an equal share of those that the job sees."""
    visible = [one for one in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
    if "JAX_LOCAL_DEVICE_IDS" in environ or on_host == 1 or len(visible) == 1:
        return None  # JAX reads the variable; or the process has its host, or sees its own alone
    if visible and on_host and len(visible) % on_host == 0:
        each = len(visible) // on_host
        return tuple(range(index * each, (index + 1) * each))
    return (index,)
