"""A file of weights, open for random access, and one tensor in it. Nothing is read until it is requested.

In: a path. Out: bytes at an offset, and :class:`Stored` tensors (made by the formats' ``index``)
that are read row by row.

    with WeightsFile(path) as file:
        stored = safetensors_file.index(file)[0]
        rows = stored.rows(0, 64)        # [64, ...] of its own dtype

Reads are positioned reads into the caller's memory, not through a memory map: a file that is truncated meanwhile, or a
network disk that fails, gives an error with a code instead of a SIGBUS, and the pages do not count as this process's.
Several threads may read one file at once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import jax.numpy as jnp
import numpy as np

from engine.errors import InputInvalid, Where
from engine.model_config.folder_files import HEAD_BYTES, stand_in

Array = np.ndarray

# The dtypes weights are read in and written in, by numpy's names.
FLOATS: dict[str, np.dtype] = {name: jnp.dtype(name) for name in ("float32", "bfloat16", "float16")}


class WeightsFile:
    """An open file; a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._descriptor).st_size

    def __enter__(self) -> Self:
        stands_for = stand_in(os.pread(self._descriptor, HEAD_BYTES, 0))
        if stands_for is not None:
            os.close(self._descriptor)
            raise InputInvalid("M205", stands_for[0], where=Where(file=str(self.path)), hint=stands_for[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def read(self, offset: int, count: int, leaf: str = "") -> bytes:
        """Exactly ``count`` bytes. Raises InputInvalid M205 where the file has fewer, or the disk fails."""
        if offset + count > self.size:
            raise self.damaged(f"{count} bytes needed at {offset}, the file ends at {self.size}", leaf)
        data = bytearray(count)
        self.read_into(np.frombuffer(data, np.uint8), offset, leaf)
        return bytes(data)

    def read_into(self, target: Array, offset: int, leaf: str = "") -> None:
        """Fill ``target`` u8[n] from the file. Raises as :meth:`read` does."""
        done = 0
        while done < target.size:
            try:
                count = os.preadv(self._descriptor, [target[done:].data], offset + done)
            except OSError as error:
                raise self.damaged(f"cannot be read: {error}", leaf) from error
            if not count:
                raise self.damaged(f"ends at {offset + done} while it is read", leaf)
            done += count

    def damaged(self, detail: str, leaf: str = "") -> InputInvalid:
        """The error for this file, to be raised; ``leaf``: the weight concerned, where it is known."""
        at = f" (in {leaf})" if leaf else ""
        return InputInvalid(
            "M205",
            f"the weights file is damaged or truncated{at}: {detail}",
            where=Where(file=str(self.path), path=leaf),
            hint="fetch or copy the file again",
        )


class HasPath(Protocol):
    """A file of weights, or a folder of orbax's in its place."""

    @property
    def path(self) -> Path:
        """Where it is."""


class TensorView(Protocol):
    """A tensor that is not the bytes of a file in order: a part of an array of another layout."""

    def rows(self, start: int, stop: int) -> Array:
        """Rows of the first axis, contiguous."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of a file. ``segments`` are its bytes in order, as (offset, length); Flax splits large leaves. Or it is a ``view``."""

    name: str  # as in the file; open_weights replaces it by safetensors' name
    file: HasPath
    dtype: str  # numpy's name, or the format's own for what is not in FLOATS
    shape: tuple[int, ...]
    segments: Sequence[tuple[int, int]]
    view: TensorView | None = None

    @property
    def is_flax(self) -> bool:
        """Flax layout: matrices are [in, out]."""
        return self.file.path.suffix == ".msgpack" or self.view is not None

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry along the first axis."""
        return math.prod(self.shape[1:]) * FLOATS[self.dtype].itemsize

    def rows(self, start: int, stop: int, memory: Array | None = None) -> Array:
        """Rows of the first axis [stop - start, ...]; in ``memory`` (u8, large enough) if given."""
        if self.view is not None:
            return self.view.rows(start, stop)
        size = (stop - start) * self.row_bytes
        memory = np.empty(size, np.uint8) if memory is None else memory[:size]
        self._read_into(memory, start * self.row_bytes)
        return memory.view(FLOATS[self.dtype]).reshape(stop - start, *self.shape[1:])

    def _read_into(self, target: Array, start: int) -> None:
        """Fill ``target`` from the tensor's byte ``start`` on, across its segments."""
        assert isinstance(self.file, WeightsFile)
        for offset, length in self.segments:
            if start >= length:
                start -= length
                continue
            count = min(length - start, target.size)
            self.file.read_into(target[:count], offset + start, self.name)
            target, start = target[count:], 0
            if not target.size:
                return
