"""Which files make up an AMS data set, how they are labelled, and what is kept of them. NumPy only."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxhep import root
from jaxhep.ams_ecal import features
from jaxhep.ams_ecal.recipes import Recipe, all_to_test, find_recipe
from jaxhep.errors import BadInput
from jaxhep.manifest import Source, fingerprint, origin_of, read_manifest

LABELS = {"electron": 1, "proton": 0}


def find_sources(config: ConfigDict, simulated: Callable[[], dict[str, list[Path]]]) -> list[Source]:
    """Return (file, label) pairs: the user's files, or those of `simulated()` where none are named.

    Raises BadInput where files and recipe do not fit or a class is missing.
    """
    data = config.data
    if find_recipe(data.recipe).label == "trd":
        if data.electrons or data.protons:
            raise BadInput(f"recipe {data.recipe!r} labels one sample itself: use config.data.files, not two samples")
        if data.files:
            return [(path, None) for path in root.expand(data.files, "flight data")]
        return [(path, None) for paths in simulated().values() for path in paths]
    if data.files:
        raise BadInput(
            f"recipe {data.recipe!r} takes its labels from files: use --config.data.electrons and --config.data.protons, not files"
        )
    if bool(data.electrons) != bool(data.protons):
        missing = "protons" if data.electrons else "electrons"
        raise BadInput(f"config.data.{missing} is empty: a class is missing, name both or neither (simulation)")
    if data.electrons:
        return _labelled(data)
    files = simulated()
    return [(path, label) for species, label in LABELS.items() for path in files[species]]


def scoring_sources(config: ConfigDict) -> list[Source]:
    """Return (file, label) pairs of config.data.electrons and protons, or of files (flight data)."""
    data = config.data
    if data.files and (data.electrons or data.protons):
        raise BadInput("config.data.files are labelled by the TRD cuts: name them, or electrons and protons")
    if data.files:
        return [(path, None) for path in root.expand(data.files, "flight data")]
    return _labelled(data)


def _labelled(named: Any) -> list[Source]:
    found = {}
    for species in LABELS:
        found[species] = root.expand(named[f"{species}s"], f"{species} files") if named[f"{species}s"] else []
    _check_apart(found["electron"], found["proton"])
    return [(path, label) for species, label in LABELS.items() for path in found[species]]


def _check_apart(electrons: list[Path | str], protons: list[Path | str]) -> None:
    """Raise BadInput where a file is named for both classes."""
    both = {fingerprint(path)[0] for path in electrons} & {fingerprint(path)[0] for path in protons}
    if both:
        raise BadInput(f"{min(both)}: named both as electrons and as protons")


def build_selection(config: ConfigDict) -> features.Selection:
    """Return what the config keeps of the files. Raises BadInput for an unknown recipe."""
    return _selection(config, find_recipe(config.data.recipe))


def scoring_selection(config: ConfigDict) -> features.Selection:
    """Return the selection that keeps every event, whatever its energy, in the test split."""
    return _selection(config, all_to_test(find_recipe(config.data.recipe), "trd" if config.data.files else "file"))


def _selection(config: ConfigDict, recipe: Recipe) -> features.Selection:
    data = config.data
    labelling = features.Labelling(data.label_branch, data.electron_below, data.proton_above)
    return features.Selection(recipe, data.cell_unit, data.tree, labelling)


def identity_of(config: ConfigDict, selection: features.Selection) -> dict[str, Any]:
    """Return what decides the content of the prepared columns, beside the files."""
    recipe = selection.recipe
    return {
        "recipe": recipe._asdict(),
        "labelling": selection.labelling._asdict() if recipe.label == "trd" else None,
        "cell_unit": selection.cell_unit,
        "tree": selection.tree,
    }


def name_of(config: ConfigDict) -> str:
    """Return the name by which the prepared folder is recognised."""
    return config.data.recipe


def manifest_facts(config: ConfigDict, selection: features.Selection) -> dict[str, Any]:
    """Return what the manifest says of this data set beyond files and counts."""
    recipe = selection.recipe
    return {
        "recipe": config.data.recipe,
        "description": recipe.description,
        "energy": recipe.energy,
        "ranges": recipe.ranges,
        "labelling": selection.labelling._asdict() if recipe.label == "trd" else None,
        "cell_unit": selection.cell_unit,
        "cell_encoding": features.ENCODING,
        "observers": list(selection.observers),
    }


def check_prepared(folder: Path, config: ConfigDict) -> None:
    """Raise BadInput where it is no prepared data set, or one of another recipe."""
    manifest = read_manifest(folder)
    found = manifest.get("recipe", f"for {manifest['experiment']}")
    if found != config.data.recipe:
        raise BadInput(f"{folder}: prepared by recipe {found}, wanted {config.data.recipe} (config.data.recipe)")


def check_splits(folder: Path, config: ConfigDict) -> None:
    """Raise BadInput where a split that the recipe fills has no events, or none of one class."""
    recipe = find_recipe(config.data.recipe)
    manifest = read_manifest(folder)
    for split in dict.fromkeys(name for band in recipe.bands for name in band.fractions):
        labels = manifest["splits"][split]["labels"]
        for label, species in (("1", "electrons"), ("0", "protons")):
            if not labels.get(label):
                found = f"{sum(labels.values())} events" if labels else "no events: the selection is empty"
                raise BadInput(f"{folder}: no {species} in the {split} split ({found}) {origin_of(manifest)}")
