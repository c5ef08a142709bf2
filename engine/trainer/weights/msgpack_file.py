"""The Flax msgpack format: a tree of maps whose leaves are arrays, as flax.serialization writes it.

In: an open file; or names, shapes and a source of arrays. Out: the offsets of each array; or the
file, byte for byte what ``flax.serialization.to_bytes`` writes for the sorted tree.

    index(file)   # [Stored("model/norm/weight", …, "bfloat16", (2048,), ((61, 4096),)), …]

An array is extension type 1 around the msgpack of (shape, dtype name, bytes). One above 2^30 bytes is a map
{"__msgpack_chunked_array__": True, "shape": {"0": n, …}, "chunks": {"0": array, …}} of flat parts.

flax's own reader needs the file in memory, and the tree as a second copy. Here the structure is parsed and the arrays'
bytes are skipped, so that a file of 10 GB is indexed by reading some kilobytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, NamedTuple, NoReturn

import msgpack
import numpy as np
from flax import serialization

from engine.trainer.weights.reading import FLOATS, Array, Stored, WeightsFile

CHUNKED = "__msgpack_chunked_array__"
NDARRAY = 1
MAX_DEPTH, MAX_ENTRIES, MAX_STRING_BYTES = 32, 100_000, 4096  # more than a tree of weights has

# First byte -> the struct format of the number that follows. Smallest first.
_INTEGERS = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_BINARIES = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"}
_EXTENSIONS = {0xC7: ">B", 0xC8: ">H", 0xC9: ">I"}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
# First byte -> (kind of value, its number or the format of that): all of msgpack but floats, which no tree has.
_BEGINS: dict[int, tuple[str, int | str]] = {
    **{first: ("number", first) for first in range(0x80)},
    **{first: ("number", first - 0x100) for first in range(0xE0, 0x100)},
    **{first: ("number", form) for first, form in _INTEGERS.items()},
    **{first: ("constant", number) for first, number in ((0xC0, 0), (0xC2, 0), (0xC3, 1))},
    **{first: ("bytes", form) for first, form in _BINARIES.items()},
    **{first: ("extension", form) for first, form in _EXTENSIONS.items()},
    **{first: ("extension", size) for first, size in _FIXED_EXTENSIONS.items()},
    **{0xA0 + size: ("text", size) for size in range(32)},
    **{first: ("text", form) for first, form in ((0xD9, ">B"), (0xDA, ">H"), (0xDB, ">I"))},
    **{0x90 + size: ("list", size) for size in range(16)},
    **{first: ("list", form) for first, form in ((0xDC, ">H"), (0xDD, ">I"))},
    **{0x80 + size: ("map", size) for size in range(16)},
    **{first: ("map", form) for first, form in ((0xDE, ">H"), (0xDF, ">I"))},
}


class _Bytes(NamedTuple):
    """Binary data that was skipped."""

    offset: int
    length: int


class _NdArray(NamedTuple):
    """An array whose bytes were skipped."""

    shape: tuple[int, ...]
    dtype: str
    data: _Bytes


def index(file: WeightsFile) -> list[Stored]:
    """Every array by its slash-joined name, in the order of the file. Raises InputInvalid M205."""
    parser = _Parser(file)
    tree = parser.value(0)
    if not isinstance(tree, dict):
        parser.fail("not a tree of weights")
    if parser.position != file.size:
        parser.fail(f"the tree ends at {parser.position}, the file has {file.size} bytes")
    return list(_leaves(file, tree, ""))


# A parsed value: numbers, booleans and text as such; maps as dict, arrays as list.
_Value = Any


class _Parser:
    """Decodes msgpack from a position on, without reading binary data."""

    def __init__(self, file: WeightsFile) -> None:
        self._file = file
        self.position = 0
        self._path: list[str] = []

    def fail(self, detail: str) -> NoReturn:
        raise self._file.damaged(detail, "/".join(self._path))

    def value(self, depth: int) -> _Value:
        """The next value: numbers and text as such, maps as dict, arrays as list, binary data as _Bytes."""
        if depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} deep")
        first = self._number(">B")
        if first not in _BEGINS:
            self.fail(f"byte {first:#04x} at {self.position - 1} begins no value that a tree of weights has")
        kind, form = _BEGINS[first]
        number = self._number(form) if isinstance(form, str) else form
        if kind in ("number", "constant"):
            return number if kind == "number" else bool(number)
        if kind == "bytes":
            return self._skip(number)
        if kind == "text":
            return self._text(number)
        return {"list": self._list, "map": self._map, "extension": self._extension}[kind](number, depth)

    def _take(self, count: int) -> bytes:
        data = self._file.read(self.position, count, "/".join(self._path))
        self.position += count
        return data

    def _number(self, form: str) -> int:
        (number,) = struct.unpack(form, self._take(struct.calcsize(form)))
        return int(number)

    def _skip(self, length: int) -> _Bytes:
        skipped = _Bytes(self.position, length)
        self.position += length
        if self.position > self._file.size:
            self.fail(f"its bytes end at {self.position}, the file has {self._file.size} bytes")
        return skipped

    def _text(self, length: int) -> str:
        if length > MAX_STRING_BYTES:
            self.fail(f"a name of {length} bytes at {self.position}")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            self.fail(f"a name that is not UTF-8: {error}")

    def _list(self, count: int, depth: int) -> list[_Value]:
        self._check_count(count)
        return [self.value(depth + 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict[str, _Value]:
        self._check_count(count)
        entries: dict[str, _Value] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str):
                self.fail(f"a key that is not text: {key!r}")
            self._path.append(key)
            if key in entries:
                self.fail("the name comes twice")
            entries[key] = self.value(depth + 1)
            self._path.pop()
        return entries

    def _check_count(self, count: int) -> None:
        if count > MAX_ENTRIES:
            self.fail(f"{count} entries at {self.position}")

    def _extension(self, length: int, depth: int) -> _Bytes | _NdArray:
        kind = self._number(">b")
        end = self.position + length
        if kind != NDARRAY:
            return self._skip(length)
        inner = self.value(depth + 1)
        if self.position != end or not isinstance(inner, list) or [type(part) for part in inner] != [list, str, _Bytes]:
            self.fail("an array that is not (shape, dtype, bytes)")
        shape, dtype, data = inner
        return _NdArray(self._shape(shape), dtype, data)

    def _shape(self, sizes: list[_Value]) -> tuple[int, ...]:
        if not all(type(size) is int and size >= 0 for size in sizes):
            self.fail(f"a shape of {sizes}")
        return tuple(sizes)


def _leaves(file: WeightsFile, tree: Mapping[str, _Value], prefix: str) -> Iterator[Stored]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and CHUNKED in value:
            yield _joined(file, name, value)
        elif isinstance(value, dict):
            yield from _leaves(file, value, f"{name}/")
        elif isinstance(value, _NdArray):
            yield _stored(file, name, value.dtype, value.shape, [value])
        else:
            raise file.damaged("it is not an array", name)


def _joined(file: WeightsFile, name: str, parts: Mapping[str, _Value]) -> Stored:
    """A leaf from its chunks, which are flat and in the order of their numbers."""
    try:
        shape = tuple(parts["shape"][str(axis)] for axis in range(len(parts["shape"])))
        chunks = [parts["chunks"][str(number)] for number in range(len(parts["chunks"]))]
        dtypes = {chunk.dtype for chunk in chunks}
        if len(dtypes) != 1 or not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise file.damaged("its chunks do not fit together", name) from error
    return _stored(file, name, dtypes.pop(), shape, chunks)


def _stored(file: WeightsFile, name: str, dtype: str, shape: tuple[int, ...], chunks: list[_NdArray]) -> Stored:
    size = sum(chunk.data.length for chunk in chunks)
    if dtype in FLOATS and math.prod(shape) * FLOATS[dtype].itemsize != size:
        raise file.damaged(f"{dtype} {list(shape)} does not take {size} bytes", name)
    return Stored(name, file, dtype, shape, tuple(chunk.data for chunk in chunks))


def write(
    stream: IO[bytes], shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype, tensor: Callable[[str], Array]
) -> None:
    """Write the tree of slash-joined names, its keys in JAX's order; ``tensor(name)`` is called only in its turn."""
    tree: dict[str, _Value] = {}
    for name in shapes:
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = name
    _write_tree(stream, tree, dtype, tensor)


def _write_tree(stream: IO[bytes], tree: Mapping[str, _Value], dtype: np.dtype, tensor: Callable[[str], Array]) -> None:
    packer = msgpack.Packer()
    stream.write(packer.pack_map_header(len(tree)))
    for key in sorted(tree):
        stream.write(packer.pack(key))
        if isinstance(tree[key], dict):
            _write_tree(stream, tree[key], dtype, tensor)
        else:
            _write_leaf(stream, tensor(tree[key]))


def _write_leaf(stream: IO[bytes], array: Array) -> None:
    """Write one array, split as flax splits it: above its MAX_CHUNK_SIZE into flat chunks of that size."""
    if array.nbytes <= serialization.MAX_CHUNK_SIZE:
        _write_array(stream, array)
        return
    packer, flat = msgpack.Packer(), array.reshape(-1)
    size = max(1, serialization.MAX_CHUNK_SIZE // array.dtype.itemsize)
    starts = range(0, flat.size, size)
    stream.write(packer.pack_map_header(3))
    stream.write(packer.pack(CHUNKED) + packer.pack(True))
    stream.write(packer.pack("shape") + packer.pack({str(axis): length for axis, length in enumerate(array.shape)}))
    stream.write(packer.pack("chunks") + packer.pack_map_header(len(starts)))
    for number, start in enumerate(starts):
        stream.write(packer.pack(str(number)))
        _write_array(stream, flat[start : start + size])


def _write_array(stream: IO[bytes], array: Array) -> None:
    """Write the headers by hand, then the array's own memory: the packer would copy it twice."""
    packer = msgpack.Packer()
    head = packer.pack_array_header(3) + packer.pack(array.shape) + packer.pack(array.dtype.name)
    head += _sized(_BINARIES, array.nbytes)
    length = len(head) + array.nbytes
    fixed = {size: first for first, size in _FIXED_EXTENSIONS.items()}
    stream.write(bytes([fixed[length]]) if length in fixed else _sized(_EXTENSIONS, length))
    stream.write(bytes([NDARRAY]) + head)
    stream.write(array.reshape(-1).view(np.uint8).data)


def _sized(forms: Mapping[int, str], length: int) -> bytes:
    """The first byte and the length in the smallest form that holds it."""
    first, form = next((first, form) for first, form in forms.items() if length < 1 << 8 * struct.calcsize(form))
    return bytes([first]) + struct.pack(form, length)
