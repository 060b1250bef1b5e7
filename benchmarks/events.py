"""Made-up events: showers of 18 x 72 cells and point clouds for the networks, columns and ROOT files to load from.

The values mean nothing. Columns are random codes, so that no compression helps; ROOT files have as many hit cells as
showers have. B events, P points of each.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

CHUNK = 4_096  # events made and written at once
# Columns of one event, by layout, as `prepare` writes them.
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


def showers(batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return sparse energies (B, 18, 72, 1) in MeV, falling off from one column per event, and labels (B,)."""
    random = np.random.default_rng(seed)
    distance = np.abs(np.arange(72) - random.uniform(10, 62, (batch, 1, 1)))
    energy = random.exponential(10.0, (batch, 18, 72)) * np.exp(-distance / 2)
    image = np.where(energy > 0.3, energy, 0)[..., None].astype(np.float32)
    return {"image": image, "label": (np.arange(batch) % 2).astype(np.float32)}


def clouds(batch: int, points: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Return spacepoints (B, P, 3) in mm between cathode and pads, and vertex positions (B, 1) along z."""
    random = np.random.default_rng(seed)
    vertex = random.uniform(-1000, 1000, (batch, 1))
    radius, angle = random.uniform(109, 190, (batch, points)), random.uniform(-np.pi, np.pi, (batch, points))
    z = vertex + radius * random.normal(0, 0.8, (batch, points))
    centre = z.mean(1, keepdims=True)
    cloud = np.stack([radius * np.cos(angle), radius * np.sin(angle), z - centre], -1)
    return {"image": cloud.astype(np.float32), "label": (vertex - centre).astype(np.float32)}


def events_of(cell: dict, batch: int) -> dict[str, np.ndarray]:
    """Return input ("image") and labels of so many events for the network of a cell."""
    return clouds(batch, cell["points"]) if cell["model"] == "pointnet" else showers(batch)


def event_bytes(layout: str) -> int:
    """Return the bytes of one event in the columns."""
    return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for dtype, shape in LAYOUTS[layout].values())


def columns_of(folder: Path) -> list[Path]:
    """Return the files of the training columns."""
    return sorted((folder / "train").glob("*.npy"))


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
                if dtype == np.float32:
                    values = generator.normal(0, 500, wanted).astype(np.float32)
                else:
                    low, high = (0, 2) if name == "label" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
                    values = generator.integers(low, high, wanted, dtype=dtype)
                values.tofile(file)
            file.flush()
            os.fsync(file.fileno())


def write_root(path: Path, events: int, label: int) -> None:
    """Write a tree `t1` in the AMS layout: cells in MeV whose sum is `en3d` in GeV, flat in its logarithm."""
    from jaxhep import root

    types: dict[str, np.dtype] = dict.fromkeys(ROOT_BRANCHES, np.dtype(np.float32))
    types |= {"edep_cell": np.dtype((np.float32, (1296,))), "run": np.dtype(np.int32), "event": np.dtype(np.int32)}

    def chunks():
        generator = np.random.default_rng(label)
        for first in range(0, events, root.CHUNK):
            number = np.arange(first, min(first + root.CHUNK, events), dtype=np.int32)
            energy = np.exp(generator.uniform(np.log(210), np.log(1900), len(number))).astype(np.float32)
            hit = generator.random((len(number), 1296), np.float32) < HIT_CELLS
            cells = np.where(hit, generator.standard_exponential(hit.shape, np.float32), np.float32(0))
            cells *= (1e3 * energy / cells.sum(1))[:, None]
            columns = (cells, energy, energy, np.full_like(number, label), number, np.ones_like(energy))
            yield dict(zip(ROOT_BRANCHES, columns, strict=True))

    root.write_tree(path, "t1", types, chunks())
