"""The detectors: the one table in which the verbs look them up."""

import importlib

from ml_collections import ConfigDict

from jaxhep.alpha_g.detector import ALPHA_G
from jaxhep.ams_ecal.detector import AMS_ECAL
from jaxhep.detector import Detector
from jaxhep.errors import BadInput, nearest

DETECTORS = {detector.name: detector for detector in (AMS_ECAL, ALPHA_G)}


def detector_of(config: ConfigDict) -> Detector:
    """Return the detector that config.experiment names. Raises BadInput for one that is not there."""
    return find_detector(config.experiment)


def find_detector(name: str) -> Detector:
    """Return a detector: one of the table, or `module:NAME` of your own. Raises BadInput for one that is not there."""
    if name in DETECTORS:
        return DETECTORS[name]
    module, colon, value = name.partition(":")
    if not colon:
        known = ", ".join(DETECTORS)
        raise BadInput(
            f"config.experiment is {name!r}, wanted one of {known}, or module:NAME of your own{nearest(name, DETECTORS)}"
        )
    try:
        found = getattr(importlib.import_module(module), value)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise BadInput(f"config.experiment is {name!r}: {error}") from None
    if not isinstance(found, Detector):
        raise BadInput(f"config.experiment is {name!r}, a {type(found).__name__}, wanted a jaxhep.detector.Detector")
    return found
