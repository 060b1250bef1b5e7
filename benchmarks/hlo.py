"""The text of a compiled program, taken apart: computations, instructions, types, and what runs how often.

The text is that of `compiled.as_text()`: the program after all of XLA's optimisations.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

BYTES = {"pred": 1, "s4": 0.5, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s64": 8, "u64": 8, "f64": 8}
BYTES |= {"f32": 4, "s32": 4, "u32": 4, "c64": 8, "f8e4m3fn": 1, "f8e5m2": 1}


class Instruction(NamedTuple):
    """One line of a computation: name = type operation(arguments), and all that follows."""

    name: str
    type: str
    operation: str
    arguments: str
    rest: str

    @property
    def operands(self) -> list[str]:
        """Names of the instructions whose results it takes."""
        return re.findall(r"%([\w.\-]+)", self.arguments)

    @property
    def target(self) -> str:
        """What a custom call calls, else nothing."""
        found = re.search(r'custom_call_target="([^"]*)"', self.rest)
        return found[1] if found else ""

    def numbers(self, name: str) -> list[int]:
        """An attribute's list of numbers, as in lhs_contracting_dims={1,2}; empty where it is missing."""
        found = re.search(name + r"=\{([\d,]*)\}", self.rest)
        return [int(value) for value in found[1].split(",") if value] if found else []

    def called(self, *names: str) -> list[str]:
        """The computations that it calls as one of these."""
        found = [name for kind in names for name in re.findall(rf"\b{kind}=%?([\w.\-]+)", self.rest)]
        for group in re.findall(r"branch_computations=\{([^}]*)\}", self.rest):
            found += [name.strip(" %") for name in group.split(",")]
        return found


Computation = dict[str, Instruction]


def computations(text: str) -> tuple[dict[str, Computation], str]:
    """Return all computations of a program by name, and the name of its entry."""
    found: dict[str, Computation] = {}
    entry, name = "", ""
    lines: list[str] = []
    for line in text.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line)
        if head and not line.startswith(("HloModule", "FileNames", "StackFrames")):
            name, lines = head[2], []
            entry = name if head[1] else entry
        elif line == "}" and name:
            parts = filter(None, map(instruction, lines))
            found[name], name = {one.name: one for one in parts}, ""
        elif name and re.match(r"  (ROOT )?%?[\w.\-]+ = ", line):
            lines.append(line.strip())
        elif name and lines:
            lines[-1] += line  # attributes may go over lines
    return found, entry


def instruction(line: str) -> Instruction | None:
    """Return a line taken apart, None where it is no instruction."""
    found = re.match(r"(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)$", line)
    if not found:
        return None
    text, depth, end = found[4], 1, 0
    for end, character in enumerate(text):  # noqa: B007
        depth += (character == "(") - (character == ")")
        if depth == 0:
            break
    return Instruction(found[1], found[2], found[3], text[:end], text[end + 1 :])


def arrays(type: str) -> Iterator[tuple[str, list[int], bool]]:
    """Yield (element type, shape, whether it lies in the device's memory) of each array of a type."""
    for kind, shape, layout in re.findall(r"\b([a-z]+[0-9a-z]*)\[([\d,]*)\](\{[^}]*\})?", type):
        if kind in BYTES:
            # Space 1 and beyond is what a TPU holds on the chip.
            yield kind, [int(size) for size in shape.split(",") if size], not re.search(r"S\([1-9]\)", layout)


def size_of(type: str) -> float:
    """Return the bytes of a type in the device's memory."""
    return sum(BYTES[kind] * math.prod(shape) for kind, shape, outside in arrays(type) if outside)


def size_anywhere(type: str) -> float:
    """Return the bytes of a type wherever it lies."""
    return sum(BYTES[kind] * math.prod(shape) for kind, shape, _ in arrays(type))


def shape_of(type: str) -> tuple[str, list[int]]:
    """Return element type and shape of an array, or of the first of a tuple."""
    kind, shape, _ = next(arrays(type), ("", [], True))
    return kind, shape


def walk(known: dict[str, Computation], name: str, times: float = 1) -> Iterator[tuple[float, str, Instruction]]:
    """Yield (how often, in which computation, what) runs; bodies of loops and calls included, those of fusions not."""
    for one in known.get(name, {}).values():
        yield times, name, one
        if one.operation == "while":
            trips = re.search(r'known_trip_count"?:?\s*\{"?n"?:"?(\d+)', one.rest)
            for body in one.called("body"):
                yield from walk(known, body, times * (int(trips[1]) if trips else 1))
        elif one.operation in ("call", "async-start", "conditional"):
            for body in one.called("to_apply", "calls", "true_computation", "false_computation"):
                yield from walk(known, body, times)


def loops_of_unknown_length(known: dict[str, Computation], entry: str) -> int:
    """Return how many loops do not tell their length: what they run is counted once."""
    return sum(one.operation == "while" and "known_trip_count" not in one.rest for _, _, one in walk(known, entry))
