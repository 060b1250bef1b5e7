"""Files to load from: made-up columns as `prepare` writes them, made-up ROOT files, and whether they are in the page cache.

The values mean nothing: cells and coordinates are random, so that no compression helps; the ROOT files have as many hit
cells as showers have.
"""

import ctypes
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

PAGE = mmap.PAGESIZE
CHUNK = 4_096  # events made and written at once
COLD = 0.05  # a file with less than this fraction of it in the page cache is cold
# Columns of one event, by layout.
LAYOUTS: dict[str, dict[str, tuple[Any, tuple[int, ...]]]] = {
    "ecal": {"cells": (np.uint16, (18, 72)), "label": (np.uint8, ())},
    "spacepoints": {
        "points": (np.int16, (800, 3)),
        "count": (np.uint16, ()),
        "vertex": (np.float32, (3,)),
        "label": (np.uint8, ()),
    },
}
ROOT_BRANCHES = ("edep_cell", "en3d", "mom", "run", "event", "weight")
HIT_CELLS = 0.27  # of the 1,296 cells of an event, as many as showers above 200 GeV have


def event_bytes(layout: str) -> int:
    """Return the bytes of one event in the columns."""
    return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for dtype, shape in LAYOUTS[layout].values())


def write_columns(folder: Path, layout: str, events: int, seed: int = 0) -> None:
    """Write the columns of a layout to `folder/train/<column>.npy`, on disk and not only in the page cache."""
    generator = np.random.default_rng(seed)
    (folder / "train").mkdir(parents=True, exist_ok=True)
    for name, (dtype, shape) in LAYOUTS[layout].items():
        with open(folder / "train" / f"{name}.npy", "wb") as file:
            descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
            header = {"descr": descr, "fortran_order": False, "shape": (events, *shape)}
            np.lib.format.write_array_header_1_0(file, header)
            for first in range(0, events, CHUNK):
                wanted = (min(CHUNK, events - first), *shape)
                if name == "label":
                    values = generator.integers(0, 2, wanted, dtype=np.uint8)
                elif dtype == np.float32:
                    values = generator.normal(0, 500, wanted).astype(np.float32)
                else:
                    values = generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, wanted, dtype=dtype)
                values.tofile(file)
            file.flush()
            os.fsync(file.fileno())


def write_root(path: Path, events: int, seed: int = 0) -> Path:
    """Write a tree `t1` of made-up showers in the AMS layout: cells in MeV whose sum is `en3d` in GeV, flat in its log."""
    from jaxhep import root

    types: dict[str, np.dtype] = dict.fromkeys(ROOT_BRANCHES, np.dtype(np.float32))
    types |= {"edep_cell": np.dtype((np.float32, (1296,))), "run": np.dtype(np.int32), "event": np.dtype(np.int32)}

    def chunks():
        generator = np.random.default_rng(seed)
        for first in range(0, events, root.CHUNK):
            count = min(root.CHUNK, events - first)
            energy = np.exp(generator.uniform(np.log(210), np.log(1900), count)).astype(np.float32)
            hit = generator.random((count, 1296), np.float32) < HIT_CELLS
            cells = np.where(hit, generator.standard_exponential((count, 1296), np.float32), np.float32(0))
            cells *= (1e3 * energy / cells.sum(1))[:, None]
            number = np.arange(first, first + count, dtype=np.int32)
            one = np.ones(count, np.float32)
            yield dict(
                zip(ROOT_BRANCHES, (cells, energy, energy, np.full_like(number, seed), number, one), strict=True)
            )

    root.write_tree(path, "t1", types, chunks())
    return path


def warm(folder: Path) -> None:
    """Read every column, so that it is in the page cache where that is large enough."""
    for path in sorted((folder / "train").glob("*.npy")):
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 22):
                pass


def drop(folder: Path) -> float | None:
    """Ask the system to forget the columns' pages and return the fraction of them that is in the page cache after it.

    A file system may ignore it, and pages that some process has mapped stay. Raises OSError where the system has no
    such request.
    """
    if not hasattr(os, "posix_fadvise"):
        raise OSError("this system has no posix_fadvise: the page cache cannot be emptied")
    for path in sorted((folder / "train").glob("*.npy")):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return resident(folder)


def resident(folder: Path) -> float | None:
    """Return the fraction of the columns' pages that is in the page cache, as mincore tells; None where it does not."""
    pages, inside = 0, 0
    for path in sorted((folder / "train").glob("*.npy")):
        size = path.stat().st_size
        count = -(-size // PAGE)
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = np.frombuffer(mapped, np.uint8)
            flags = np.zeros(count, np.uint8)
            address = ctypes.c_void_p(view.ctypes.data)
            failed = ctypes.CDLL(None).mincore(address, ctypes.c_size_t(size), ctypes.c_void_p(flags.ctypes.data))
            del view, address
        if failed:
            return None
        pages, inside = pages + count, inside + int((flags & 1).sum())
    return inside / pages


def bytes_read() -> int | None:
    """Return the bytes that this process has had fetched from storage so far, None where the system does not tell."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("read_bytes")), None)
