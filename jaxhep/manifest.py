"""manifest.json of a prepared data set: what went in, what was left out, what is there."""

import json
from pathlib import Path

from jaxhep.ams_ecal.recipes import Recipe
from jaxhep.errors import BadInput


def check_splits(folder: Path, recipe: Recipe) -> None:
    """Raise BadInput where a split that the recipe fills has no events, or none of one class."""
    manifest = read_manifest(folder)
    for split in dict.fromkeys(name for band in recipe.bands for name in band.fractions):
        labels = manifest["splits"][split]["labels"]
        for label, species in (("1", "electrons"), ("0", "protons")):
            if not labels.get(label):
                reasons = "; ".join(
                    f"{count} entries left out: {reason}" for reason, count in manifest["dropped"].items()
                )
                found = f"{sum(labels.values())} events" if labels else "no events: the selection is empty"
                raise BadInput(
                    f"{folder}: no {species} in the {split} split ({found}) of {manifest['files'][0]['path']} and {len(manifest['files']) - 1} more files; {reasons}"
                )


def read_manifest(folder: Path) -> dict:
    """Return the manifest of a prepared folder. Raises BadInput where there is none."""
    try:
        return json.loads((Path(folder) / "manifest.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise BadInput(
            f"{folder}: not a prepared data set, no readable manifest.json ({type(error).__name__})"
        ) from None


def check_recipe(folder: Path, recipe: str) -> Path:
    """Return the folder. Raises BadInput where it is no prepared data set, or one of another recipe."""
    found = read_manifest(folder)["recipe"]
    if found != recipe:
        raise BadInput(f"{folder}: prepared by recipe {found}, wanted {recipe} (config.data.recipe)")
    return folder


def fingerprint(path: Path | str) -> tuple[str, int, int]:
    """Return path, size and modification time: what tells that a file has changed (of a remote file, its name)."""
    if isinstance(path, str):
        return path, 0, 0
    found = path.stat()
    return str(path.resolve()), found.st_size, found.st_mtime_ns


def check_apart(electrons: list, protons: list) -> None:
    """Raise BadInput where a file is named for both classes."""
    both = {fingerprint(path)[0] for path in electrons} & {fingerprint(path)[0] for path in protons}
    if both:
        raise BadInput(f"{min(both)}: named both as electrons and as protons")
