"""jaxhep: from detector data to a published-quality plot with pure-functional JAX/Flax networks.

    run = jaxhep.train("mlp:smoke")                 # or jaxhep.open_run("runs/mlp")
    run.metrics                                     # what evaluation/metrics.json holds
    scores = run.score(cells=array)                 # NumPy in, NumPy out

`simulate`, `prepare`, `train` and `evaluate` are the verbs of the command line. Nothing heavy is imported before it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxhep.config import load_config
    from jaxhep.errors import BadInput
    from jaxhep.evaluate import evaluate
    from jaxhep.prepare import prepare
    from jaxhep.run import Run, open_run
    from jaxhep.simulate import simulate
    from jaxhep.train import train

__version__ = "0.1.0"
__all__ = ["BadInput", "Run", "evaluate", "load_config", "open_run", "prepare", "simulate", "train"]

_PLACES = {"BadInput": "errors", "Run": "run", "load_config": "config", "open_run": "run"}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"jaxhep.{_PLACES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"jaxhep.{name}")  # a verb: the module is called as the function
    raise AttributeError(f"module 'jaxhep' has no attribute {name!r}")
