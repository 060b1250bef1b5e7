"""Shared by all tests: the small samples, made once."""

import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile much and run little: without LLVM's optimisation they take two thirds of the time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import numpy as np
import pytest

from jaxhep import root
from jaxhep.config import load_config

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
# Programs of tests run once: compiling them thoroughly would take longer than running them.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
# The study's CvT with small kernels, as configs/phys_cvt_small.py has it.
SMALL_KERNELS = {
    "kernel_sizes": ((3, 1), (4, 3), (3, 3)),
    "strides": ((1, 1), (2, 1), (1, 1)),
    "paddings": ((1, 0), (1, 1), (1, 1)),
}


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference samples beside the repository."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no reference samples beside this repository")
    return SHARED / "data"


@pytest.fixture(autouse=True)
def drawing(request, monkeypatch):
    """Render plots in tests marked `draws` alone: it takes seconds a run, and the others look at numbers."""
    if "draws" not in request.keywords:
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **_: Path(path).touch())


def made_up_events(events: int, seed: int, species: str = "electron", run: int = 1) -> dict[str, np.ndarray]:
    """Return columns of tree t1 with random sparse cells whose sum is en3d; nothing physical about them."""
    generator = np.random.default_rng(seed)
    energy = np.exp(generator.uniform(np.log(150), np.log(2500), events))
    cells = generator.exponential(1.0, (events, 1296)) * (generator.random((events, 1296)) < 0.2)
    if species == "electron":  # separable at a glance, so that a test can see a network learn
        cells[:, 648:] *= 0.001
    cells *= (1000 * energy / cells.sum(1))[:, None]
    one = {name: generator.normal(0, 0.1, (events, 1)) for name in ("Zenith", "Azimutal", "X", "Y")}
    columns = {
        "edep_cell": cells,
        "en3d": energy,
        "mom": energy * 1.05,
        "Trk_Ecal_Inci_Z": np.zeros((events, 1)),
    }
    columns |= {f"Trk_Ecal_Inci_{name}": values for name, values in one.items()}
    columns["trd_lik"] = generator.normal(0.45 if species == "electron" else 0.95, 0.02, events)
    columns = {name: values.astype(np.float32) for name, values in columns.items()}
    return columns | {"run": np.full(events, run, np.int32), "event": np.arange(events, dtype=np.int32)}


def types_of(columns: dict[str, np.ndarray]) -> dict:
    return {name: np.dtype((values.dtype, values.shape[1:])) for name, values in columns.items()}


def write_events(path: Path, columns: dict[str, np.ndarray], chunk: int = 512, tree: str = "t1") -> Path:
    """Write columns to a tree of several baskets."""
    events = len(columns["en3d"]) if "en3d" in columns else len(next(iter(columns.values())))
    chunks = (
        {name: values[first : first + chunk] for name, values in columns.items()} for first in range(0, events, chunk)
    )
    root.write_tree(path, tree, types_of(columns), chunks)
    return path


@pytest.fixture(scope="session")
def samples(tmp_path_factory) -> Path:
    """A folder with el.root and pr.root of made-up events."""
    folder = tmp_path_factory.mktemp("samples")
    for species, seed in (("electron", 1), ("proton", 2)):
        write_events(folder / f"{species[:2]}.root", made_up_events(1500, seed, species))
    return folder


def made_up_annihilations(events: int, seed: int, run: int = 1) -> dict[str, np.ndarray]:
    """Return columns as the TPC's simulation gives them: straight tracks from a vertex; nothing more is physical."""
    generator = np.random.default_rng(seed)
    count = generator.integers(20, 140, events).astype(np.int32)
    event = np.repeat(np.arange(events), count)
    vertex = np.c_[generator.normal(0, 10, (events, 2)), generator.uniform(-900, 900, events)]
    track = event * 4 + generator.integers(0, 4, len(event))
    angle, slope = generator.uniform(0, 2 * np.pi, 4 * events)[track], generator.normal(0, 0.5, 4 * events)[track]
    radius = generator.uniform(110, 180, len(event))
    points = np.c_[radius * np.cos(angle), radius * np.sin(angle), vertex[event, 2] + radius * slope]
    amplitude = generator.exponential(1.0, len(event)).astype(np.float32)
    order = np.lexsort((-amplitude, event))
    columns = {"points": points[order], "amplitude": amplitude[order], "vertex": vertex}
    columns = {name: values.astype(np.float32) for name, values in columns.items()}
    columns |= {"count": count, "charged_pions": generator.integers(2, 5, events).astype(np.int8)}
    return columns | {"run": np.full(events, run, np.uint32), "event": np.arange(events, dtype=np.uint32)}


@pytest.fixture(scope="session")
def spacepoints(tmp_path_factory) -> Path:
    """A Parquet file of 400 made-up annihilations."""
    from jaxhep.alpha_g import production

    path = tmp_path_factory.mktemp("spacepoints") / "annihilations.parquet"
    production.write_parquet(path, iter([made_up_annihilations(400, 3)]))
    return path


@pytest.fixture
def vertex_config(spacepoints, tmp_path):
    """A small configuration on the made-up annihilations."""
    config = load_config(str(ROOT / "configs/pointnet.py:smoke"))
    config.data.files, config.data.folder = str(spacepoints), str(tmp_path / "prepared")
    return config


@pytest.fixture
def config(samples, tmp_path):
    """A small configuration on the made-up files."""
    config = load_config(str(ROOT / "configs/mlp.py:smoke"))
    config.data.electrons, config.data.protons = str(samples / "el.root"), str(samples / "pr.root")
    config.data.folder = str(tmp_path / "prepared")
    return config


@pytest.fixture(scope="session")
def simulated(tmp_path_factory) -> dict[str, str]:
    """Folders in which the smoke configs keep simulation and columns, shared by all tests of a process.

    Programs compiled in one test are found by the next, as in a user's second run.
    """
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("xla")))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    folder = tmp_path_factory.mktemp("simulated")
    return {"simulation": str(folder / "simulation"), "prepared": str(folder / "prepared")}


def run(name, workdir, simulated, *overrides) -> int:
    """Train the smoke variant of a config and return the exit status."""
    from jaxhep import train

    fields = {"simulation.folder": simulated["simulation"], "data.folder": simulated["prepared"]}
    arguments = [f"--config={ROOT}/configs/{name}.py:smoke", f"--workdir={workdir}"]
    arguments += [f"--config.{field}={value}" for field, value in fields.items()]
    return train.main([*arguments, *(f"--config.{override}" for override in overrides)])
