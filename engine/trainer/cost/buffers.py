"""Where the bytes of a compiled program go: the largest buffers that live at its peak, out of XLA's own dump.

In: the folder that ``--xla_dump_to`` filled (with ``--xla_dump_hlo_as_text``) while one program was compiled. Out:
the peak in bytes and :class:`Buffer` rows, largest first.

    peak, buffers = at_peak(Path("dump"))

The CPU, GPU and TPU compilers write the same three texts: how long each value lives, where each is allocated, and the
final program. (Their own list "at the peak" leaves out what loops carry, which in a train step is most of it, so it
is counted again here.) On-chip memory (a TPU's vmem) is left out. The allocator's peak is a little above the sum: it
packs values of different lifetimes into one place and leaves gaps.
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
    """A place in memory at the peak: bytes, the shape of what lies there, the JAX operation that made it.

    ``kind`` is what the place is for: an argument's place is used for other things once the argument is no longer
    needed, where it is donated.
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
    place: tuple[str, int]  # allocation, offset in it


def at_peak(dump: Path) -> tuple[int, list[Buffer]]:
    """(bytes at the peak, buffers that live then, largest first) of the largest program in the folder."""
    best: tuple[int, list[Buffer]] = (0, [])
    for live in sorted(dump.glob(f"*{LIVE_RANGES}")):
        stem = live.name.removesuffix(LIVE_RANGES)
        values = list(_values(_lines(live.with_name(stem + ASSIGNMENT))))
        operations = dict(_operations(_lines(live.with_name(f"{stem}.txt"))))
        found = _account(values, _ranges(_lines(live)), operations)
        best = max(best, found, key=lambda account: account[0])
    return best


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _account(
    values: list[_Value], ranges: Mapping[str, tuple[int, int]], operations: Mapping[str, str]
) -> tuple[int, list[Buffer]]:
    """Go through the program's schedule; a place counts once, as large as the largest that lies there."""
    born: dict[int, list[_Value]] = {}
    for value in values:
        if value.name in ranges:
            born.setdefault(ranges[value.name][0], []).append(value)
    alive: list[_Value] = []
    peak, at_peak_ = 0, list[_Value]()
    for moment in sorted(born):
        alive = [value for value in alive if ranges[value.name][1] >= moment] + born[moment]
        places: dict[tuple[str, int], _Value] = {}
        for value in alive:
            if value.place not in places or value.size >= places[value.place].size:
                places[value.place] = value
        total = sum(value.size for value in places.values())
        if total > peak:
            peak, at_peak_ = total, list(places.values())
    makers = _makers(values, operations)
    rows = [_buffer(value, operations, makers) for value in at_peak_]
    return peak, sorted(rows, key=lambda row: (-row.size, row.name))


def _buffer(value: _Value, operations: Mapping[str, str], makers: Mapping[tuple[str, int, str], str]) -> Buffer:
    op = operations.get(value.name.partition("{")[0]) or makers.get((*value.place, value.shape), "")
    return Buffer(value.size, value.shape, value.kind, op, value.name)


def _makers(values: Iterable[_Value], operations: Mapping[str, str]) -> dict[tuple[str, int, str], str]:
    """(place, shape) -> the operation of something that is written there: names what a loop carries."""
    found: dict[tuple[str, int, str], str] = {}
    for value in values:
        if op := operations.get(value.name.partition("{")[0]):
            found.setdefault((*value.place, value.shape), op)
    return found


def _ranges(lines: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Value -> the first and the last moment of its life."""
    return {found[1]: (int(found[2]), int(found[3])) for line in lines if (found := _LIVE.match(line))}


def _values(lines: Iterable[str]) -> Iterator[_Value]:
    """Every value in main memory (color 0)."""
    allocation = ""
    kind: Kind = "temporary"
    for line in lines:
        if head := _ALLOCATION.match(line):
            allocation, kind = head[1], _kind(head[2])
        elif (found := _VALUE.match(line)) and found["color"] == "0":
            shape = re.sub(r"\{[^}]*\}", "", found["shape"])
            name = found["name"] + (found["index"] or "{}")
            yield _Value(name, int(found["size"]), shape, kind, (allocation, int(found["offset"])))


def _kind(what: str) -> Kind:
    if "parameter " in what:
        return "argument"
    return "output" if "maybe-live-out" in what else "temporary"


def _operations(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Instruction -> the JAX operation it comes from, where XLA kept it."""
    for line in lines:
        if found := _INSTRUCTION.match(line):
            yield found[1], found[2].replace("\\", "")
