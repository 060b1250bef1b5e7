"""What a cell of the throughput benchmark is in PyTorch: the program that is timed."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, huber_loss

from benchmarks.events import events_of
from benchmarks.process import Program, dispatched
from benchmarks.pytorch_baseline import MODELS


def capture(once: Callable[[], None], warm_ups: int = 4) -> Callable[[], None]:
    """Record `once` in a CUDA graph; return a function that plays it again, all its kernels in one launch."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(warm_ups):
            once()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        once()
    return graph.replay


def set_up(cell: dict) -> Program:
    """Set a cell up; a compiled one is compiled by its first call."""
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    torch.set_float32_matmul_precision("high")  # TF32
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    of_points, captured = cell["model"] == "pointnet", cell.get("captured", False)
    # For points "channels last" means rows of points, a layout of the network rather than of the tensor.
    memory_format = torch.channels_last if cell["channels_last"] and not of_points else torch.contiguous_format
    build: Any = MODELS[cell["model"]]
    model = build(**({"rows": cell["channels_last"]} if of_points else {})).to(device, memory_format=memory_format)
    model.train(cell["mode"] == "train")
    # On CPUs as well, a fused Adam takes all parameters at once.
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True, capturable=captured)
    made = events_of(cell, cell["batch"])
    images = made["image"] if of_points else made["image"].transpose(0, 3, 1, 2).copy()
    x = torch.from_numpy(images).to(device, memory_format=memory_format)
    y = torch.from_numpy(made["label"]).to(device)
    forward = torch.compile(model, mode=cell["compile_mode"]) if cell["compile_mode"] else model
    # Casts of the weights must not be kept between the calls that are recorded.
    half = torch.autocast(device.type, torch.bfloat16, enabled=cell["dtype"] == "bfloat16", cache_enabled=not captured)
    loss = huber_loss if of_points else binary_cross_entropy_with_logits

    def train_once() -> None:
        optimiser.zero_grad(set_to_none=True)
        with half:
            outputs = forward(x)
        loss(outputs.float(), y).backward()
        optimiser.step()

    def infer_once() -> None:
        with torch.inference_mode(not captured), torch.no_grad(), half:
            forward(x)

    once = train_once if cell["mode"] == "train" else infer_once
    in_graphs = on_gpu and cell["compile_mode"] in ("reduce-overhead", "max-autotune")

    def run(dispatches: int) -> None:
        for _ in range(dispatches):
            if in_graphs:
                torch.compiler.cudagraph_mark_step_begin()
            once()
        if on_gpu:
            torch.cuda.synchronize()

    start = time.perf_counter()
    if captured:
        once = capture(once)
    run(1)  # compiles on the first call, where it compiles at all
    seconds = time.perf_counter() - start if cell["compile_mode"] or captured else 0.0
    name = f"gpu {torch.cuda.get_device_name()}" if on_gpu else f"cpu {torch.get_num_threads()} threads"
    facts = {"device": name, "devices": 1, "torch": torch.__version__, "cuda": torch.version.cuda or ""}
    peak_bytes = torch.cuda.max_memory_allocated if on_gpu else lambda: 0
    release = torch.cuda.empty_cache if on_gpu else lambda: None
    return dispatched({**facts, "compile_s": seconds}, run, cell["batch"], not on_gpu, peak_bytes, release)
