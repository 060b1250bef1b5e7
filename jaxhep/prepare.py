"""jaxhep prepare: ROOT, HDF5 or Parquet files -> columns on disk with a manifest, read once, shuffled, split by rule.

    jaxhep prepare --config cvt --config.data.electrons='mc/el/*.root' --config.data.protons='mc/pr/*.root'
    jaxhep prepare --config pointnet --config.data.files='mc/*.parquet'

`train` does the same by itself; run it alone where there is no accelerator, and train with config.data.prepared.
A killed run continues; a finished one is found again by what went into it (files, cuts, labels) and reused.
"""

if __name__ == "__main__":  # first of all: the imports below take a second
    from jaxhep import stop

    stop.watch()

import sys
from pathlib import Path

from ml_collections import ConfigDict

from jaxhep import cli
from jaxhep.config import load_config
from jaxhep.prepared import prepare_data


def prepare(config: ConfigDict | str, quiet: bool = False) -> Path:
    """Return the folder with the prepared columns of a config, or of the name of one, making it where it is not there.

    Raises BadInput for anything that cannot be read or leaves a class or split empty.
    """
    return prepare_data(load_config(config) if isinstance(config, str) else config, quiet)


def main(argv: list[str] | None = None) -> int:
    """Command line of the verb."""
    command = cli.parse(cli.parser("prepare", __doc__), argv, "data")
    if command is not None:
        print(prepare(command.config))
    return 0


cli.callable_module(__name__, prepare)
if __name__ == "__main__":
    sys.exit(cli.run_main(main))
