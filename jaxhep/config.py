"""Configurations: found by file or name, fields set from text, checked, compared, kept beside the run."""

import ast
import importlib.util
import json
import traceback
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


def shipped() -> dict[str, Path]:
    """Return the configs that come with jaxhep, by name: in an installed package, or beside it in a clone."""
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if found := {path.stem: path for path in sorted(folder.glob("[!_]*.py"))}:
            return found
    return {}


def find_config(name: str) -> tuple[Path, str]:
    """Return file and variant that `path/to/file.py`, `path/to/file.py:variant` or `shipped:variant` names.

    A path as it stands comes first, so that colons in it do no harm. Raises BadInput where nothing is found.
    """
    if Path(name).is_file():
        return Path(name), ""
    if name and (Path(name) / "config.json").is_file():  # a run folder
        return Path(name) / "config.json", ""
    file, colon, variant = name.rpartition(":")
    if colon and Path(file).is_file():
        return Path(file), variant
    known = shipped()
    stem, _, variant = name.partition(":")
    if stem in known:
        return known[stem], variant
    path = Path(file if colon else name)
    beside = [found.name for found in path.parent.glob("*.py")] if path.parent.is_dir() else []
    hint = nearest(path.name, beside) or nearest(path.stem, known)
    raise BadInput(f"{path}: no such config file{hint}; shipped: {', '.join(known)}")


def config_name(name: str) -> str:
    """Return a short name of what `find_config` finds, with its variant: that of a run folder."""
    file, variant = find_config(name)
    stem = file.resolve().parent.name if file.name == "config.json" else file.stem
    return f"{stem}{'-' + variant if variant else ''}"


def load_config(name: str) -> ConfigDict:
    """Return the locked configuration of a Python file, with its variant, a shipped one or a run's config.json.

    A Python file is code, and is run. Raises BadInput for a missing file, one without get_config, one that cannot be
    imported, or a variant that it does not know.
    """
    path, variant = find_config(name)
    if path.suffix == ".json":
        if variant:
            raise BadInput(f"{path}: a config of a run has no variant {variant!r}")
        return read_config(path)
    spec = importlib.util.spec_from_file_location(f"jaxhep_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{path}: not a config file, wanted *.py or a run's config.json")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise BadInput(f"{path}: no function get_config in this file")
        config = module.get_config(variant) if variant else module.get_config()
    except ValueError as error:  # BadInput, or a variant that it does not know
        raise BadInput(str(error) if str(path) in str(error) else f"{name}: {error}") from None
    except Exception as error:  # whatever the code of a config may raise
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        place = f", line {lines[-1]}" if lines else ""
        text = str(error.args[0] if error.args else "").splitlines() or [""]
        what = f"{type(error).__name__}: {text[0].partition('. ')[0]}"
        raise BadInput(f"{path}{place}: cannot be run as a config ({what})") from None
    if not isinstance(config, ConfigDict):
        raise BadInput(f"{path}: get_config gives a {type(config).__name__}, wanted a ConfigDict")
    return config.unlock().lock()  # all of it, also sections that a base left open


def read_config(path: Path) -> ConfigDict:
    """Return the configuration that a run keeps. Raises BadInput where it is not readable."""
    try:
        return ConfigDict(tupled(json.loads(path.read_text()))).lock()
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{path}: not a readable config ({type(error).__name__})") from None


def section_of(config: ConfigDict, name: str) -> tuple[Any, str]:
    """Return the section that holds a dotted field, and the field's own name there.

    Raises BadInput for a name that is not there, with the nearest that is. Under `model.settings` any name will do: only
    the network knows its arguments, and `session.build_model` checks them.
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


def set_field(config: ConfigDict, name: str, value: Any) -> None:
    """Set a dotted field. Raises BadInput for a name that is not there, with the nearest, or a value of another type."""
    section, last = section_of(config, name)
    try:
        with section.unlocked():
            section[last] = value
    except TypeError:
        kind = type(section[last]).__name__
        raise BadInput(f"config.{name} is {value!r}, wanted {'a value' if kind == 'NoneType' else kind}") from None


def assign(config: ConfigDict, assignment: str) -> None:
    """Set a field from text, NAME=VALUE. Raises BadInput for a name that is not there or a value of another type."""
    name, equals, text = assignment.partition("=")
    section, last = section_of(config, name)
    if not equals and isinstance(section.get(last), bool):
        text, equals = "true", "="
    if not equals:
        raise BadInput(f"{assignment!r}: wanted NAME=VALUE")
    free = name.startswith("model.settings.")  # only the network knows what its arguments are
    set_field(config, name, value_of(text) if free else value_like(section[last], text, name))


def value_like(like: Any, text: str, name: str) -> Any:
    """Return the value of the same type as `like` that a text means. Raises BadInput where it means none."""
    if isinstance(like, ConfigDict):
        raise BadInput(f"config.{name} is a section, wanted one of its fields: {', '.join(like.keys())}")
    if isinstance(like, str):
        return text
    value = value_of(text)
    if isinstance(like, tuple) and not isinstance(value, tuple):
        parts = text.split(",") if isinstance(value, str) else [text]
        value = tuple(value_of(part.strip()) for part in parts if part.strip())
    if isinstance(like, tuple) and like and isinstance(like[0], float):
        value = tuple(float(part) if isinstance(part, int) else part for part in value)
    if isinstance(like, bool) and str(value) in ("0", "1", "True", "False", "true", "false"):
        return str(value) in ("1", "True", "true")
    if isinstance(like, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    types = [type(part) for part in like] if isinstance(like, tuple) and like else []
    fits = type(value) is type(like) and all(type(part) is types[0] for part in (value if types else ()))
    if not fits:
        wanted = (
            f"a tuple of {types[0].__name__}" if types else {bool: "true or false"}.get(type(like), type(like).__name__)
        )
        raise BadInput(f"config.{name} is {text!r}, wanted {wanted}")
    return value


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


def settings_from(config: ConfigDict, known: tuple[str, ...], beside: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of `config.simulation` that are settings of the simulation: all but those named `beside`.

    Raises BadInput for one that the simulation does not have.
    """
    fields = {name: value for name, value in config.simulation.items() if name not in beside}
    for name in fields:
        if name not in known:
            raise BadInput(f"config.simulation.{name}: no such setting{nearest(name, known)}")
    return fields


def plain(config: ConfigDict) -> dict:
    """Return a configuration as nested dicts of JSON values, tuples as lists."""
    return json.loads(config.to_json_best_effort())


def method_name(config: ConfigDict) -> str:
    """Return what plots and metrics call the trained network, or the ensemble of them."""
    members = config.ensemble.members
    return config.model.name if members == 1 else f"{config.model.name} ensemble of {members}"


def flatten(content: dict, prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one dict with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def check_same(workdir: Path, config: ConfigDict) -> None:
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
