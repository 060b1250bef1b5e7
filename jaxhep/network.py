"""Config -> network, its input function and loss: the same for training, evaluating and benchmarking."""

from dataclasses import fields
from functools import partial
from typing import Any

import jax.numpy as jnp

from jaxhep.ams_ecal import inputs as ams_inputs
from jaxhep.ams_ecal.features import SHAPE
from jaxhep.errors import BadInput, nearest
from jaxhep.losses import binary_cross_entropy
from jaxhep.models import MODELS

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def build_model(config: Any, axis_name: str | None = None):
    """Return the network of `config.model`; `axis_name` is the device axis under pmap.

    Raises BadInput for an unknown network, dtype or argument, with the nearest name.
    """
    name, dtype = config.model.name, config.model.dtype
    if name not in MODELS:
        raise BadInput(f"config.model.name is {name!r}, wanted one of {', '.join(MODELS)}{nearest(name, MODELS)}")
    if dtype not in DTYPES:
        raise BadInput(f"config.model.dtype is {dtype!r}, wanted one of {', '.join(DTYPES)}{nearest(dtype, DTYPES)}")
    build: Any = MODELS[name]
    module: Any = build.func if isinstance(build, partial) else build
    known = [field.name for field in fields(module) if field.name not in ("parent", "name")]
    settings = config.model.settings.to_dict()
    for setting in settings:
        if setting not in known:
            raise BadInput(f"config.model.settings.{setting}: no such argument of {name}{nearest(setting, known)}")
    settings |= {"axis_name": axis_name} if axis_name and "axis_name" in known else {}
    return build(dtype=DTYPES[dtype], **settings)


def input_shape(config: Any) -> tuple[int, int, int]:
    """Return layers, cells and channels of the network's input."""
    chosen = config.inputs
    return (
        SHAPE[0],
        chosen.window if chosen.window and chosen.window_mode == "crop" else SHAPE[1],
        chosen.channels,
    )


def build_inputs(config: Any, scaling: dict[str, float]):
    """Return batch -> network input, with the scale that was computed on the training split."""
    chosen = config.inputs
    return ams_inputs.build_inputs(chosen.channels, chosen.window, chosen.window_mode, scaling["log_cell_mean"])


def column_names(config: Any) -> tuple[str, ...]:
    """Return the columns that a batch needs."""
    return ("cells", "label", "track") if config.inputs.window else ("cells", "label")


def example_batch(config: Any, batch_size: int):
    """Return an empty batch, for shapes."""
    return ams_inputs.example(batch_size, bool(config.inputs.window))


def build_loss(electron_weight: float):
    """Return (logits, batch) -> loss per event."""

    def loss(logits, batch):
        return binary_cross_entropy(logits, batch["label"], electron_weight)

    return loss
