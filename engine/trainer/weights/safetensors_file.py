"""The safetensors format: 8 bytes of length, a JSON header, the tensors one after the other.

In: an open file; or names, shapes and a source of arrays. Out: the offsets of each tensor; or the
file, byte for byte what the safetensors library writes.

    index(file)   # [Stored("model.norm.weight", …, "float32", (2048,), ((8192, 8192),)), …]

The library is not used because both reading and writing must stream: its reader copies through a memory map, and its
writer needs every tensor in memory at once, a second copy of 5 GB. Tests compare both with the library: what it refuses
is refused here (an unknown dtype, when the weight is matched), and what is written equals its bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from engine.trainer.weights.reading import FLOATS, Array, Stored, WeightsFile

CODES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
OF_NAME = {name: code for code, name in CODES.items()}
MAX_HEADER_BYTES = 100_000_000  # the library's own limit
LENGTH_BYTES = 8
ALIGNMENT = 8  # the header is padded with spaces, so that the data begins at a multiple


def index(file: WeightsFile) -> list[Stored]:
    """Every tensor, in the order of the data. Raises InputInvalid M205 for everything that the library refuses."""
    if file.size < LENGTH_BYTES:
        raise file.damaged(f"it has {file.size} bytes, the length of the header takes {LENGTH_BYTES}")
    length = int.from_bytes(file.read(0, LENGTH_BYTES), "little")
    if length > min(MAX_HEADER_BYTES, file.size - LENGTH_BYTES):
        raise file.damaged(f"a header of {length} bytes is announced, the file has {file.size} bytes")
    try:
        header = json.loads(file.read(LENGTH_BYTES, length).decode())
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise file.damaged(f"the header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise file.damaged("the header is not a JSON object")
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise file.damaged("the header's metadata is not a mapping to strings")
    start = LENGTH_BYTES + length
    tensors = [_stored(file, name, entry, start) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: tensor.segments[0])
    _check_contiguous(file, tensors, start)
    return tensors


def _stored(file: WeightsFile, name: str, entry: Any, start: int) -> Stored:
    try:
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        are_sizes = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
        if not are_sizes or not isinstance(code, str) or begin > end:
            raise ValueError
    except (TypeError, KeyError, ValueError) as error:
        raise file.damaged(f"the header's entry is invalid: {json.dumps(entry)[:200]}", name) from error
    dtype = CODES.get(code, code)
    if dtype in FLOATS and math.prod(shape) * FLOATS[dtype].itemsize != end - begin:
        raise file.damaged(f"{code} {list(shape)} does not take {end - begin} bytes", name)
    return Stored(name, file, dtype, shape, ((start + begin, end - begin),))


def _check_contiguous(file: WeightsFile, tensors: list[Stored], start: int) -> None:
    """The tensors must follow each other without a gap or an overlap, to the end of the file."""
    position = start
    for stored in tensors:
        ((offset, length),) = stored.segments
        if offset != position:
            raise file.damaged(f"its bytes begin at {offset}, the previous tensor ends at {position}", stored.name)
        position += length
        if position > file.size:
            raise file.damaged(f"its bytes end at {position}, the file has {file.size} bytes", stored.name)
    if position != file.size:
        raise file.damaged(f"the last tensor ends at {position}, the file has {file.size} bytes")


def write(
    stream: IO[bytes], shapes: Mapping[str, tuple[int, ...]], dtype: np.dtype, tensor: Callable[[str], Array]
) -> None:
    """Write the header, then ``tensor(name)`` for each name in order; each is called only when its turn comes."""
    # transformers requires "format": "pt".
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name in sorted(shapes):
        size = math.prod(shapes[name]) * dtype.itemsize
        header[name] = {
            "dtype": OF_NAME[dtype.name],
            "shape": list(shapes[name]),
            "data_offsets": [position, position + size],
        }
        position += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    stream.write(len(text).to_bytes(LENGTH_BYTES, "little"))
    stream.write(text)
    for name in sorted(shapes):
        stream.write(tensor(name).reshape(-1).view(np.uint8).data)
