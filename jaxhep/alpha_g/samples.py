"""Which files make up an ALPHA-g data set and what is kept of them. NumPy only."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxhep import root
from jaxhep.alpha_g import features, layouts
from jaxhep.detector import same_experiment
from jaxhep.errors import BadInput
from jaxhep.manifest import Source, read_manifest
from jaxhep.records import SPLITS

LABELS = {"annihilation": 1, "cosmic": 0}


def find_sources(config: ConfigDict, simulated: Callable[[], dict[str, list[Path]]]) -> list[Source]:
    """Return (file, label) pairs: the user's files, or those of `simulated()` where none are named."""
    if config.data.files:
        return [(path, 1) for path in root.expand(config.data.files, "spacepoints", tuple(layouts.ENDINGS))]
    return [(path, LABELS[species]) for species, paths in simulated().items() for path in paths]


def scoring_sources(config: ConfigDict) -> list[Source]:
    """Return (file, label) pairs of config.data.files."""
    return [(path, 1) for path in root.expand(config.data.files, "spacepoints", tuple(layouts.ENDINGS))]


def build_selection(config: ConfigDict) -> features.Selection:
    """Return what the config keeps of the files. Raises BadInput where it makes no sense."""
    data = config.data
    if len(data.split) != len(SPLITS) or min(data.split) <= 0:
        raise BadInput(f"config.data.split is {tuple(data.split)}, wanted three weights above 0: {', '.join(SPLITS)}")
    selection = features.Selection(
        stored_points=data.stored_points,
        order=data.order,
        radius_mm=tuple(data.radius_mm),
        unit=data.unit,
        tree=data.tree,
        fractions=tuple(zip(SPLITS, map(float, data.split), strict=True)),
        z_range_mm=tuple(data.z_range_mm),
        flatten_z=data.flatten_z,
    )
    features.check(selection)
    total = sum(weight for _, weight in selection.fractions)
    return selection._replace(fractions=tuple((name, weight / total) for name, weight in selection.fractions))


def scoring_selection(config: ConfigDict) -> features.Selection:
    """Return the selection that keeps every event that has a spacepoint and a true vertex, in the test split."""
    chosen = build_selection(config)
    return chosen._replace(fractions=(("test", 1.0),), flatten_z=False, z_range_mm=(-1e6, 1e6))


def identity_of(config: ConfigDict, selection: features.Selection) -> dict[str, Any]:
    """Return what decides the content of the prepared columns, beside the files."""
    return {name: value for name, value in selection._asdict().items() if name not in ("has", "keep")}


def manifest_facts(config: ConfigDict, selection: features.Selection) -> dict[str, Any]:
    """Return what the manifest says of this data set beyond files and counts."""
    return {
        "selection": identity_of(config, selection),
        "point_encoding": features.ENCODING,
        "has": sorted(selection.has),
    }


def check_prepared(folder: Path, config: ConfigDict) -> None:
    """Raise BadInput where it is no data set of this experiment and selection."""
    same_experiment(folder, config)
    manifest = read_manifest(folder)
    for name in ("order", "radius_mm", "stored_points", "flatten_z"):
        there, here = manifest["selection"][name], config.data[name]
        if there != (list(here) if isinstance(here, tuple) else here):
            raise BadInput(f"{folder}: prepared with {name} {there}, wanted {here} (config.data.{name})")
