"""XLA's optimised program as data: its computations, their instructions, and how often each computation runs.

In: the text of a compiled program (``compiled.as_text()``). Out: a :class:`Module`.

    module = parse(compiled.as_text())
    for computation, runs in executed(module):      # loops multiplied by their trip counts
        for instruction in computation.values(): ...

What runs inside a fusion is no execution of its own: it reads and writes registers or on-chip memory.
The grammar is XLA's HloPrinter's (openxla/xla, xla/hlo/ir/hlo_instruction.cc).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MAIN_MEMORY = 0  # S(1) is a TPU's vmem, S(5) the host's memory

_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([^\s(]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?(\S+) = (.*)$")
_OPCODE = re.compile(r"^\s*([a-z][\w-]*)\(")
_NAME = re.compile(r"%([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_BITS = re.compile(r"[a-z]+(\d+)")


@dataclass(frozen=True, slots=True)
class Array:
    """An array's element type, its dimensions and the memory space it is in."""

    dtype: str
    dims: tuple[int, ...]
    space: int = MAIN_MEMORY

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.dims)

    @property
    def size(self) -> int:
        """Bytes, without the padding of tiles; 0 for tokens."""
        if self.dtype == "pred":
            return self.elements
        bits = _BITS.match(self.dtype)
        return 0 if bits is None else -(-self.elements * int(bits[1]) // 8)


@dataclass(frozen=True, slots=True)
class Instruction:
    """``arrays``: of its result, those of a tuple one after the other. ``attributes``: the rest of the line as it is."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    arguments: str = ""  # the text between the parentheses: a constant's value
    is_root: bool = False

    def attribute(self, name: str) -> str | None:
        """``calls``, ``body``: the name of a computation.

        >>> Instruction("a", "fusion", (), (), "kind=kLoop, calls=%fused").attribute("calls")
        'fused'
        """
        found = re.search(rf"\b{name}=%?([\w.\-]+)", self.attributes)
        return None if found is None else found[1]

    def numbers(self, name: str) -> tuple[int, ...]:
        """``lhs_contracting_dims={1,2}`` -> (1, 2); empty where it is left out."""
        found = re.search(rf"\b{name}=\{{([\d,]*)\}}", self.attributes)
        return tuple(map(int, found[1].split(","))) if found and found[1] else ()

    @property
    def operation(self) -> str:
        """The JAX operation it comes from, if XLA kept that."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return "" if found is None else found[1]

    @property
    def target(self) -> str:
        """What a custom call calls."""
        found = re.search(r'custom_call_target="([^"]*)"', self.attributes)
        return "" if found is None else found[1]

    @property
    def backend_config(self) -> Mapping[str, object]:
        """What the backend wrote down for itself, where that is JSON."""
        start = self.attributes.find("backend_config={")
        if start < 0:
            return {}
        try:
            value, _ = json.JSONDecoder().raw_decode(self.attributes[start + len("backend_config=") :])
        except ValueError:
            return {}
        return dict(value)


Computation = dict[str, Instruction]


@dataclass(frozen=True, slots=True)
class Module:
    """``devices``: over how many the program is partitioned."""

    computations: dict[str, Computation]
    entry: str
    devices: int = 1


@dataclass(slots=True)
class Executions:
    """How often each computation runs in one run of the program, and the loops whose trip counts are not constants."""

    runs: dict[str, float] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def parse(text: str) -> Module:
    """The program. Raises ValueError for text without an entry computation."""
    computations: dict[str, Computation] = {}
    entry, current = "", dict[str, Instruction]()
    devices = re.search(r"\bnum_partitions=(\d+)", text.partition("\n")[0])
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            current = computations.setdefault(head[2], {})
            entry = head[2] if head[1] else entry
        elif (match := _INSTRUCTION.match(line)) and (
            instruction := _instruction(match[2], match[3], is_root=bool(match[1]))
        ):
            current[instruction.name] = instruction
    if not entry:
        raise ValueError("no program of XLA's: it has no ENTRY")
    return Module(computations, entry, int(devices[1]) if devices else 1)


def _instruction(name: str, rest: str, *, is_root: bool) -> Instruction | None:
    """``bf16[8]{0} add(%a, %b), metadata=…`` and the like."""
    end = _closing(rest) if rest.startswith("(") else rest.find(" ")
    head, tail = rest[:end], rest[end:]
    opcode = _OPCODE.match(tail)
    if opcode is None:
        return None
    body = tail[opcode.end() - 1 :]
    stop = _closing(body)
    arguments = body[1 : stop - 1]
    operands = tuple(_NAME.findall(arguments))
    return Instruction(name, opcode[1], arrays_of(head), operands, body[stop:], arguments, is_root)


def arrays_of(text: str) -> tuple[Array, ...]:
    """The arrays of a type.

    >>> arrays_of("(bf16[2,8]{1,0:T(8,128)S(1)}, u32[])")
    (Array(dtype='bf16', dims=(2, 8), space=1), Array(dtype='u32', dims=(), space=0))
    """
    found = []
    for dtype, dims, layout in _ARRAY.findall(text):
        space = re.search(r"S\((\d+)\)", layout)
        sizes = tuple(int(size.removeprefix("<=")) for size in dims.split(",") if size)
        found.append(Array(dtype, sizes, int(space[1]) if space else MAIN_MEMORY))
    return tuple(found)


def _closing(text: str) -> int:
    """The place after the parenthesis that closes the one at the beginning."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return place + 1
    return len(text)


def executed(module: Module, trips: Mapping[str, float] | None = None) -> Executions:
    """How often each computation runs. ``trips``: for loops whose trip count depends on data, by a part of their operation's name."""
    found = Executions()
    _run(module, module.entry, 1.0, trips or {}, found)
    return found


def _run(module: Module, name: str, times: float, trips: Mapping[str, float], found: Executions) -> None:
    found.runs[name] = found.runs.get(name, 0.0) + times
    computation = module.computations.get(name, {})
    for instruction in computation.values():
        for called, count in _calls(module, computation, instruction, trips, found):
            if called in module.computations:
                _run(module, called, times * count, trips, found)


def _calls(
    module: Module, computation: Computation, instruction: Instruction, trips: Mapping[str, float], found: Executions
) -> Iterator[tuple[str, float]]:
    """The computations that run once and again as programs of their own, with their counts. Of branches the first."""
    if instruction.opcode == "while":
        count = _trips(module, computation, instruction, trips)
        if count is None:
            found.unknown.append(instruction.operation or instruction.name)
            count = 1.0
        yield instruction.attribute("body") or "", count
    elif instruction.opcode in ("call", "async-start"):
        yield instruction.attribute("to_apply") or instruction.attribute("calls") or "", 1.0
    elif instruction.opcode == "conditional":
        branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
        names = _NAME.findall(branches[1]) if branches else [instruction.attribute("true_computation") or ""]
        yield max(names, key=lambda branch: len(module.computations.get(branch, {}))), 1.0


def _trips(module: Module, computation: Computation, loop: Instruction, trips: Mapping[str, float]) -> float | None:
    if known := _TRIPS.search(loop.attributes):
        return float(known[1])
    if (counted := _counted(module, computation, loop)) is not None:
        return counted
    return next((count for name, count in trips.items() if name in loop.operation), None)


def _counted(module: Module, computation: Computation, loop: Instruction) -> float | None:
    """Of a loop whose condition is ``counter < constant``, whose counter begins at a constant and rises by a constant."""
    condition = module.computations.get(loop.attribute("condition") or "", {})
    body = module.computations.get(loop.attribute("body") or "", {})
    test = next((instruction for instruction in condition.values() if instruction.is_root), None)
    if test is not None and test.opcode == "fusion":  # its parameters are its operands, in order
        inner = module.computations.get(test.attribute("calls") or "", {})
        root = next((instruction for instruction in inner.values() if instruction.is_root), None)
        if root is None or root.opcode != "compare":
            return None
        test = _outside(root, inner, test)
    if test is None or test.opcode != "compare" or "direction=LT" not in test.attributes or len(test.operands) != 2:
        return None
    counter = condition.get(test.operands[0])
    if counter is None or counter.opcode != "get-tuple-element":
        return None
    index = int(re.search(r"index=(\d+)", counter.attributes)[1])  # type: ignore[index]  # XLA always writes it
    initial = computation.get(loop.operands[0])
    if initial is None or initial.opcode != "tuple":
        return None
    limit = _constant(condition, test.operands[1])
    if limit is None:  # the limit may be carried too
        limit = _carried(condition, test.operands[1], computation, initial)
    start = _constant(computation, initial.operands[index])
    step = _step(body, index)
    if limit is None or start is None or step is None or step < 1:
        return None
    return float(max(0, -(-(limit - start) // step)))


def _outside(root: Instruction, inner: Computation, fusion: Instruction) -> Instruction | None:
    """A fusion's root with the fusion's own operands in place of its parameters."""
    operands = []
    for name in root.operands:
        source = _source(inner, name)
        if source is None or source.opcode != "parameter":
            return None
        operands.append(fusion.operands[int(source.arguments)])
    return Instruction(root.name, root.opcode, root.arrays, tuple(operands), root.attributes)


def _carried(condition: Computation, name: str, computation: Computation, initial: Instruction) -> int | None:
    element = condition.get(name)
    if element is None or element.opcode != "get-tuple-element":
        return None
    index = re.search(r"index=(\d+)", element.attributes)
    return None if index is None else _constant(computation, initial.operands[int(index[1])])


def _source(computation: Computation, name: str) -> Instruction | None:
    """Where a value comes from, through copies."""
    instruction = computation.get(name)
    while instruction is not None and instruction.opcode in ("copy", "bitcast", "convert"):
        instruction = computation.get(instruction.operands[0])
    return instruction


def _constant(computation: Computation, name: str) -> int | None:
    instruction = _source(computation, name)
    if instruction is None or instruction.opcode != "constant" or not re.fullmatch(r"-?\d+", instruction.arguments):
        return None
    return int(instruction.arguments)


def _step(body: Computation, index: int) -> int | None:
    """By what the loop increases the element ``index`` of its tuple."""
    root = next((instruction for instruction in body.values() if instruction.is_root), None)
    if root is None or root.opcode != "tuple":
        return None
    added = _source(body, root.operands[index])
    if added is None or added.opcode != "add":
        return None
    counts = [_constant(body, name) for name in added.operands]
    return next((count for count in counts if count is not None), None)
