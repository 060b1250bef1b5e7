"""One variant of one network in its own process: a line with a number on stdin runs that many dispatches.

Started by `benchmarks.throughput`, one process per variant, so that peak memory belongs to one variant and the thread
pools of JAX and PyTorch do not fight. Replies are JSON lines on stdout: first what was set up, then the seconds taken.
B batch, H layers, W cells, C channels, K steps per dispatch.
"""

import importlib.metadata
import json
import os
import resource
import sys
import time
from typing import Any

import numpy as np

SHAPE = (18, 72, 1)


def showers(batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sparse random energies (B, 18, 72, 1), falling off from one column per event, and labels (B,)."""
    random = np.random.default_rng(seed)
    distance = np.abs(np.arange(72) - random.uniform(10, 62, (batch, 1, 1)))
    energy = random.exponential(10.0, (batch, 18, 72)) * np.exp(-distance / 2)
    return np.where(energy > 0.3, energy, 0)[..., None].astype(np.float32), (np.arange(batch) % 2).astype(np.float32)


def version(package: str) -> str:
    """Installed version of a package, or nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def prepare_jax(cell: dict):
    """Compile the cell in JAX: what was set up, a function that runs n dispatches, and one giving peak bytes."""
    # Taking memory as it is needed leaves room for the PyTorch process on the same GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    import jax
    import jax.numpy as jnp
    import optax

    from jaxhep import steps
    from jaxhep.models import MODELS

    options = {"attention_chunk": cell["attention_chunk"]} if cell.get("attention_chunk") else {}
    build: Any = MODELS[cell["model"]]
    model = build(dtype=jnp.dtype(cell["dtype"]), formulation=cell["formulation"], **options)
    images, labels = showers(cell["batch"])
    batch = {"image": jnp.asarray(images), "label": jnp.asarray(labels)}
    optimiser = steps.build_optimiser()

    def inputs(batch):
        return batch["image"]

    def loss(logits, batch):
        return optax.sigmoid_binary_cross_entropy(logits, batch["label"])

    state = jax.jit(lambda batch: steps.init_state(model, optimiser, inputs, batch, 0))(batch)
    count = cell["steps_per_dispatch"]
    if cell["mode"] == "train":
        step = steps.make_train_step(model, optimiser, inputs, loss, lambda step: jnp.float32(1e-4))
        if count > 1:
            step = steps.scan_steps(step)
            batch = jax.tree.map(lambda array: jnp.stack([array] * count), batch)
        jitted = jax.jit(step, donate_argnums=0)
    else:
        jitted = jax.jit(
            lambda state, batch: model.apply(
                {"params": state.params, "batch_stats": state.batch_stats}, inputs(batch), train=False
            )
        )
    start = time.perf_counter()
    compiled = jitted.lower(state, batch).compile()
    seconds = time.perf_counter() - start

    def run(dispatches: int):
        nonlocal state
        for _ in range(dispatches):
            out = compiled(state, batch)
            if cell["mode"] == "train":
                state, out = out
        jax.block_until_ready(out)

    device = jax.devices()[0]

    def peak_bytes() -> int:
        return (device.memory_stats() or {}).get("peak_bytes_in_use", 0) if device.platform != "cpu" else 0

    setup = {
        "device": f"{device.platform} {device.device_kind}",
        "jax": jax.__version__,
        "flax": version("flax"),
    }
    return {**setup, "compile_s": seconds}, run, peak_bytes


def prepare_torch(cell: dict):
    """The same for the PyTorch baseline."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    from benchmarks.pytorch_baseline import MODELS

    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    memory_format = torch.channels_last if cell["channels_last"] else torch.contiguous_format
    build: Any = MODELS[cell["model"]]
    model = build().to(device, memory_format=memory_format)
    model.train(cell["mode"] == "train")
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True if on_gpu else None)
    images, labels = showers(cell["batch"])
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device, memory_format=memory_format)
    y = torch.from_numpy(labels).to(device)
    forward = torch.compile(model, mode=cell["compile_mode"]) if cell["compile_mode"] else model
    half = torch.autocast(device.type, torch.bfloat16, enabled=cell["dtype"] == "bfloat16")

    def train_once():
        optimiser.zero_grad(set_to_none=True)
        with half:
            logits = forward(x)
        binary_cross_entropy_with_logits(logits.float(), y).backward()
        optimiser.step()

    def infer_once():
        with torch.inference_mode(), half:
            forward(x)

    once = train_once if cell["mode"] == "train" else infer_once

    def run(dispatches: int):
        for _ in range(dispatches):
            once()
        if on_gpu:
            torch.cuda.synchronize()

    def peak_bytes() -> int:
        return torch.cuda.max_memory_allocated() if on_gpu else 0

    start = time.perf_counter()
    run(1)  # compiles on the first call, where it compiles at all
    seconds = time.perf_counter() - start if cell["compile_mode"] else 0.0
    name = f"gpu {torch.cuda.get_device_name()}" if on_gpu else f"cpu {torch.get_num_threads()} threads"
    return {"device": name, "torch": torch.__version__, "compile_s": seconds}, run, peak_bytes


def serve() -> None:
    """Set up the cell given as JSON in the first argument, then answer requests until stdin closes."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to stderr, not between the replies

    def reply(**values):
        print(json.dumps(values), file=replies, flush=True)

    cell = json.loads(sys.argv[1])
    try:
        setup, run, peak_bytes = {"jax": prepare_jax, "torch": prepare_torch}[cell["framework"]](cell)
        run(1)
        start = time.perf_counter()
        run(1)
        reply(**setup, dispatch_s=time.perf_counter() - start)
        for line in sys.stdin:
            start = time.perf_counter()
            run(int(line))
            seconds = time.perf_counter() - start
            # On Linux the high-water mark of resident memory is in KiB.
            peak = peak_bytes() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            reply(seconds=seconds, peak_bytes=peak)
    except Exception as error:  # any failure of a variant is a result: the driver records it as skipped
        text = " ".join(str(error).split())[:200]
        reply(failed=f"{type(error).__name__}: {text}")


if __name__ == "__main__":
    serve()
