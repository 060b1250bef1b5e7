"""The command line of `train`: absl flags and a config file whose fields are flags too, errors in one line."""

import sys
from pathlib import Path

from jaxhep.config import assign, load_config, section_of
from jaxhep.errors import BadInput

DEFAULT = "configs/cvt.py"
FIELD = "--config."


def parse(argv: list[str], description: str):
    """Return the parsed flags of `argv`, or None where it asks for help.

    Raises BadInput, in one line, for a config file or field that is not there and for whatever absl or ml_collections find.
    """
    from absl import flags
    from ml_collections import config_flags

    # Arguments of the network have no flags, since a config names only those that it changes.
    settings = [argument for argument in argv if argument.startswith(f"{FIELD}model.settings.")]
    plain = [argument for argument in argv if argument not in settings]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config",
        DEFAULT,
        "config file, path.py or path.py:variant; fields as --config.name=value",
        flag_values=values,
        sys_argv=[sys.argv[0], *plain],
    )
    flags.DEFINE_string("workdir", "", "run folder (default runs/<config>[-<variant>])", flag_values=values)
    flags.DEFINE_bool("summary", False, "print the parameter table of the network and stop", flag_values=values)
    flags.DEFINE_bool("print_config", False, "print the resolved config and stop", flag_values=values)
    flags.DEFINE_integer(
        "profile", 0, "trace this many dispatches into <workdir>/profile", lower_bound=0, flag_values=values
    )
    flags.DEFINE_bool("help", False, "print this", flag_values=values)
    if any(argument in ("--help", "-h", "-help") for argument in argv):
        print(description + values.get_help() + "\nEvery field of the config is a flag; --print_config lists them.")
        return None
    config = load_config(config_name(argv))
    for argument in plain:
        if argument.startswith(FIELD):
            section_of(config, argument.removeprefix(FIELD).partition("=")[0])
    try:
        rest = values([sys.argv[0], *plain])
        _ = values.config
    except (flags.Error, AttributeError, KeyError, ValueError, TypeError, OSError) as error:
        raise BadInput(f"{' '.join(str(error).split())}") from None
    if len(rest) > 1:
        raise BadInput(f"unknown argument {rest[1]!r}: fields are set as --config.train.batch_size=64")
    for argument in settings:
        assign(values.config, argument.removeprefix(FIELD))
    return values


def config_name(argv: list[str]) -> str:
    """Return the config, path.py or path.py:variant, that the arguments name, or the default one."""
    name = DEFAULT
    for index, argument in enumerate(argv):
        if argument.startswith("--config="):
            name = argument.removeprefix("--config=")
        elif argument == "--config" and index + 1 < len(argv):
            name = argv[index + 1]
    return name


def default_workdir(argv: list[str]) -> str:
    """Return runs/<config>[-<variant>] for the config that the arguments name."""
    file, _, variant = config_name(argv).partition(":")
    return f"runs/{Path(file).stem}{'-' + variant if variant else ''}"
