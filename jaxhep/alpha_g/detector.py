"""The radial TPC as the verbs see it."""

from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from jaxhep.alpha_g import evaluation, features, production, samples
from jaxhep.alpha_g.config import FIELDS
from jaxhep.detector import Detector, Evaluation, Reader, Simulation

if TYPE_CHECKING:
    from jaxhep.task import Task


def task(config: ConfigDict) -> "Task":
    """Return what networks are asked, in JAX."""
    from jaxhep.alpha_g.task import build

    return build(config)


ALPHA_G = Detector(
    name="alpha_g",
    fields=FIELDS,
    reader=Reader(
        sources=samples.find_sources,
        selection=samples.build_selection,
        scoring_sources=samples.scoring_sources,
        scoring_selection=samples.scoring_selection,
        open_file=features.open_file,
        describe=features.describe,
        complete=features.complete,
        record_dtype=features.record_dtype,
        read_records=features.read_records,
        identity=samples.identity_of,
        facts=samples.manifest_facts,
        check_prepared=samples.check_prepared,
    ),
    task=task,
    evaluation=Evaluation(
        heavy=evaluation.HEAVY,
        other_files=evaluation.other_files,
        check=evaluation.check,
        score_columns=evaluation.score_columns,
        add_references=evaluation.add_references,
        measure=evaluation.measure,
        draw=evaluation.draw,
        report=evaluation.report,
        compare=evaluation.compare,
    ),
    simulation=Simulation(
        species=production.SPECIES,
        bytes_per_event=production.BYTES_PER_EVENT,
        format=production.FORMAT,
        suffix=production.suffix,
        resolve=production.resolve,
        settings=production.build_settings,
        write=production.write,
    ),
)
