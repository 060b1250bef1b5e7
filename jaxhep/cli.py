"""One command line for all verbs: `jaxhep VERB` = `python -m jaxhep.VERB`.

--config FILE[:variant] | NAME[:variant] | RUN/config.json     --config.FIELD=VALUE     --workdir RUN
"""

import argparse
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

from ml_collections import ConfigDict

from jaxhep import stop
from jaxhep.config import assign, config_name, find_config, flatten, load_config, plain
from jaxhep.errors import BadInput, nearest, one_line
from jaxhep.fields import COMMON, DATA
from jaxhep.huge_pages import restart_with_huge_pages

VERBS = ("simulate", "prepare", "train", "evaluate")
DEFAULT = "cvt"
FIELD = "--config."


class Command(NamedTuple):
    """A parsed command line."""

    config: ConfigDict  # with what was set
    name: str  # of the config, with its variant
    file: Path  # that it was read from
    workdir: Path | None
    assignments: tuple[str, ...]  # NAME=VALUE of the fields that were set
    options: argparse.Namespace  # of the verb


class Parser(argparse.ArgumentParser):
    """A parser whose errors are BadInput, in one line."""

    def error(self, message: str) -> NoReturn:
        """Raise BadInput."""
        raise BadInput(message)


def parser(verb: str, description: str | None) -> Parser:
    """Return the parser of a verb, to which the verb adds its own options."""
    made = Parser(
        prog=f"jaxhep {verb}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    made.add_argument("--config", metavar="FILE", help=f"config file, shipped name or run's config.json ({DEFAULT})")
    made.add_argument("--workdir", metavar="RUN", type=Path, help="run folder (runs/<config>)")
    made.add_argument("-h", "--help", action="store_true", help="print this and the fields of the config")
    made.set_defaults(verb=verb)
    return made


def parse(options: Parser, argv: Sequence[str] | None, default_section: str = "") -> Command | None:
    """Return the command of `argv` (the process's own where None), or None where it asked for help.

    Where no config is named, that of the run folder is taken, if there is one. `default_section` is where earlier
    spellings such as `--electrons X` are found. Raises BadInput for whatever is wrong.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    argv, assignments = split_fields(argv)
    known, rest = options.parse_known_args(argv)
    file = DEFAULT if known.config is None else known.config
    if known.config is None and known.workdir is not None and (known.workdir / "config.json").exists():
        file = str(known.workdir / "config.json")
    elif known.config is None and known.workdir is not None and known.verb != "train":
        beside = [path.parent.name for path in known.workdir.absolute().parent.glob("*/config.json")]
        raise BadInput(f"{known.workdir}: not a run folder, no config.json{nearest(known.workdir.name, beside)}")
    config, name = load_config(file), config_name(file)
    assignments += earlier_spellings(rest, config, default_section, options)
    for assignment in assignments:
        assign(config, assignment)
    if known.help:
        sections = ("evaluate", "data", "parallel") if known.verb == "evaluate" else ()
        print(options.format_help() + "\n" + help_of_fields(config, sections))
        return None
    return Command(config, name, find_config(file)[0], known.workdir, tuple(assignments), known)


def split_fields(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments without fields of the config, and those as NAME=VALUE.

    A value may follow as the next argument. Of a field that is true or false the name alone means true, with
    --noconfig.FIELD false.
    """
    rest, assignments, index = [], [], 0
    while index < len(argv):
        argument = argv[index]
        index += 1
        if argument.startswith("--noconfig."):
            assignments.append(f"{argument.removeprefix('--noconfig.')}=false")
            continue
        if not argument.startswith(FIELD):
            rest.append(argument)
            continue
        text = argument.removeprefix(FIELD)
        if "=" not in text and index < len(argv) and not argv[index].startswith("--"):
            text, index = f"{text}={argv[index]}", index + 1
        assignments.append(text)
    return rest, assignments


def earlier_spellings(rest: list[str], config: ConfigDict, section: str, options: Parser) -> list[str]:
    """Return as NAME=VALUE what is left, where it is a spelling of earlier versions; a line says the one of today.

    Raises BadInput for anything else, with the nearest option.
    """
    found, index = [], 0
    while index < len(rest):
        option, equals, value = rest[index].partition("=")
        index += 1
        if not option.startswith("--"):
            raise BadInput(f"unknown argument {option!r}: fields are set as --config.train.batch_size=64")
        name = option.removeprefix("--").replace("-", "_")
        if not equals and index < len(rest) and not rest[index].startswith("--"):
            value, equals, index = rest[index], "=", index + 1
        fields = flatten(plain(config))
        if name == "set":
            name, equals, value = value.partition("=")
            name = f"{section}.{name}" if f"{section}.{name}" in fields else name
        elif f"{section}.{name}" in fields:
            name = f"{section}.{name}"
        else:
            flags = [flag for action in options._actions for flag in action.option_strings]
            raise BadInput(f"unknown argument {option!r}{nearest(option, flags)}")
        print(f"note: {option} is now --config.{name}{equals}{value}", file=sys.stderr)
        found.append(f"{name}{equals}{value}")
    return found


def help_of_fields(config: ConfigDict, sections: Sequence[str] = ()) -> str:
    """Return the fields of a config by section, all or those of some: name, type, value and meaning."""
    from jaxhep.detectors import detector_of  # with it come uproot and SciPy, which no other start needs

    meanings = {name: field.meaning for name, field in (COMMON | DATA | detector_of(config).fields).items()}
    lines, section = ["fields, set as --config.NAME=VALUE:"], None
    content = flatten(plain(config))
    content |= {} if any(name.startswith("model.settings.") for name in content) else {"model.settings.NAME": ""}
    meanings |= {name: meanings["model.settings"] for name in content if name.startswith("model.settings.")}
    for name, value in sorted(content.items(), key=lambda item: item[0].partition(".")[0] * ("." in item[0])):
        first = name.partition(".")[0] if "." in name else ""
        if sections and first not in sections:
            continue
        if first != section:
            section = first
            lines.append("")
        shown = "''" if value == "" else f"({', '.join(map(str, value))})" if isinstance(value, list) else str(value)
        kind = "tuple" if isinstance(value, list) else type(value).__name__
        lines.append(f"  {name:<36} {kind:<6} {shown:<22} {meanings.get(name, '')}".rstrip())
    return "\n".join(lines)


def callable_module(name: str, function: Callable[..., Any]) -> None:
    """Let a module of a verb be called as the verb: `jaxhep.train(config)`, whether or not it was imported by name."""

    class Verb(ModuleType):
        __signature__ = inspect.signature(function)

        def __call__(self, *arguments: Any, **named: Any) -> Any:
            return function(*arguments, **named)

    sys.modules[name].__class__ = Verb


def run_main(main: Callable[..., int], huge_pages: bool = False) -> int:
    """Run a verb's command line: errors and signals in one line, with huge pages where they help."""
    with stop.ending():
        return one_line(_run, main, huge_pages)


def _run(main: Callable[[], int], huge_pages: bool) -> int:
    if huge_pages and not {"-h", "--help"} & set(sys.argv):  # a new start costs a second of imports
        with stop.held():
            restart_with_huge_pages()
    return main()


def main() -> int:
    """The command `jaxhep`: a verb and its arguments."""
    return run_main(_main)


def _main() -> int:
    verb = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if verb == "--version":
        print(f"jaxhep {metadata.version('jaxhep')}")
        return 0
    if verb in ("--help", "-h"):
        print("jaxhep VERB [--config NAME] [--config.FIELD=VALUE] [--workdir RUN]; jaxhep VERB --help says more\n")
        for name in VERBS:
            what = (importlib.import_module(f"jaxhep.{name}").__doc__ or "").splitlines()[0].partition(": ")[2]
            print(f"  {name:<10} {what}")
        return 0
    if verb not in VERBS:
        print(f"error: no verb {verb!r}, wanted one of {', '.join(VERBS)}{nearest(verb, VERBS)}", file=sys.stderr)
        return 2
    sys.argv = [f"jaxhep {verb}", *sys.argv[2:]]
    # Before anything heavy is imported, as huge pages want a new start.
    return _run(lambda: importlib.import_module(f"jaxhep.{verb}").main(), verb in ("train", "evaluate"))
