"""The machine that a benchmark runs on: what a row says of it, what its processes start with, what its page cache holds."""

import ctypes
import datetime
import importlib.util
import mmap
import os
import platform as system
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from jaxhep.huge_pages import environment as with_huge_pages
from jaxhep.log import commit

PLATFORMS = ("cpu", "gpu", "tpu")
PACKAGES = ("jax", "jaxlib", "flax", "grain", "numpy", "uproot")
HALF_FLAGS = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}  # of processors that multiply bfloat16 in hardware


def output_of(*command: str) -> str:
    """Return what a command prints, or nothing where it is missing or fails."""
    try:
        found = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def lines_of(path: str) -> list[str]:
    """Return the lines of a file of the system, none where there is no such file."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def cpu_field(name: str) -> str:
    """Return a field of /proc/cpuinfo, or nothing."""
    fields = (line.partition(":")[2].strip() for line in lines_of("/proc/cpuinfo") if line.startswith(name))
    return next(fields, "")


def half_in_hardware() -> bool:
    """Return whether the processor multiplies bfloat16 in hardware."""
    return bool(HALF_FLAGS & set(f"{cpu_field('flags')} {cpu_field('Features')}".split()))


def find_platform() -> str:
    """Return the platform that JAX would choose, asked without loading it."""
    if output_of("nvidia-smi", "-L"):
        return "gpu"
    chips = [*Path("/dev").glob("accel*"), *Path("/dev").glob("vfio/[0-9]*")]
    return "tpu" if chips and importlib.util.find_spec("libtpu") else "cpu"


def count_devices(platform: str, asked: int) -> int:
    """Return how many devices JAX will use; 0 for all chips of a TPU host, which only JAX can count."""
    if platform == "gpu":
        found = len(output_of("nvidia-smi", "-L").splitlines())
        return min(asked, found) if asked else found
    return asked or (1 if platform == "cpu" else 0)


def stamp() -> dict[str, Any]:
    """Return date, commit, machine and its load now; cores are those that the process may use."""
    driver = output_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").splitlines()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": cpu_field("model name") or system.processor() or system.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0],
        "driver": driver[0] if driver else "",
        "python": system.python_version(),
    }


def version(package: str) -> str | None:
    """Return the installed version of a package, None where it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that rows name."""
    return {"python": system.python_version(), **{name: version(name) for name in PACKAGES}}


def environment(
    given: Mapping[str, str], platform: str, devices: int, alone: bool = False, passive: bool = False
) -> dict[str, str]:
    """Return the environment that a process of a benchmark starts with.

    devices: how many a CPU is to make up; alone: no other process holds memory of the device, so that JAX may take
    nearly all of it at once; passive: threads of PyTorch that wait do not spin.
    """
    chosen = {**given, "JAX_PLATFORMS": {"gpu": "cuda"}.get(platform, platform)}
    if platform == "cpu":
        chosen = {**with_huge_pages(chosen), "THP_MEM_ALLOC_ENABLE": "1", "CUDA_VISIBLE_DEVICES": ""}
        if devices > 1:
            flags = f"{chosen.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
            chosen["XLA_FLAGS"] = flags.strip()
    else:
        # Without alone, memory is taken as it is needed, which leaves room for the others.
        chosen |= {"XLA_PYTHON_CLIENT_PREALLOCATE": str(alone).lower(), "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.94"}
    return chosen | ({"OMP_WAIT_POLICY": "PASSIVE"} if passive else {})


def available_bytes() -> int:
    """Return the memory that processes can still take; 0 where the system does not tell."""
    found = [line.split()[1] for line in lines_of("/proc/meminfo") if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else 0


def device_bytes() -> float:
    """Return the memory of one NVIDIA GPU; 0 where the system does not tell."""
    found = output_of("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits").splitlines()
    return float(found[0]) * 2**20 if found and found[0].strip().isdigit() else 0.0


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds now; 0 where the system does not tell."""
    found = lines_of(f"/proc/{pid}/statm")
    return int(found[0].split()[1]) * os.sysconf("SC_PAGE_SIZE") if found else 0


def warm(paths: list[Path]) -> None:
    """Read the files, so that they are in the page cache where that is large enough."""
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 22):
                pass


def drop(paths: list[Path]) -> float | None:
    """Ask the system to forget the files' pages and return the fraction of them that is in the page cache after it.

    A file system may ignore it, and pages that some process has mapped stay. Raises OSError where the system has no
    such request.
    """
    if not hasattr(os, "posix_fadvise"):
        raise OSError("this system has no posix_fadvise: the page cache cannot be emptied")
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return resident(paths)


def resident(paths: list[Path]) -> float | None:
    """Return the fraction of the files' pages that is in the page cache, as mincore tells; None where it does not."""
    pages, inside = 0, 0
    for path in paths:
        size = path.stat().st_size
        flags = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = np.frombuffer(mapped, np.uint8)
            address = ctypes.c_void_p(view.ctypes.data)
            failed = ctypes.CDLL(None).mincore(address, ctypes.c_size_t(size), ctypes.c_void_p(flags.ctypes.data))
            del view, address  # or the mapping could not be closed
        if failed:
            return None
        pages, inside = pages + len(flags), inside + int((flags & 1).sum())
    return inside / pages


def bytes_read() -> int | None:
    """Return the bytes that this process has had fetched from storage so far, None where the system does not tell."""
    found = [int(line.split()[1]) for line in lines_of("/proc/self/io") if line.startswith("read_bytes")]
    return found[0] if found else None
