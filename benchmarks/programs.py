"""Programs and numbers of every config, kept in a file, so that a refactor can be shown to change nothing.

    python -m benchmarks.programs --out before.json
    python -m benchmarks.programs --against before.json

Of every config in both types: a hash of the StableHLO of its training and scoring step, for a CPU and for accelerators
(smoke size; for a CPU also at laptop size), of what is computed, not of names or the order of operations; and, at smoke size, what ten training steps and a scoring give. The second
command makes all of it again and prints what differs; its exit status is 1 where numbers differ by more than rounding.
Events are made up; nothing is read or simulated.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxhep import session, steps
from jaxhep.config import load_config
from jaxhep.detectors import detector_of
from jaxhep.errors import one_line

CONFIGS = (
    *("mlp", "cnn", "resnet10", "resnet18", "cvt", "cvt_2ch", "phys_cvt", "phys_cvt_small"),
    *("pointnet", "pointnet_uncertainty", "pointnet_xyz", "pointnet_zshift", "pear"),
)
DTYPES = ("float32", "bfloat16")
PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}  # as JAX's devices call them, and as its lowering does
STEPS = 10
TOLERANCE = {"float32": 2e-5, "bfloat16": 2e-2}  # relative, of numbers whose programs differ


def made_up(example: dict[str, jax.Array], seed: int) -> dict[str, np.ndarray]:
    """Return a batch of these shapes and types: sparse cells, spacepoints all over the detector, both labels."""
    random, batch = np.random.default_rng(seed), {}
    for name, like in example.items():
        values: np.ndarray = random.normal(size=like.shape)
        if name == "cells":
            values = np.where(random.random(like.shape) < 0.1, 4096 * np.abs(values) * 3, 0)
        elif name == "points":
            values = 9000 * values.clip(-3, 3)
        elif name == "label":
            values = values > 0
        elif name == "count":
            values = random.integers(3, example["points"].shape[1] + 1, like.shape)
        elif name == "vertex":
            values = 300 * values
        batch[name] = np.asarray(values).astype(like.dtype)
    return batch


def parts_of(config: ConfigDict, platform: str) -> tuple[Callable, Callable, Callable, dict[str, jax.Array]]:
    """Return seed -> state, training step, scoring step and an example of a batch."""
    task = detector_of(config).task(config)
    network = session.build_network(config, task, {"scaling": {"log_cell_mean": 2.3}, "electron_weight": 1.7}, platform)
    train_step = network.train_step(lambda step: jnp.float32(1e-3))
    return network.init, train_step, network.score_step, task.example(config.train.batch_size)


def programs(config: ConfigDict, platform: str, filled: bool) -> tuple[Callable, Callable, tuple, tuple]:
    """Return a dispatch of training and a scoring as functions of arrays alone, and their arguments.

    The state is made where it is to be `filled`, else it has shapes alone. Results are tuples in an order of their own,
    so that names of fields are no part of the programs.
    """
    init, train_step, score_step, example = parts_of(config, platform)
    count = min(config.train.steps_per_dispatch, 3)
    state = jax.jit(init)(0) if filled else jax.eval_shape(init, 0)
    batch = made_up(example, 0)
    scored = batch | {"weight": np.ones(len(batch["label"]), np.float32)}

    def train(state, batches):
        state, metrics = steps.scan_steps(train_step)(state, batches)
        return tuple(jax.tree.leaves(state)), tuple(metrics[name] for name in ("loss", "gradient_norm", "metric"))

    def score(state, batch):
        found = score_step(state, batch)
        return tuple(found[name] for name in ("loss", "metric", "weight", "outputs"))

    many = {name: np.stack([values] * count) for name, values in batch.items()}
    return train, score, (state, many), (state, scored)


def digest(function: Callable, arguments: tuple, platform: str) -> str:
    """Return a hash of the StableHLO for a platform, or why there is none."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), arguments)
    try:
        lowered = jax.jit(function).trace(*shapes).lower(lowering_platforms=(PLATFORMS[platform],))
    except (NotImplementedError, RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    module = lowered.compiler_ir("stablehlo")
    functions = {str(op.attributes["sym_name"]): op for op in module.body.operations}
    return hash_of_function('"main"', functions, {})


def hash_of_function(name: str, functions: dict[str, Any], known: dict[str, str]) -> str:
    """Return a hash of what a function computes: of its result as an expression of its arguments.

    The order of independent operations, operations without use and the names of functions are no part of it.
    """
    if name not in known:
        known[name] = hash_of_region(functions[name].regions[0], {}, 0, functions, known)
    return known[name]


def hash_of_region(
    region: Any, outer: dict[Any, str], depth: int, functions: dict[str, Any], known: dict[str, str]
) -> str:
    """Return a hash of what a region's block returns; `outer` are the hashes of the values around it."""
    (block,) = region.blocks
    values = dict(outer)
    for number, argument in enumerate(block.arguments):
        values[argument] = text_hash("argument", str(depth), str(number), str(argument.type))
    for op in block.operations:
        parts = [op.operation.name, *(values[operand] for operand in op.operands)]
        for name in sorted(op.attributes):
            text = str(op.attributes[name])
            if name == "callee":
                text = hash_of_function(text.replace("@", '"') + '"', functions, known)
            parts += [name, text]
        parts += [hash_of_region(inner, values, depth + 1, functions, known) for inner in op.regions]
        for number, result in enumerate(op.results):
            values[result] = text_hash(*parts, str(number), str(result.type))
    return text_hash(*parts)


def text_hash(*parts: str) -> str:
    """Return a short hash of texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def numbers(train: Callable, score: Callable, of_train: tuple, of_score: tuple) -> dict[str, list[float]]:
    """Return loss, gradient norm and followed metric of ten training steps, and the scores before and after them."""
    (state, batches), (_, scored) = of_train, of_score
    leaves, tree = jax.tree.flatten(state)
    run, judge = jax.jit(train), jax.jit(score)
    found: dict[str, list[float]] = {
        "scores": flat(judge(state, scored)),
        "losses": [],
        "gradient_norms": [],
        "metrics": [],
    }
    for number in range(STEPS):
        batch = {name: np.roll(values, number, axis=1) for name, values in batches.items()}
        leaves, metrics = run(jax.tree.unflatten(tree, leaves), batch)
        for name, values in zip(("losses", "gradient_norms", "metrics"), metrics, strict=True):
            found[name] += flat(values)
    found["parameters"] = [float(jnp.sqrt(jnp.sum(jnp.square(leaf.astype(jnp.float32))))) for leaf in leaves]
    return found | {"scores_after": flat(judge(jax.tree.unflatten(tree, leaves), scored))}


def flat(values: Any) -> list[float]:
    """Return arrays of any shapes as one list."""
    return [float(value) for array in jax.tree.leaves(values) for value in np.asarray(array, np.float64).ravel()]


def record(name: str, dtype: str, platforms: list[str]) -> dict[str, Any]:
    """Return what is kept of one config in one type."""
    row: dict[str, Any] = {}
    for variant in ("smoke", ""):
        config = load_config(f"configs/{name}.py:{variant}" if variant else f"configs/{name}.py")
        config.model.dtype = dtype
        for platform in platforms if variant else ["cpu"]:
            train, score, of_train, of_score = programs(config, platform, filled=False)
            size = variant or "laptop"
            row[f"train, {size}, {platform}"] = digest(train, of_train, platform)
            row[f"score, {size}, {platform}"] = digest(score, of_score, platform)
        if variant:
            row["numbers"] = numbers(*programs(config, "cpu", filled=True))
    return row


def differences(name: str, dtype: str, before: dict[str, Any], after: dict[str, Any]) -> list[tuple[bool, str]]:
    """Return (whether it matters, what) for everything that differs between two records of one config."""
    found = []
    for key in after:
        if key != "numbers" and before.get(key) != after[key]:
            found.append((False, f"{name}, {dtype}: {key}: program was {before.get(key)}, is {after[key]}"))
    for key in before["numbers"]:
        old, new = (np.array(row["numbers"].get(key, [])) for row in (before, after))
        if old.shape != new.shape:
            found.append((True, f"{name}, {dtype}: {key}: {old.shape} numbers were there, now {new.shape}"))
        elif not np.array_equal(old, new):
            unequal, scale = old != new, np.abs(old[np.isfinite(old)]).max()
            worst = float(np.abs(old[unequal] - new[unequal]).max() / scale)
            found.append((worst > TOLERANCE[dtype], f"{name}, {dtype}: {key} differ by {worst:.2g} of {scale:.3g}"))
    return found


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", default=",".join(CONFIGS), help="names, separated by commas")
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--platforms", default=",".join(PLATFORMS))
    parser.add_argument("--out", type=Path, help="file to write")
    parser.add_argument("--against", type=Path, help="file to compare with")
    arguments = parser.parse_args(argv)
    before = json.loads(arguments.against.read_text()) if arguments.against else {}
    after, worst = {}, 0
    for name in arguments.configs.split(","):
        for dtype in arguments.dtypes.split(","):
            key = f"{name}, {dtype}"
            after[key] = record(name, dtype, arguments.platforms.split(","))
            if key in before:
                found, programs_made = differences(name, dtype, before[key], after[key]), len(after[key]) - 1
                changed = sum(": program was " in text for _, text in found)
                print(f"{key}: {programs_made - changed} of {programs_made} programs identical", flush=True)
                for matters, text in found:
                    print(f"  {'DIFFERS: ' if matters else ''}{text}", flush=True)
                    worst |= matters
            else:
                print(f"{key}: recorded", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(after, indent=1) + "\n")
    return worst


if __name__ == "__main__":
    sys.exit(one_line(main))
