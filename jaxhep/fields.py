"""Fields of a configuration: name, default and meaning in one table, from which configs and the help are made.

Those here are of every experiment: how a network is trained, on what, and in how many copies. A detector adds its own.
"""

import math
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from jaxhep.errors import BadInput

VARIANTS = ("", "smoke", "paper")


class Field(NamedTuple):
    """Default and meaning of a field, and what it may be; the type is that of the default."""

    default: Any
    meaning: str
    least: float | None = None
    most: float | None = None


Fields = dict[str, Field]  # by dotted name

COMMON: Fields = {
    "experiment": Field("", "detector: ams_ecal, alpha_g, or module:NAME of one of your own"),
    "seed": Field(0, "of initial parameters, order of the data, dropout and augmentation", 0),
    "model.name": Field("", "network"),
    "model.dtype": Field("float32", "of products: float32 or bfloat16; parameters are float32"),
    "model.settings": Field({}, "arguments of the network, as --config.model.settings.width=32"),
    "train.batch_size": Field(128, "events of a step, all devices together", 1),
    "train.accumulate": Field(
        1, "parts of a batch computed one after the other, for less memory; BatchNorm sees each alone", 1
    ),
    "train.recompute": Field(
        "nothing", "for gradients, to save memory: nothing, elementwise (all but products) or all"
    ),
    "train.kernels": Field(
        "auto", "auto: what is fastest on the platform, kernels of our own too; xla: none but XLA's and the vendors'"
    ),
    "train.epochs": Field(20, "at most", 1),
    "train.max_steps": Field(0, "at most; 0: epochs decide", 0),
    "train.learning_rate": Field(1e-4, "of Adam, before schedule and warm-up", 0),
    "train.schedule": Field("constant", "of the learning rate: constant, cosine to zero over all epochs, or plateau"),
    "train.warmup_steps": Field(0, "steps of a linear rise at the start", 0),
    "train.plateau_patience": Field(5, "epochs without improvement before the plateau schedule acts", 1),
    "train.plateau_factor": Field(0.5, "what it multiplies the learning rate with", 0, 1),
    "train.clip_norm": Field(0.0, "largest global norm of the gradients; 0: no clipping", 0),
    "train.weight_decay": Field(0.0, "decoupled (AdamW)", 0),
    "train.flat_optimiser": Field(
        False, "Adam over all parameters as one vector: one kernel instead of one for each array"
    ),
    "train.average_decay": Field(0.0, "of the moving average of the parameters that is scored; 0: none", 0, 1),
    "train.patience": Field(20, "epochs without improvement before training stops; 0: never", 0),
    "train.tolerance": Field(1e-5, "smallest fall of the validation loss that counts as improvement", 0),
    "train.order": Field("random", "random over the split, or block: 256 events at a time, for cold or remote disks"),
    "train.steps_per_dispatch": Field(1, "steps compiled into one call: launches cost less for small networks", 1),
    "train.checkpoint_seconds": Field(600.0, "between checkpoints inside an epoch", 0),
    "ensemble.members": Field(1, "networks trained together as one stacked state, member m with seed + m", 1),
    "ensemble.group": Field(0, "members computed at a time; 0: all, fewer take less memory", 0),
    "parallel.kind": Field("jit", "jit over a device mesh, or pmap"),
    "parallel.devices": Field(0, "local devices to use; 0: all", 0),
    "parallel.batch_norm": Field(
        "global", "BatchNorm's statistics: global, of the batch of all devices, or device, of each alone (by pmap)"
    ),
    "parallel.data": Field("auto", "where training columns are: device, host; auto: on an accelerator that they fit"),
    "parallel.data_gb": Field(40.0, "the most they may take there, all devices together", 0),
    "evaluate.batch_size": Field(256, "events scored at a time", 1),
    "evaluate.confidence": Field(0.95, "of intervals and limits", 0.01, 0.9999),
}
DATA: Fields = {
    "data.prepared": Field("", "a folder that prepare made, used as it is: the files need not be there"),
    "data.skip_bad": Field(False, "leave out files that cannot be read (named in the manifest) instead of stopping"),
    "data.folder": Field("runs/prepared", "prepared data sets are kept and found again here"),
    "data.limit.train": Field(0, "most training events of each class; 0: all", 0),
    "data.limit.validation": Field(0, "most validation events of each class; 0: all", 0),
    "data.limit.test": Field(0, "most test events of each class; 0: all", 0),
}


def build(experiment: str, *tables: Fields) -> ConfigDict:
    """Return a configuration with the common fields and those of the tables, which may change common defaults."""
    config = ConfigDict()
    for name, field in {key: value for table in (COMMON, DATA, *tables) for key, value in table.items()}.items():
        *path, last = name.split(".")
        section = config
        for part in path:
            if part not in section:
                section[part] = ConfigDict()
            section = section[part]
        section[last] = ConfigDict() if field.default == {} else field.default
    config.experiment = experiment
    config.lock()  # a field that is not there is an error in the file of a config too
    config.model.settings.unlock()  # only the network knows its arguments
    return config


def check_variant(variant: str) -> None:
    """Raise ValueError for a variant that shipped configs do not have."""
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r}, wanted smoke, paper or none")


def check_ranges(config: ConfigDict, fields: Fields) -> None:
    """Raise BadInput for a number that is not finite, or outside what its field may be."""
    for name, field in (COMMON | DATA | fields).items():
        value: Any = config
        for part in name.split("."):
            if part not in value:
                raise BadInput(f"config.{name} is missing: this config was made by another version")
            value = value[part]
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, int | float):
                continue
            low, high = field.least, field.most
            if not math.isfinite(number) or (low is not None and number < low) or (high is not None and number > high):
                least, most = ("" if end is None else f"{end:g}" for end in (low, high))
                wanted = f"{least} to {most}" if most else f"at least {least}" if least else "a finite number"
                raise BadInput(f"config.{name} is {number:g}, wanted {wanted}")
