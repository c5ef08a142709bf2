"""What one run of a compiled program does on one device: operations, bytes of its memory, bytes sent to other devices.

In: the program's optimised text (:mod:`engine.trainer.cost.hlo`). Out: a :class:`Work`, with one :class:`Counted` for each
instruction, loops multiplied by their trip counts (XLA's own cost_analysis counts the body of a loop once on CPU and
TPU, and gives nothing on a described GPU).

    work = work_of(parse(compiled.as_text()))
    work.flops, work.moved, work.sent

Bytes are those between the chip and its main memory: operands read and results written, once an instruction; a slice
reads its part, an update in place writes its part, what stays in a TPU's vmem is free. Padding of tiles is left out.
Bytes sent are those of a ring of n devices: (n - 1) / n of what is gathered or scattered, twice that for an all-reduce,
all of it for a permute.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from engine.trainer.cost.hlo import MAIN_MEMORY, Array, Computation, Instruction, Module, executed
from engine.trainer.cost.matmuls import Flops, flops_of, kernel_estimate

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute")
# They name or rearrange what is there, or their bodies are counted.
FREE = frozenset({
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional", "after-all",
    "partition-id", "replica-id", "opt-barrier", "domain", "iota", "add-dependency", "async-start", "async-update",
})  # fmt: skip
BUFFERS = ("AllocateBuffer", "AssumeGatherIndicesInBound", "Sharding")  # custom calls that move nothing


@dataclass(frozen=True, slots=True)
class Counted:
    """One instruction, all its runs together. ``cycles``: the compiler's own estimate, where it wrote one down."""

    name: str
    opcode: str
    operation: str
    runs: float
    flops: Flops
    moved: float
    sent: float
    cycles: float | None


@dataclass(frozen=True, slots=True)
class Work:
    """``unknown_loops``: operations of loops that are counted once, since their trip counts depend on data."""

    done: tuple[Counted, ...]
    sent_by: Mapping[str, float]
    unknown_loops: tuple[str, ...] = field(default=())

    @property
    def flops(self) -> float:
        """Operations of all matmuls."""
        return sum(done.flops.count for done in self.done)

    @property
    def moved(self) -> float:
        """Bytes read from and written to main memory."""
        return sum(done.moved for done in self.done)

    @property
    def sent(self) -> float:
        """Bytes sent to other devices."""
        return sum(self.sent_by.values())


def work_of(module: Module, trips: Mapping[str, float] | None = None, tiles: float = 1.0) -> Work:
    """``trips``: of loops whose trip counts depend on data, by a part of their operation's name. ``tiles``: the share of the
    scores that attention's mask leaves a kernel."""
    executions = executed(module, trips)
    done: list[Counted] = []
    sent_by: dict[str, float] = {}
    for name, runs in executions.runs.items():
        computation = module.computations[name]
        channels: set[str] = set()
        for instruction in computation.values():
            if instruction.opcode in FREE or instruction.opcode.endswith("-done"):
                continue
            sent = 0.0
            for kind, size in _sent(module, computation, instruction, channels):
                sent += runs * size
                sent_by[kind] = sent_by.get(kind, 0.0) + runs * size
            flops = _flops(module, computation, instruction, tiles)
            moved = runs * _moved(module, computation, instruction)
            cycles = _cycles(instruction)
            done.append(
                Counted(
                    instruction.name, instruction.opcode, instruction.operation, runs,
                    Flops(runs * flops.count, flops.dtype), moved, sent, None if cycles is None else runs * cycles,
                )
            )  # fmt: skip
    return Work(tuple(done), sent_by, tuple(executions.unknown))


def _cycles(instruction: Instruction) -> float | None:
    found = re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
    return float(found[1]) if found and int(found[1]) > 0 else None


def _fused(module: Module, instruction: Instruction) -> Computation | None:
    """The computation inside a fusion."""
    return module.computations.get(instruction.attribute("calls") or "") if instruction.opcode == "fusion" else None


# --- operations ---


def _flops(module: Module, computation: Computation, instruction: Instruction, tiles: float) -> Flops:
    inner = _fused(module, instruction)
    if inner is None:
        return flops_of(instruction, computation, tiles)
    parts = [_flops(module, inner, part, tiles) for part in inner.values()]
    largest = max(parts, key=lambda part: part.count, default=Flops(0.0, ""))
    return Flops(sum(part.count for part in parts), largest.dtype)


# --- bytes sent ---


def _sent(
    module: Module, computation: Computation, instruction: Instruction, channels: set[str], *, scattered: bool = False
) -> Iterator[tuple[str, float]]:
    """(kind, bytes) of the collectives in an instruction.

    A TPU's fusions have one collective several times (its start, what runs beside it, its end): one channel counts once.
    """
    if (inner := _fused(module, instruction)) is not None:
        is_scatter = (instruction.attribute("calls") or "").startswith("all-reduce-scatter")
        for part in inner.values():
            yield from _sent(module, inner, part, channels, scattered=is_scatter)
        return
    kind = instruction.opcode.removesuffix("-start")
    if kind not in COLLECTIVES:
        return
    channel = re.search(r"channel_id=(\d+)", instruction.attributes)
    if channel is not None:
        if channel[1] in channels:
            return
        channels.add(channel[1])
    given = sum(computation[name].arrays[0].size for name in instruction.operands if name in computation)
    others = group_size(instruction, module.devices) - 1
    share = others / (others + 1)
    if kind == "all-reduce" and scattered:
        yield "reduce-scatter", given * share
    elif kind == "all-gather":
        yield kind, float(given * others)
    elif kind == "all-reduce":
        yield kind, 2 * given * share
    elif kind == "collective-permute":
        yield kind, float(given)
    else:
        yield kind, given * share


def group_size(instruction: Instruction, devices: int) -> int:
    """How many devices a collective is over, in any of XLA's three ways of writing it."""
    text = instruction.attributes
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
        return len(listed[1].split(","))
    if tiled := re.search(r"replica_groups=\[\d+,(\d+)\]<=", text):
        return int(tiled[1])
    if meshed := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", text):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']*)'=(\d+)", meshed[1])}
        axes = re.findall(r"'([^']*)'(?::\(\d+\)(\d+))?", meshed[2])
        return math.prod(int(part) if part else sizes[name] for name, part in axes)
    return devices


# --- bytes moved ---


def _moved(module: Module, computation: Computation, instruction: Instruction) -> float:
    inner = _fused(module, instruction)
    if inner is not None:
        return _moved_by_fusion(module, computation, instruction, inner)
    operands = [computation[name].arrays for name in instruction.operands if name in computation]
    if estimate := kernel_estimate(instruction):
        return float(estimate.get("bytes_accessed", 0))
    if instruction.target in BUFFERS:
        return 0.0
    kind, results = instruction.opcode, instruction.arrays
    if kind == "copy-start":
        return _bytes(results[:1]) + _bytes(operands[0])
    if kind.endswith("-start"):  # (operands, results, contexts)
        kind, results = kind.removesuffix("-start"), results[len(operands) :]
    if kind in ("dynamic-slice", "slice", "gather"):
        own = _elements_like(operands[0][0], results[0])
        return own + _bytes(results)
    if kind == "dynamic-update-slice":
        return _bytes(operands[1]) + _elements_like(results[0], operands[1][0])
    if kind == "scatter":
        updates = operands[-1][0]
        return 2 * _elements_like(results[0], updates) + _bytes(operands[-1])
    return sum(_bytes(arrays) for arrays in operands) + _bytes(results)


def _bytes(arrays: tuple[Array, ...]) -> float:
    return float(sum(array.size for array in arrays if _is_moved(array)))


def _is_moved(array: Array) -> bool:
    """In main memory, and more than a number: loop counters and offsets are in registers."""
    return array.space == MAIN_MEMORY and bool(array.dims)


def _elements_like(whole: Array, part: Array) -> float:
    """Bytes of as many numbers as ``part`` has, of an array in main memory."""
    return float(Array(whole.dtype, part.dims).size) if whole.space == MAIN_MEMORY else 0.0


def _moved_by_fusion(module: Module, computation: Computation, fusion: Instruction, inner: Computation) -> float:
    """What it reads of each operand, and what it writes.

    A TPU's asynchronous collective is moved at its start. What runs beside it, and its end, hand its arrays on.
    """
    root = next((part for part in inner.values() if part.is_root), None)
    if root is not None and root.target == "AsyncCollectiveDone":
        return 0.0
    if root is not None and root.target == "AsyncCollectiveStart":  # (operand, result, its flags)
        return _bytes(fusion.arrays[:2])
    read = 0.0
    for parameter in inner.values():
        if parameter.opcode != "parameter":
            continue
        source = computation.get(fusion.operands[int(parameter.arguments)])
        if source is None or not _is_moved(source.arrays[0]):
            continue
        read += min(_read(module, inner, parameter.name), source.arrays[0].size)
    return read + _written(module, fusion, inner)


def _read(module: Module, inner: Computation, name: str) -> float:
    """Bytes that a fused computation reads of one of its values; an array that is updated in place is not read."""
    total = 0.0
    for user in inner.values():
        for place, operand in enumerate(user.operands):
            if operand != name:
                continue
            whole = inner[name].arrays[0]
            if user.opcode in ("dynamic-slice", "slice", "gather") and place == 0:
                total += Array(whole.dtype, user.arrays[0].dims).size
            elif _reads_nothing(inner, user, place):
                continue
            elif user.opcode in ("bitcast", "reshape", "get-tuple-element", "copy", "convert"):
                total += _read(module, inner, user.name)
                total += whole.size if user.is_root else 0
            elif (nested := _fused(module, user)) is not None:
                parameters = (part for part in nested.values() if part.opcode == "parameter")
                total += sum(_read(module, nested, part.name) for part in parameters if int(part.arguments) == place)
            else:
                return float(whole.size)
    return total


def _reads_nothing(inner: Computation, user: Instruction, place: int) -> bool:
    """An array that is updated in place, or handed on as it is."""
    is_updated = user.opcode == "dynamic-update-slice" and place == 0
    return is_updated or (user.opcode == "tuple" and user.is_root) or _is_handed_on(inner, user)


def _is_handed_on(inner: Computation, instruction: Instruction) -> bool:
    """A collective that a fusion of other work carries in its tuple: it was started before."""
    root = next((part for part in inner.values() if part.is_root), None)
    is_carried = root is not None and root.opcode == "tuple" and instruction.name in root.operands
    return is_carried and instruction.opcode in COLLECTIVES


def _written(module: Module, fusion: Instruction, inner: Computation) -> float:
    """Bytes of the results; of one that is updated in place, the update."""
    root = next((part for part in inner.values() if part.is_root), None)
    roots = [inner.get(name) for name in root.operands] if root is not None and root.opcode == "tuple" else [root]
    total = 0.0
    for place, array in enumerate(fusion.arrays):
        if not _is_moved(array):
            continue
        result = roots[place] if place < len(roots) else None
        if result is not None and (result.opcode == "parameter" or _is_handed_on(inner, result)):
            continue
        update = _update(module, inner, result)
        total += array.size if update is None else Array(array.dtype, update.dims).size
    return total


def _update(module: Module, inner: Computation, result: Instruction | None) -> Array | None:
    """The part that a result writes, if it is an array updated in place."""
    while result is not None and result.opcode in ("bitcast", "convert", "copy"):
        result = inner.get(result.operands[0])
    if result is None:
        return None
    if result.opcode == "dynamic-update-slice":
        return inner[result.operands[1]].arrays[0]
    if (nested := _fused(module, result)) is not None:
        return _update(module, nested, next((part for part in nested.values() if part.is_root), None))
    return None
