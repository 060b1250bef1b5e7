"""The variants of one cell of the throughput benchmark: for each framework a list of dicts of options.

Each has a `variant` name and a `group`. The groups of `rows.MAIN` hold the variants that can be the fastest; the others
say what an option costs or gains.
"""

from benchmarks.rows import MAIN
from jaxhep.errors import BadInput, nearest

SMALL_MODELS = ("mlp", "cnn")  # networks whose steps are short against their dispatch
SMALL_BATCH = 1024  # up to which steps are short on an accelerator
PART = 32  # events of a batch that are computed together where it is taken in parts
GROUPS = (*MAIN, "precision", "plain", "attention", "optimiser", "schedule", "data", "parallel", "ensemble")


def groups_of(text: str) -> tuple[str, ...]:
    """Return the groups meant by "main", "all" or names with commas. Raises BadInput for another name."""
    if text in ("main", "all"):
        return MAIN if text == "main" else GROUPS
    names = tuple(text.split(","))
    for name in names:
        if name not in GROUPS:
            wanted = f"main, all, or some of {', '.join(GROUPS)}{nearest(name, GROUPS)}"
            raise BadInput(f"--variants has {name!r}, wanted {wanted}")
    return names


def variants(
    framework: str, model: str, mode: str, batch: int, platform: str, devices: int = 1, half: bool = True
) -> list[dict]:
    """Return the variants of a cell in one framework.

    platform: cpu, gpu or tpu; devices: how many JAX uses, 0 where that is not known yet; half: whether the processor
    multiplies bfloat16 in hardware.
    """
    if framework == "jax":
        return jax_variants(model, mode, batch, platform, devices, half)
    return torch_variants(model, batch, platform, half)


def jax_variants(model: str, mode: str, batch: int, platform: str, devices: int, half: bool) -> list[dict]:
    """Return those of JAX."""
    accelerator, train = platform != "cpu", mode == "train"
    short = model in SMALL_MODELS or (accelerator and batch <= SMALL_BATCH)
    many = 20 if accelerator or model == "mlp" else 4
    usual = {
        "dtype": "bfloat16" if accelerator else "float32",
        "steps_per_dispatch": 1,
        "formulation": "auto",
        "attention": "auto",
        "data": "device",
        "parallel": "jit",
        "members": 1,
        "flat": False,
        "parts": 1,
        "schedule": "",  # as the package compiles
    }
    rows: list[dict] = []

    def add(group: str, name: str = "", **options) -> None:
        row = usual | options
        if "formulation" not in options and row["steps_per_dispatch"] == row["members"] == row["parts"] == 1:
            row["formulation"] = "one step"  # as the package chooses
        steps = row["steps_per_dispatch"]
        title = f"{row['dtype']}, {steps} step{'s' * (steps > 1)} per dispatch" + f", {name}" * bool(name)
        rows.append({"variant": title, "group": group, **row})

    add("base")
    if short:
        add("base", steps_per_dispatch=many)
    if train and model == "cnn" and not accelerator and batch > PART:
        add("base", f"batch in parts of {PART}", parts=batch // PART)
    if accelerator:
        add("base", dtype="float32")
    else:
        add("base" if half else "precision", dtype="bfloat16")
    if train:
        steps = many if short else 1
        add("base" if accelerator and short else "optimiser", "flat Adam", flat=True, steps_per_dispatch=steps)
    if not accelerator:
        add("schedule", "XLA's usual schedule", schedule="default")
    add("base" if devices != 1 else "parallel", "pmap", parallel="pmap")
    if model == "cvt":
        for kind in ("explicit", "by_head", "fused"):
            add("attention", f"attention {kind}", attention=kind)
    if model != "mlp":
        add("plain", "plain formulation", formulation="plain")
    add("data", "from the host", data="host")
    if train:
        add("data", "gathered on the device", data="gathered", steps_per_dispatch=many if short else 1)
    for members in (4, 16):
        add("ensemble", f"ensemble of {members}", members=members)
    return rows


def torch_variants(model: str, batch: int, platform: str, half: bool) -> list[dict]:
    """Return those of PyTorch."""
    rows: list[dict] = []
    last = model != "mlp"  # without convolutions "channels last" means nothing; PointNet takes rows of points

    def add(group: str, dtype: str, name: str, compiled: str = "", last: bool = last, **options) -> None:
        title = ", ".join([dtype, *["channels last"] * last, name])
        row = {"variant": title, "group": group, "dtype": dtype, "channels_last": last, "compile_mode": compiled}
        rows.append({**row, "steps_per_dispatch": 1, "members": 1, **options})

    if platform == "cpu":
        # Threads that spin while they wait are best on an idle machine, and several times slower on a busy one.
        for passive in (False, True):
            waiting = ", passive waiting" * passive
            if last:
                add("base", "float32", "eager" + waiting, last=False, passive=passive)
            add("base", "float32", "eager" + waiting, passive=passive)
            add("base", "float32", "compiled" + waiting, "default", passive=passive)
        group = "base" if half else "precision"
        add(group, "bfloat16", "eager, passive waiting", passive=True)
        add(group, "bfloat16", "compiled, passive waiting", "default", passive=True)
        return rows
    add("base", "bfloat16", "compiled", "default")
    add("base", "bfloat16", "compiled with CUDA graphs", "reduce-overhead")
    if batch <= SMALL_BATCH:  # where the host's work shows
        add("base", "bfloat16", "compiled, whole step in a CUDA graph", "default", captured=True)
    add("base", "bfloat16", "eager")
    add("base", "float32", "compiled", "default")
    add("autotune", "bfloat16", "compiled, max-autotune", "max-autotune")
    add("precision", "float32", "compiled with CUDA graphs", "reduce-overhead")
    add("precision", "float32", "eager")
    if last:
        add("plain", "bfloat16", "eager", last=False)
    return rows
