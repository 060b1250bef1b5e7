"""Training and inference of the PyTorch networks, counted: kernels, bytes and operations of one eager step, and bounds.

    python -m benchmarks.aten --models all --batch 128,1024,8192 --dtype bfloat16,float32 --targets h100,h200 --out FILE
    python -m benchmarks.aten --out FILE --beside COMPILED --readme benchmarks/README.md

Nothing is run: every aten operation of a step is seen on tensors without memory, and its CUDA kernels are counted by the
table in `aten_kernels.py`. The step is that of `cells_torch.py`: channels last, bfloat16 by autocast, float32 with TF32,
fused Adam. Each program has two rows: "eager", and "fused", where pointwise operations cost no pass of their own (see
`fuse`). `torch.compile` lies between the two, or near the second. COMPILED holds rows of `benchmarks.compiled`: JAX beside it.
"""

import argparse
import itertools
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import targets
from benchmarks.cells_compiled import counted
from benchmarks.compiled_report import plain
from benchmarks.launches import Launch
from benchmarks.machine import stamp, version
from benchmarks.operations import MODELS
from benchmarks.process import command
from benchmarks.rows import add_rows, read_rows
from jaxhep.errors import BadInput, one_of

if TYPE_CHECKING:
    from benchmarks.aten_kernels import Kernel, Span

BEGIN, END = "<!-- aten:begin -->", "<!-- aten:end -->"
PROGRAM = ("target", "model", "mode", "batch", "dtype")
ALONE = {"devices": 1, "members": 1, "steps_per_dispatch": 1}
KEPT = 12  # costs of a row: those of most time
FORMS = ("eager", "fused")
HEAD = (
    "| target | network | mode | batch | type | GFLOP | kernels | GB | bound, ms | events/s at best |",
    " JAX compiled: kernels | GB | events/s at best | JAX / PyTorch |",
)


def fuse(kernels: "Iterable[Kernel]", kept: set[int]) -> "list[Kernel]":
    """Return the kernels with pointwise ones joined to what they follow.

    A pointwise operation joins the last kernel, of those that give it its operands, if that one is of the same phase of
    the step and gives it an operand of its own size; otherwise it begins a kernel. What a kernel computes and no other
    kernel reads is not written, unless it is `kept`; what it needs of others it reads once. So a value is written only for
    an operation that is not pointwise, for a later phase (saved for the backward pass), for a second branch, or as a result.
    """
    groups: list[list[Kernel]] = []
    maker: dict[int, int] = {}
    readers: dict[int, set[int]] = {}
    for kernel in kernels:
        last = max((maker.get(span.value, -1) for span in kernel.reads), default=-1)
        fits = any(maker.get(span.value, -1) == last and span.elements >= kernel.joins for span in kernel.reads)
        if not (kernel.joins and last >= 0 and fits and groups[last][0].phase == kernel.phase):
            last = len(groups)
            groups.append([])
        groups[last].append(kernel)
        for span in kernel.reads:
            readers.setdefault(span.value, set()).add(last)
        maker |= {span.value: last for span in kernel.writes}
    return [joined(group, place, readers, kept) for place, group in enumerate(groups)]


def joined(group: "list[Kernel]", place: int, readers: dict[int, set[int]], kept: set[int]) -> "Kernel":
    """Return a group of kernels as one."""
    own = {span.value for kernel in group for span in kernel.writes}
    reads: dict[tuple, Span] = {}
    for span in (span for kernel in group for span in kernel.reads if span.value not in own):
        part = (span.value, span.place[0])  # one read serves all views of a part
        if part not in reads or reads[part].bytes < span.bytes:
            reads[part] = span
    writes = [span for kernel in group for span in kernel.writes]
    needed = [span for span in writes if span.value in kept or readers.get(span.value, set()) != {place}]
    names = " + ".join(dict.fromkeys(kernel.name for kernel in group))
    scratch = sum(kernel.scratch for kernel in group)
    return group[0]._replace(name=names, reads=tuple(reads.values()), writes=tuple(needed), scratch=scratch)


def launches_of(kernels: "Iterable[Kernel]") -> list[Launch]:
    """Return kernels as what the bounds take; the phase and the operations stand for the layer."""
    return [Launch(one.name, one.kind, f"{one.phase}/{one.name}", "", 1, one.bytes, one.flops, 0, 0) for one in kernels]


def rows_of(cell: dict, names: list[str]) -> list[dict]:
    """Return the rows of a program, eager and fused, for each target.

    cell: model, mode ("train" or "infer"), batch, dtype ("float32" or "bfloat16"), points.
    """
    from benchmarks.aten_steps import counted_step

    start = time.perf_counter()
    counter, kept = counted_step(cell)
    forms = dict(zip(FORMS, (launches_of(counter.eager), launches_of(fuse(counter.fusible, kept))), strict=True))
    facts = {"kind": "counted", "how": "counted, not run", "framework": "torch", **cell, **ALONE, "channels_last": True}
    facts |= {"count_s": time.perf_counter() - start, "aten_operations": len(counter.operations)}
    facts |= stamp() | {"torch": version("torch")}
    found = []
    for name, (form, launches) in itertools.product(names, forms.items()):
        sums = counted(launches, targets.TARGETS[name])
        row = {**facts, "target": name, "variant": form, **sums}
        row["costs"] = dict(itertools.islice(sums["costs"].items(), KEPT))
        found.append(row | {"events_per_s": cell["batch"] / row["bound_s"]})
    return found


def by_program(rows: list[dict]) -> dict[tuple, dict[str, dict]]:
    """Return the newest rows of each program by variant; those of JAX have none and are under "jax"."""
    found: dict[tuple, dict[str, dict]] = {}
    for row in rows:
        if "bound_s" in row:
            found.setdefault(tuple(row[name] for name in PROGRAM), {})[row.get("variant", "jax")] = row
    return found


def gigabytes(count: float) -> str:
    """Return bytes as text in GB, with three digits."""
    return f"{count / 1e9:,.3g}" if count < 999.5e9 else f"{count / 1e9:,.0f}"


def line_of(forms: dict[str, dict], beside: dict | None, wide: bool) -> str:
    """Return a program as a line of the table: eager / fused, and JAX, if it is to stand there."""

    def pair(name: str, scale: float, digits: str) -> str:
        return " / ".join(format(forms[form][name] / scale, digits) for form in FORMS)

    row = forms["eager"]
    values = [row["target"], row["model"], row["mode"], f"{row['batch']:,}", row["dtype"], f"{row['flops'] / 1e9:,.1f}"]
    values += [
        pair("kernels", 1, ",.0f"),
        " / ".join(gigabytes(forms[form]["bytes"]) for form in FORMS),
        pair("bound_s", 1e-3, ",.3f"),
    ]
    values += [pair("events_per_s", 1, ",.0f")]
    if wide and beside:
        ratios = " / ".join(f"{beside['events_per_s'] / forms[form]['events_per_s']:.2f}" for form in FORMS)
        values += [
            f"{beside['kernels']:,.0f}",
            gigabytes(beside["bytes"]),
            f"{beside['events_per_s']:,.0f}",
            ratios,
        ]
    elif wide:
        values += ["-"] * 4
    return f"| {' | '.join(values)} |"


def table(rows: list[dict], beside: list[dict], wide: bool) -> str:
    """Return the table of all programs in the order of their rows; where `wide`, with JAX's columns."""
    head = "".join(HEAD if wide else HEAD[:1])
    others = by_program(beside)
    lines = [
        line_of(forms, others.get(key, {}).get("jax"), wide)
        for key, forms in by_program(rows).items()
        if set(FORMS) <= set(forms)
    ]
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *lines])


def write(readme: Path, text: str) -> None:
    """Put the table between its marks. Raises BadInput where the file has none."""
    before, begin, rest = readme.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadInput(f"{readme} has no {BEGIN} ... {END}")
    readme.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def top_lines(row: dict, count: int) -> list[str]:
    """Return the costliest operations: share of the bound, MB, launches, kind and operations."""
    return [
        f"    {100 * seconds / row['bound_s']:5.1f} %  {moved / 1e6:9.1f} MB  {number:4.0f} x  {name}"
        for name, (seconds, moved, number) in list(row["costs"].items())[:count]
    ]


def commits_of(rows: list[dict]) -> str:
    """Return the versions of the code that rows come from."""
    return ", ".join(sorted({row["commit"] for row in rows if row.get("commit")}))


def about(rows: list[dict], beside: list[dict]) -> str:
    """Return what the numbers of a table come from."""
    torch = ", ".join(sorted({row["torch"] for row in rows}))
    jax = ", ".join(sorted({row["jax"] for row in beside if row.get("jax")}))
    text = f"Written by `python -m benchmarks.aten`: torch {torch}, commit {commits_of(rows)}"
    text += f"; jax {jax} by `benchmarks.compiled`, commit {commits_of(beside)}" if jax else ""
    how = "PyTorch counted and JAX compiled" if jax else "Counted"
    return f"{text}. {how}, not run. PyTorch: eager / with perfect elementwise fusion.\n\n"


def main(arguments: list[str] | None = None) -> None:
    """Count, add rows, print the table. Raises BadInput for unknown names, or without PyTorch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", default="h100", help="GPUs, of h100, h200")
    parser.add_argument("--models", default="all")
    parser.add_argument("--modes", default="train,infer")
    parser.add_argument("--batch", default="128,1024")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--points", type=int, default=800, help="of an event of the PointNet")
    parser.add_argument("--top", type=int, default=0, metavar="N", help="print the N costliest operations of each")
    parser.add_argument("--out", type=Path, help="file that rows are added to")
    parser.add_argument("--beside", type=Path, help="rows of benchmarks.compiled, for the ratio")
    parser.add_argument("--readme", type=Path, help="file that the table is written into, between its marks")
    options = parser.parse_args(arguments)
    if not version("torch"):
        raise BadInput("PyTorch is not installed: pip install torch")
    models = MODELS if options.models == "all" else options.models.split(",")
    gpus = [name for name, target in targets.TARGETS.items() if target.platform == "gpu"]
    names, modes, dtypes = (text.split(",") for text in (options.targets, options.modes, options.dtype))
    for given, wanted, flag in (
        (models, MODELS, "--models"),
        (names, gpus, "--targets"),
        (modes, ("train", "infer"), "--modes"),
        (dtypes, ("bfloat16", "float32"), "--dtype"),
    ):
        for name in given:
            one_of(name, wanted, flag)
    if options.beside and not options.beside.exists():
        raise BadInput(f"--beside {options.beside} is not there")
    beside = [row for row in read_rows(options.beside) if plain(row)] if options.beside else []
    rows: list[dict] = []
    batches = [int(batch) for batch in options.batch.split(",")]
    for model, mode, batch, dtype in itertools.product(models, modes, batches, dtypes):
        points = options.points if model == "pointnet" else 0
        cell = {"model": model, "mode": mode, "batch": batch, "asked_batch": batch, "dtype": dtype, "points": points}
        found = rows_of(cell, names)
        add_rows(options.out, found)
        rows += found
    print(table(rows, beside, bool(beside)))
    for row in rows if options.top else ():
        print(
            "\n".join(
                [f"{', '.join(str(row[name]) for name in PROGRAM)}, {row['variant']}", *top_lines(row, options.top)]
            )
        )
    if options.readme:
        write(options.readme, about(rows, beside) + table(rows, beside, bool(beside)))


if __name__ == "__main__":
    command(main)
