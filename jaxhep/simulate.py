"""jaxhep simulate: the built-in detector simulation -> files in the experiment's own layout.

    jaxhep simulate --config cvt --out mc/
    jaxhep simulate --config pointnet --out mc/ --config.simulation.format=parquet --config.simulation.annihilations=20000

`train` and `prepare` do the same by themselves where no files are named, so that the default path is the path of
real data. Settings are those of `config.simulation`; the same settings and seed give identical events.
"""

if __name__ == "__main__":  # first of all: the imports below take a second
    from jaxhep import stop

    stop.watch()

import sys
from pathlib import Path

from ml_collections import ConfigDict

from jaxhep import cli
from jaxhep.config import load_config
from jaxhep.simulated import simulation_of, write_files


def simulate(config: ConfigDict | str, out: str | Path, quiet: bool = False) -> dict[str, list[Path]]:
    """Write the simulation of a config, or of the name of one, into the folder `out`; return the files by species.

    Raises BadInput for settings that make no sense, and for a folder with events of other settings.
    """
    config = load_config(config) if isinstance(config, str) else config
    return write_files(simulation_of(config).resolve(config), Path(out), quiet)


def main(argv: list[str] | None = None) -> int:
    """Command line of the verb."""
    options = cli.parser("simulate", __doc__)
    options.add_argument("--out", metavar="FOLDER", help="folder for the files")
    command = cli.parse(options, argv, "simulation")
    if command is None:
        return 0
    if command.options.out is None:
        options.error("simulate wants --out FOLDER")
    for species, files in simulate(command.config, command.options.out).items():
        print(f"{species}: {', '.join(map(str, files)) or 'none'}")
    return 0


cli.callable_module(__name__, simulate)
if __name__ == "__main__":
    sys.exit(cli.run_main(main))
