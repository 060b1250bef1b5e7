"""The calorimeter as the verbs see it."""

from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from jaxhep.ams_ecal import evaluation, features, production, samples
from jaxhep.ams_ecal.config import FIELDS
from jaxhep.detector import Detector, Evaluation, Reader, Simulation

if TYPE_CHECKING:
    from jaxhep.task import Task


def task(config: ConfigDict) -> "Task":
    """Return what networks are asked, in JAX."""
    from jaxhep.ams_ecal.task import build

    return build(config)


AMS_ECAL = Detector(
    name="ams_ecal",
    fields=FIELDS,
    files=("electrons", "protons", "files"),
    reader=Reader(
        sources=samples.find_sources,
        selection=samples.build_selection,
        scoring_sources=samples.scoring_sources,
        scoring_selection=samples.scoring_selection,
        open_file=features.open_file,
        describe=features.describe,
        record_dtype=features.record_dtype,
        read_records=features.read_records,
        expected_bytes=features.expected_bytes,
        scaling=features.scaling,
        identity=samples.identity_of,
        facts=samples.manifest_facts,
        name=samples.name_of,
        check_prepared=samples.check_prepared,
        check_splits=samples.check_splits,
    ),
    task=task,
    evaluation=Evaluation(
        heavy=evaluation.HEAVY,
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
