"""Config -> network and the functions of its experiment: the same for training, evaluating and benchmarking."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxhep import steps
from jaxhep.errors import BadInput, nearest
from jaxhep.experiments import part_of
from jaxhep.models import MODELS

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Network(NamedTuple):
    """Everything that steps are made of, for one config and one set of training facts."""

    model: Any  # under pmap with the device axis
    scoring: Any  # the same network outside loops
    init: Callable[[Any], steps.State]  # seed -> state; seeds may be traced
    optimiser: Any
    inputs: Callable
    loss: Callable
    figure: Callable
    finish: Callable
    augment: Callable | None

    def train_step(self, config: Any, schedule: Callable, axis_name: str | None = None) -> Callable:
        """Return the training step, see `steps.make_train_step`."""
        chosen = (self.model, self.optimiser, self.inputs, self.loss, schedule, config.train.average_decay, axis_name)
        return steps.make_train_step(*chosen, self.figure, self.augment, config.train.accumulate)

    def eval_step(self) -> Callable:
        """Return the evaluation step, see `steps.make_eval_step`."""
        return steps.make_eval_step(self.scoring, self.inputs, self.loss, self.figure, self.finish)


def build_network(
    config: Any, scaling: dict[str, float], facts: dict[str, Any], axis_name: str | None = None
) -> Network:
    """Return the network of a config; `scaling` is the manifest's, `facts` are those of its training events."""
    part = part_of(config, "inputs")
    settings = config.train
    optimiser = steps.build_optimiser(settings.weight_decay, settings.clip_norm, settings.flat_optimiser)
    inputs, example, plain_model = part.build_inputs(config, scaling), part.example(config, 1), build_model(config)

    def init(seed) -> steps.State:  # outside pmap's axis
        return steps.init_state(plain_model, optimiser, inputs, example, seed, config.train.average_decay > 0)

    model = build_model(config, axis_name) if axis_name else plain_model
    scoring = build_model(config, axis_name, scoring=True)
    loss, augment = part.build_loss(config, facts), part.build_augment(config)
    return Network(
        model, scoring, init, optimiser, inputs, loss, part.build_figure(config), part.finish(config), augment
    )


def build_model(config: Any, axis_name: str | None = None, scoring: bool = False):
    """Return the network of `config.model`; `axis_name` is the device axis under pmap.

    How convolutions are written, where the config does not say it, follows what runs: several members, or several steps
    per dispatch in training, want a formulation that is quick in loops; one step at a time, or `scoring`, does not.
    Raises BadInput for an unknown network, dtype or argument, with the nearest name.
    """
    name, dtype = config.model.name, config.model.dtype
    networks = part_of(config, "inputs").NETWORKS
    if name not in networks:
        wanted = ", ".join(networks)
        raise BadInput(f"config.model.name is {name!r}, wanted one of {wanted}{nearest(name, networks)}")
    if dtype not in DTYPES:
        raise BadInput(f"config.model.dtype is {dtype!r}, wanted one of {', '.join(DTYPES)}{nearest(dtype, DTYPES)}")
    build: Any = MODELS[name]
    module: Any = build.func if isinstance(build, partial) else build
    known = [field.name for field in fields(module) if field.name not in ("parent", "name")]
    settings = config.model.settings.to_dict()
    for setting in settings:
        if setting not in known:
            raise BadInput(f"config.model.settings.{setting}: no such argument of {name}{nearest(setting, known)}")
    settings |= part_of(config, "inputs").model_arguments(config)
    in_loops = max(config.train.steps_per_dispatch, config.train.accumulate) > 1 and not scoring
    if "formulation" in known:
        settings = {"formulation": "auto" if in_loops or config.ensemble.members > 1 else "one step"} | settings
    settings |= {"axis_name": axis_name} if axis_name and "axis_name" in known else {}
    return build(dtype=DTYPES[dtype], **settings)


def summary(config: Any) -> str:
    """Return the table of the network's parameters.

    Raises BadInput where the network finds, on the shapes of its first input, that its arguments do not fit together.
    """
    from jaxhep import models

    model, shape = build_model(config), (1, *part_of(config, "inputs").input_shape(config))
    try:
        return models.summary(model, shape)
    except ValueError as error:
        raise BadInput(f"config.model.settings of {config.model.name}: {error}") from None


def check(config: Any) -> None:
    """Raise BadInput for an unknown network, dtype or argument of it, and for arguments that do not fit together."""
    build_model(config)
    if config.model.settings:  # the defaults fit
        summary(config)
