"""The experiments, and what each brings: the one place where the verbs choose between them.

An experiment is a folder `jaxhep/<name>/`, one line here and its configs. Its modules, of which the first three speak
NumPy alone, so that preparing and scoring do not start JAX:

- `samples`: which files a config names, and what is kept of them. `find_sources(config, simulated)`,
  `scoring_sources(config, named)`, `build_selection(config)`, `scoring_selection(config, named)`,
  `identity_of(config, selection)`, `name_of(config)`, `manifest_facts(config, selection)`,
  `check_prepared(folder, config)`, `check_splits(folder, config)`.
- `features`: files to records. `open_file(path, selection)`, `describe(selection, files)`,
  `complete(selection, files)`, `record_dtype(selection)`, `read_records(file, label, selection, start)`,
  `expected_bytes(selection, labelled)`, `scaling(records)`.
- `evaluation`: outputs to figures of merit. `check(config)`, `HEAVY` (columns not needed), `score_columns(config, outputs)`,
  `add_references(config, columns, split, folder, quiet)`, `measure(columns, config, facts, manifest, trained)`,
  `draw(metrics, columns, config, out)`, `report(metrics, out)`, `compare(found, folders, same_events, out)`.
- `inputs`: columns to network and loss, in JAX. `NETWORKS` that fit, `check(config)`, `column_names(config)`, `missing(config, columns)`,
  `input_shape(config)`, `example(config, events)`, `model_arguments(config)`, `build_inputs(config, scaling)`,
  `build_augment(config)`, `build_loss(config, facts)`, `build_figure(config)` with its names `FIGURE` and
  `FIGURE_LABEL`, `finish(config)`, `training_facts(config, labels)`, `describe(facts)`.
- `production`: the built-in simulation as files. `SPECIES`, `LEAST`, `BYTES_PER_EVENT`, `FORMAT`, `suffix(config)`,
  `resolve(config)`, `build_settings(config)`, `write(path, config, species, first, events, settings, progress)`.
"""

import importlib
from types import ModuleType
from typing import Any

from jaxhep.errors import BadInput, nearest

EXPERIMENTS = ("ams_ecal", "alpha_g")


def part_of(experiment: Any, part: str) -> ModuleType:
    """Return the module `part` of an experiment, given its name or a config.

    Raises BadInput for an experiment that is not there.
    """
    name = experiment if isinstance(experiment, str) else experiment.experiment
    if name not in EXPERIMENTS:
        raise BadInput(
            f"config.experiment is {name!r}, wanted one of {', '.join(EXPERIMENTS)}{nearest(name, EXPERIMENTS)}"
        )
    return importlib.import_module(f"jaxhep.{name}.{part}")
