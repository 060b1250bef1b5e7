"""Configurations: loaded from files that are documents, checked, compared, kept beside the run."""

import ast
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxhep.errors import BadInput, nearest

# Fields that may differ when a run goes on: how long, on what devices, how it is shown; never what it computes.
FREE = (
    "train.epochs",
    "train.max_steps",
    "train.checkpoint_seconds",
    "parallel",
    "evaluate",
    "ensemble.group",
    "data.folder",
    "simulation.folder",
)


def load_config(name: str) -> Any:
    """Return the locked configuration of `path/to/file.py` or `path/to/file.py:variant`.

    Raises BadInput for a missing file, a file without get_config, or a variant that it does not know.
    """
    file, _, variant = name.partition(":")
    path = Path(file)
    if not path.is_file():
        near = nearest(path.name, [found.name for found in path.parent.glob("*.py")]) if path.parent.is_dir() else ""
        raise BadInput(f"{file}: no such config file{near}")
    find_siblings(path)
    spec = importlib.util.spec_from_file_location(f"jaxhep_config_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise BadInput(f"{file}: no function get_config in this file")
    try:
        return module.get_config(variant) if variant else module.get_config()
    except ValueError as error:
        raise BadInput(f"{name}: {error}") from None


def find_siblings(path: Path) -> None:
    """Let a config file import its siblings (`from configs import ams_ecal`) from whatever folder it is run."""
    root = str(path.resolve().parent.parent)
    if root not in sys.path:
        sys.path.insert(0, root)


def section_of(config: Any, name: str) -> tuple[Any, str]:
    """Return the section that holds a dotted field, and the field's own name there.

    Raises BadInput for a name that is not there, with the nearest that is. Under `model.settings` any name will do: only
    the network knows its arguments, and `network.build_model` checks them.
    """
    *path, last = name.split(".")
    section = config
    for part in path:
        if not isinstance(section, ConfigDict) or part not in section:
            raise BadInput(f"no config field {name!r}{nearest_field(section, part)}")
        section = section[part]
    if path != ["model", "settings"] and (not isinstance(section, ConfigDict) or last not in section):
        raise BadInput(f"no config field {name!r}{nearest_field(section, last)}")
    return section, last


def nearest_field(section: Any, name: str) -> str:
    """Return the hint at the field of a section that is closest to `name`, or nothing."""
    return nearest(name, section.keys()) if isinstance(section, ConfigDict) else ""


def set_field(config: Any, name: str, value: Any) -> None:
    """Set a dotted field. Raises BadInput for a name that is not there, with the nearest that is."""
    section, last = section_of(config, name)
    with section.unlocked():
        section[last] = value


def assign(config: Any, assignment: str, section: str = "") -> None:
    """Set a field from text, NAME=VALUE with a JSON value, a tuple or plain text, within a section if one is given.

    Raises BadInput for a name that is not there or a value of another type.
    """
    name, equals, text = assignment.partition("=")
    if not equals:
        raise BadInput(f"{assignment!r}: wanted NAME=VALUE")
    try:
        set_field(config, f"{section}.{name}" if section else name, value_of(text))
    except (TypeError, KeyError) as error:
        raise BadInput(f"{assignment!r}: {' '.join(str(error).split())}") from None


def value_of(text: str) -> Any:
    """Return the value that a text on the command line means: JSON with lists as tuples, a Python literal, or itself."""
    for read in (json.loads, ast.literal_eval):
        try:
            return tupled(read(text))
        except (ValueError, SyntaxError):
            continue
    return text


def tupled(value: Any) -> Any:
    """Return lists in a value of JSON, also inside dicts, as tuples."""
    if isinstance(value, dict):
        return {name: tupled(inner) for name, inner in value.items()}
    return tuple(map(tupled, value)) if isinstance(value, list) else value


def settings_from(config: Any, known: tuple[str, ...], beside: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of `config.simulation` that are settings of the simulation: all but those named `beside`.

    Raises BadInput for one that the simulation does not have.
    """
    fields = {name: value for name, value in config.simulation.items() if name not in beside}
    for name in fields:
        if name not in known:
            raise BadInput(f"config.simulation.{name}: no such setting{nearest(name, known)}")
    return fields


def plain(config: Any) -> dict:
    """Return a configuration as nested dicts of JSON values, tuples as lists."""
    return json.loads(config.to_json_best_effort())


def from_plain(content: dict) -> Any:
    """Return the configuration that `plain` was made from, lists as tuples."""
    return ConfigDict(tupled(content)).lock()


def method_name(config: Any) -> str:
    """Return what plots and metrics call the trained network, or the ensemble of them."""
    members = config.ensemble.members
    return config.model.name if members == 1 else f"{config.model.name} ensemble of {members}"


def flatten(content: dict, prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one dict with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def check_same(workdir: Path, config: Any) -> None:
    """Raise BadInput where the run folder was made by another configuration, naming what differs."""
    path = workdir / "config.json"
    if not path.exists():
        if any(workdir.glob("checkpoints/step_*")):
            raise BadInput(
                f"{workdir}: holds checkpoints but no config.json, nobody knows of what; name another --workdir"
            )
        return
    try:
        found = flatten(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError) as error:
        raise BadInput(f"{path}: not readable ({type(error).__name__}), name another --workdir") from None
    wanted = flatten(plain(config))
    # A cosine ends with the last step: more of them make it another schedule.
    ends = ("train.epochs", "train.max_steps") if config.train.schedule == "cosine" else ()
    free_fields = [name for name in FREE if name not in ends]
    differing = [
        f"{name} is {found.get(name)!r} there and {wanted.get(name)!r} here"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
        and not any(name == free or name.startswith(f"{free}.") for free in free_fields)
    ]
    if differing:
        raise BadInput(
            f"{workdir}: made by another config: {'; '.join(differing[:4])}{' and more' if len(differing) > 4 else ''}; name another --workdir"
        )


def check_same_data(workdir: Path, content_hash: str) -> None:
    """Raise BadInput where the run folder was trained on other data than those with this hash."""
    path = workdir / "provenance.json"
    if path.exists() and json.loads(path.read_text()).get("data_hash") != content_hash:
        raise BadInput(f"{workdir}: trained on other data (content hash differs), name another --workdir")
