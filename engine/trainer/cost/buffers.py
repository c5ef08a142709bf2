"""Where the bytes of a compiled program go: the largest buffers that are live at its peak, from XLA's own dump.

In: the folder that ``--xla_dump_to`` filled (with ``--xla_dump_hlo_as_text``) while one program was compiled. Out:
the peak in bytes and :class:`Buffer` rows, largest first.

    peak, buffers = at_peak(Path("dump"))

The CPU, GPU and TPU compilers write the same three texts: how long each value is live, where each is allocated, and the
final program. (Their own list "at the peak" leaves out what loops carry, which in a train step is most of it, so the
peak is computed here.) On-chip memory (a TPU's vmem) is left out. The allocator's peak is a little above the sum: it
puts values of different lifetimes into one slot and leaves gaps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DUMP_FLAGS = "--xla_dump_to={} --xla_dump_hlo_as_text"
LIVE_RANGES, ASSIGNMENT = "-live-range.txt", "-buffer-assignment.txt"

Kind = Literal["argument", "output", "temporary"]

_LIVE = re.compile(r"^    (\S+?\{[\d,]*\}):(\d+)-(\d+)$")
_ALLOCATION = re.compile(r"^allocation (\d+): size \d+, (.*)$")
_VALUE = re.compile(
    r"^ value: <\d+ (?P<name>\S+?)(?P<index>\{[\d,]*\})?(?: \(phi\))? @(?P<color>\d+)> "
    r"\(size=(?P<size>\d+),offset=(?P<offset>\d+)\): (?P<shape>.*)$"
)
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?(\S+) = .*?op_name=\"([^\"]*)\"")


@dataclass(frozen=True, slots=True)
class Buffer:
    """A memory slot at the peak: bytes, the shape of the value in it, the JAX operation that made the value.

    ``kind`` is what the slot was allocated for: the slot of a donated argument holds other values once the argument is
    no longer needed.
    """

    size: int
    shape: str
    kind: Kind
    op: str
    name: str


@dataclass(frozen=True, slots=True)
class _Value:
    name: str
    size: int
    shape: str
    kind: Kind
    slot: tuple[str, int]  # allocation, offset in it


def at_peak(dump: Path) -> tuple[int, list[Buffer]]:
    """(bytes at the peak, buffers live then, largest first) of the largest program in the folder."""
    best: tuple[int, list[Buffer]] = (0, [])
    for live in sorted(dump.glob(f"*{LIVE_RANGES}")):
        stem = live.name.removesuffix(LIVE_RANGES)
        values = list(_values(_lines(live.with_name(stem + ASSIGNMENT))))
        operations = dict(_operations(_lines(live.with_name(f"{stem}.txt"))))
        best = max(best, _peak(values, _ranges(_lines(live)), operations), key=lambda peak: peak[0])
    return best


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _peak(
    values: list[_Value], ranges: Mapping[str, tuple[int, int]], operations: Mapping[str, str]
) -> tuple[int, list[Buffer]]:
    """Walk the program's schedule; a slot counts once, as large as the largest value in it."""
    born: dict[int, list[_Value]] = {}
    for value in values:
        if value.name in ranges:
            born.setdefault(ranges[value.name][0], []).append(value)
    live: list[_Value] = []
    peak, at_peak_ = 0, list[_Value]()
    for moment in sorted(born):
        live = [value for value in live if ranges[value.name][1] >= moment] + born[moment]
        slots: dict[tuple[str, int], _Value] = {}
        for value in live:
            if value.slot not in slots or value.size >= slots[value.slot].size:
                slots[value.slot] = value
        total = sum(value.size for value in slots.values())
        if total > peak:
            peak, at_peak_ = total, list(slots.values())
    makers = _makers(values, operations)
    rows = [_buffer(value, operations, makers) for value in at_peak_]
    return peak, sorted(rows, key=lambda row: (-row.size, row.name))


def _buffer(value: _Value, operations: Mapping[str, str], makers: Mapping[tuple[str, int, str], str]) -> Buffer:
    op = operations.get(value.name.partition("{")[0]) or makers.get((*value.slot, value.shape), "")
    return Buffer(value.size, value.shape, value.kind, op, value.name)


def _makers(values: Iterable[_Value], operations: Mapping[str, str]) -> dict[tuple[str, int, str], str]:
    """(slot, shape) -> the operation of a value that is written there: names what a loop carries."""
    makers: dict[tuple[str, int, str], str] = {}
    for value in values:
        if op := operations.get(value.name.partition("{")[0]):
            makers.setdefault((*value.slot, value.shape), op)
    return makers


def _ranges(lines: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Value -> the first and the last moment at which it is live."""
    return {match[1]: (int(match[2]), int(match[3])) for line in lines if (match := _LIVE.match(line))}


def _values(lines: Iterable[str]) -> Iterator[_Value]:
    """Every value in main memory (color 0)."""
    allocation = ""
    kind: Kind = "temporary"
    for line in lines:
        if head := _ALLOCATION.match(line):
            allocation, kind = head[1], _kind(head[2])
        elif (match := _VALUE.match(line)) and match["color"] == "0":
            shape = re.sub(r"\{[^}]*\}", "", match["shape"])
            name = match["name"] + (match["index"] or "{}")
            yield _Value(name, int(match["size"]), shape, kind, (allocation, int(match["offset"])))


def _kind(attributes: str) -> Kind:
    if "parameter " in attributes:
        return "argument"
    return "output" if "maybe-live-out" in attributes else "temporary"


def _operations(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Instruction -> the JAX operation it comes from, if XLA kept that."""
    for line in lines:
        if match := _INSTRUCTION.match(line):
            yield match[1], match[2].replace("\\", "")
