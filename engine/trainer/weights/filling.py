"""Leaves, filled from pieces of files and put on their devices one by one.

In: leaves matched with stored tensors, a dtype, and the sharding of each leaf. Out: the arrays, or
one error naming every tensor with NaN, infinity, or values that the new dtype cannot represent.

    arrays = fill_leaves(matched.leaves, jnp.dtype("bfloat16"), sharding_of=None, may_donate=False)

A leaf's blocks (one for each distinct shard on the devices) are made on the host, by several threads, from pieces of
4 MiB: read, checked, cast, transposed while in the cache. The next leaf is made while this one is copied to the devices.
So the host holds at most two leaves beside what the devices hold, and a device never more than its shard.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from engine.errors import Diagnostic, InputInvalid, Where
from engine.trainer.weights.reading import FLOATS, Array, Stored
from engine.trainer.weights.table import LeafPart, StoredLeaf

PIECE_BYTES = 4 << 20
TILE = 256  # rows and columns transposed at once: source, transposed copy and target stay in the cache
CHECK_BYTES = 1 << 18  # read twice while in the cache
WORKERS = min(4, os.cpu_count() or 1)  # beyond four the memory is the limit, not the processor
NOT_FINITE = "holds NaN or infinity"
ALIGNMENT = 64  # XLA on CPU takes over memory that begins at a multiple, and copies any other

ShardingOf = Callable[[str, tuple[int, ...]], jax.sharding.Sharding | None]  # (leaf name, shape) -> its sharding
Dtype = np.dtype
# The bits of an infinity by item size; anything above, apart from the sign bit, is NaN.
_UNSIGNED: dict[int, type[np.unsignedinteger]] = {2: np.uint16, 4: np.uint32}
_INFINITY = {"float32": 0x7F800000, "bfloat16": 0x7F80, "float16": 0x7C00}


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """A shard of a leaf: it begins at ``start``, in the leaf's coordinates."""

    start: tuple[int, ...]
    array: Array


def fill_leaves(
    leaves: Iterable[StoredLeaf], dtype: Dtype, sharding_of: ShardingOf | None, *, may_donate: bool
) -> dict[str, jax.Array]:
    """Leaf name -> array [L, …] of ``dtype`` with the sharding that ``sharding_of`` gives (None: the default device).

    Raises InputInvalid M204 (values), M205 (damaged files). ``may_donate``: see load_folder.
    """
    arrays: dict[str, jax.Array] = {}
    problems: list[Diagnostic] = []
    in_transfer: jax.Array | None = None
    scratch = _Scratch()
    with ThreadPoolExecutor(WORKERS) as pool:
        for leaf in leaves:
            sharding = sharding_of(leaf.name, leaf.shape) if sharding_of else None
            # After a problem the other leaves are only checked, to name all problems, and not stored.
            blocks = {} if problems else _blocks(leaf.shape, dtype, sharding)
            problems += _fill(leaf, list(blocks.values()), dtype, pool, scratch)
            if problems:
                continue
            arrays[leaf.name] = _put(leaf.shape, blocks, sharding, may_donate=may_donate)
            if in_transfer is not None:
                in_transfer.block_until_ready()
            in_transfer = arrays[leaf.name]
    if problems:
        raise InputInvalid.of(problems)
    return arrays


Bounds = tuple[tuple[int, int], ...]


def _bounds(index: tuple[slice, ...], shape: tuple[int, ...]) -> Bounds:
    return tuple(axis.indices(size)[:2] for axis, size in zip(index, shape, strict=True))


def _blocks(shape: tuple[int, ...], dtype: Dtype, sharding: jax.sharding.Sharding | None) -> dict[Bounds, ReadBlock]:
    """Empty memory for each distinct shard of the leaf on this process's devices."""
    everything = tuple(slice(None) for _ in shape)
    indices = [everything] if sharding is None else sharding.addressable_devices_indices_map(shape).values()
    distinct = {_bounds(index or everything, shape) for index in indices}
    return {
        bounds: ReadBlock(
            tuple(start for start, _ in bounds), _aligned([stop - start for start, stop in bounds], dtype)
        )
        for bounds in distinct
    }


def _aligned(shape: Sequence[int], dtype: Dtype) -> Array:
    """Empty aligned memory: numpy asks the kernel for huge pages, but does not align arrays to ALIGNMENT."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _put(
    shape: tuple[int, ...], blocks: dict[Bounds, ReadBlock], sharding: jax.sharding.Sharding | None, *, may_donate: bool
) -> jax.Array:
    put = _donatable if may_donate else jax.device_put
    if sharding is None:
        (block,) = blocks.values()
        array: jax.Array = put(block.array, None)
        return array
    everything = tuple(slice(None) for _ in shape)
    shards = [
        put(blocks[_bounds(index or everything, shape)].array, device)
        for device, index in sharding.addressable_devices_indices_map(shape).items()
    ]
    return jax.make_array_from_single_device_arrays(shape, sharding, shards)


def _donatable(array: Array, device: jax.Device | None) -> jax.Array:
    """On a device, in memory that XLA can take over. On CPU it borrows numpy's memory (even with may_alias=False): copied."""
    put: jax.Array = jax.device_put(array, device)
    on_cpu = next(iter(put.devices())).platform == "cpu"
    return jnp.copy(put).block_until_ready() if on_cpu else put


def _fill(
    leaf: StoredLeaf, blocks: Sequence[ReadBlock], dtype: Dtype, pool: ThreadPoolExecutor, scratch: _Scratch
) -> list[Diagnostic]:
    """Every piece of every part, by the pool; problems in the order of the parts, one per part."""
    pieces = [(part, start, stop) for part in leaf.parts for start, stop in _pieces(part.stored)]
    results = pool.map(lambda piece: _fill_piece(*piece, blocks=blocks, dtype=dtype, scratch=scratch), pieces)
    problems: dict[str, Diagnostic] = {}
    for (part, _, _), problem in zip(pieces, results, strict=True):
        if problem:
            name = part.stored.name
            where = Where(file=str(part.stored.file.path), path=name)
            hint = "fetch the file again" if problem == NOT_FINITE else "choose a dtype with a larger range"
            problems.setdefault(name, Diagnostic("M204", f"{name} {problem}", where, hint))
    return list(problems.values())


def _pieces(stored: Stored) -> Iterator[tuple[int, int]]:
    rows = stored.shape[0]
    step = max(1, PIECE_BYTES // stored.row_bytes)
    return ((start, min(start + step, rows)) for start in range(0, rows, step))


class _Scratch(threading.local):
    """Memory that each worker reuses for all its pieces: fresh pages would cost more than the reading."""

    def __init__(self) -> None:
        self._memory: dict[str, Array] = {}

    def take(self, use: str, size: int) -> Array:
        """u8[at least size], the same for the same use."""
        if use not in self._memory or size > self._memory[use].size:
            self._memory[use] = np.empty(max(size, PIECE_BYTES), np.uint8)
        return self._memory[use]


def _fill_piece(
    part: LeafPart, start: int, stop: int, *, blocks: Sequence[ReadBlock], dtype: Dtype, scratch: _Scratch
) -> str | None:
    """Copy rows start..stop of a stored tensor into the blocks -> what is wrong with them, or None."""
    stored = part.stored
    piece = stored.rows(start, stop, scratch.take("read", (stop - start) * stored.row_bytes))
    if not is_finite(piece):
        return NOT_FINITE
    if piece.dtype != dtype:
        with np.errstate(over="ignore"):  # checked below
            piece = cast(piece, dtype, scratch.take("cast", piece.size * dtype.itemsize))
        if not is_finite(piece):
            return f"holds a value that {dtype.name} cannot represent"
    for block in blocks:
        _copy(part, start, piece, block)
    return None


def _copy(part: LeafPart, start: int, piece: Array, block: ReadBlock) -> None:
    """Copy the rows of ``piece`` (whose first row is row ``start`` of the tensor) that belong to ``block``."""
    first, target = block.start, bits(block.array)
    if part.slot.layer is not None:
        layer = part.slot.layer - first[0]
        if not 0 <= layer < len(target):
            return
        first, target = first[1:], target[layer]
    source = bits(piece)
    if part.is_transposed:
        # target [in, out], source [out, in]
        low, high = max(start, first[1]), min(start + len(source), first[1] + target.shape[1])
        if low < high:
            columns = slice(first[0], first[0] + target.shape[0])
            transpose_into(target[:, low - first[1] : high - first[1]], source[low - start : high - start, columns])
        return
    low, high = max(start, first[0]), min(start + len(source), first[0] + len(target))
    if low < high:
        inner = tuple(slice(begin, begin + size) for begin, size in zip(first[1:], target.shape[1:], strict=True))
        target[low - first[0] : high - first[0]] = source[(slice(low - start, high - start), *inner)]


def bits(array: Array) -> Array:
    """The same memory as integers: numpy moves these three times as fast as bfloat16."""
    return array.view(_UNSIGNED[array.dtype.itemsize])


def cast(array: Array, dtype: Dtype, memory: Array | None = None) -> Array:
    """Cast to nearest, ties to even; in ``memory`` (u8, large enough) if given. An array of that dtype is returned as is.

    bfloat16 is the upper half of a float32; the library does not use that.
    """
    if array.dtype == dtype:
        return array
    size = array.size * dtype.itemsize
    memory = np.empty(size, np.uint8) if memory is None else memory[:size]
    target: Array = memory.view(dtype).reshape(array.shape)
    if array.dtype == FLOATS["bfloat16"] and dtype == FLOATS["float32"]:
        np.left_shift(bits(array), np.uint32(16), out=bits(target), dtype=np.uint32)
    else:
        np.copyto(target, array, casting="unsafe")
    return target


class _Tiles(threading.local):
    """Two tiles for each thread; their rows are longer than TILE, so that they do not map to the same cache lines."""

    def __init__(self) -> None:
        self._copy = np.empty((TILE, 4 * (TILE + 32)), np.uint8)
        self._transposed = np.empty(4 * TILE * TILE, np.uint8)

    def of(self, dtype: Dtype) -> tuple[Array, Array]:
        """[TILE, more than TILE] and [TILE * TILE or more] of an integer dtype of up to 4 bytes."""
        return self._copy.view(dtype), self._transposed.view(dtype)


_tiles = _Tiles()


def transpose_into(target: Array, source: Array) -> None:
    """target [C, R] = source [R, C] transposed, tile by tile: 2 GiB/s of bfloat16; numpy alone: 0.26 GiB/s.

    A tile is copied to the thread's own memory, transposed there, and stored.
    """
    rows, columns = source.shape
    copy, memory = _tiles.of(source.dtype)
    for row in range(0, rows, TILE):
        for column in range(0, columns, TILE):
            tile = source[row : row + TILE, column : column + TILE]
            height, width = tile.shape
            copy[:height, :width] = tile
            transposed = memory[: tile.size].reshape(width, height)
            transposed[...] = copy[:height, :width].T
            target[column : column + width, row : row + height] = transposed


def is_finite(array: Array) -> bool:
    """Whether every value is finite, by its bits and without a copy.

    As signed integers, positive infinity and NaN are the largest values; as unsigned integers, the negative ones are.
    """
    infinity = _INFINITY[array.dtype.name]
    unsigned = bits(np.ascontiguousarray(array)).reshape(-1)
    negative_infinity = infinity | 1 << (8 * array.dtype.itemsize - 1)
    signed = unsigned.view(np.dtype(f"i{array.dtype.itemsize}"))
    step = CHECK_BYTES // array.dtype.itemsize
    return all(
        signed[start : start + step].max() < infinity and unsigned[start : start + step].max() < negative_infinity
        for start in range(0, unsigned.size, step)
    )


def check_alias(alias: Stored, source: LeafPart, dtype: Dtype) -> None:
    """The stored alias of the tied head must equal the embedding. Raises InputInvalid M204."""
    head = alias.rows(0, alias.shape[0]).T if alias.is_flax else None
    for start, stop in _pieces(source.stored):
        rows = source.stored.rows(start, stop)
        alias_rows = alias.rows(start, stop) if head is None else head[start:stop]
        if not np.array_equal(rows.astype(dtype), alias_rows.astype(dtype)):
            raise InputInvalid(
                "M204",
                f"{alias.name} differs from {source.stored.name}, but the head of this family is tied",
                where=Where(file=str(alias.file.path), path=alias.name),
                hint="a model with a head of its own cannot be used here",
            )


assert set(_INFINITY) == set(FLOATS)
