"""Named flat arrays in a folder: written in pieces, published atomically, opened by memory-mapping.

    tokens.bin, offsets.bin, …    the arrays, little-endian, value after value
    header.json                   dtype, length and SHA-256 of each array, facts, and a digest of itself

In: arrays to append, facts to keep. Out: :class:`Arrays`, whose pages are read when they are touched and which the
system can evict at any time, so that a big folder costs no more memory than a small one. A folder is written under
another name, synced, and renamed: a partial one is never visible. A later writer continues what a killed writer left,
if every byte of it is what its last note says; otherwise it starts over.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "squares"
    >>> with ArrayWriter(folder, {"squares": "<i4"}) as writer:
    ...     writer.append("squares", np.arange(4) ** 2)
    ...     published = writer.publish({"note": "four of them"})
    >>> published.arrays["squares"].tolist(), published.facts
    ([0, 1, 4, 9], {'note': 'four of them'})
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from engine.canonical import CHUNK_BYTES, digest_file, digest_json, pretty_json, sealed, unsealed, write_atomic
from engine.locks import take
from engine.temporary import fsync_dir

HEADER, NOTE = "header.json", "note.json"
HEADER_SEAL, NOTE_SEAL = "header_sha256", "note_sha256"
# Up to this size every byte is checked whenever a folder is opened (about 0.1 s); above, only sizes and the header.
CHECKED_BYTES = 64 << 20
Array = NDArray[Any]
Facts = Mapping[str, Any]  # JSON values


class Column(TypedDict):
    """One array in the header."""

    dtype: str
    length: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Arrays:
    """The arrays by name (read-only), the facts written with them, and the digest of all their bytes."""

    arrays: Mapping[str, Array]
    facts: Facts
    digest: str


def open_arrays(folder: Path, *, verify: bool = False) -> Arrays | str:
    """Map a published folder, or return why it cannot be trusted.

    Sizes and the header are always checked, every byte in small folders or with ``verify``.
    """
    try:
        header = unsealed((folder / HEADER).read_bytes(), HEADER_SEAL)
    except FileNotFoundError:
        return f"{HEADER} is missing"
    if header is None:
        return f"{HEADER} is damaged"
    columns, facts = header["columns"], header["facts"]
    for name, column in columns.items():
        path = folder / f"{name}.bin"
        if not path.is_file() or path.stat().st_size != _bytes(column):
            return f"{path.name} is missing or has another size"
    if verify or sum(map(_bytes, columns.values())) <= CHECKED_BYTES:
        damaged = [name for name, column in columns.items() if digest_file(folder / f"{name}.bin") != column["sha256"]]
        if damaged:
            return f"{', '.join(f'{name}.bin' for name in damaged)}: not the bytes that were written"
    return Arrays({name: _map(folder, name, column) for name, column in columns.items()}, facts, header["digest"])


def _bytes(column: Column) -> int:
    return int(column["length"] * np.dtype(column["dtype"]).itemsize)


def _map(folder: Path, name: str, column: Column) -> Array:
    dtype = np.dtype(column["dtype"])
    if not column["length"]:
        return np.zeros(0, dtype)  # an empty file cannot be mapped
    # A plain array over the map: numpy's subclass would make every slice slower.
    return np.asarray(np.memmap(folder / f"{name}.bin", dtype, "r"))


def open_or_build(
    folder: Path, build: Callable[[], Arrays], on_damage: Callable[[str], None] = lambda _: None
) -> tuple[Arrays, bool]:
    """(arrays, whether they existed). ``build`` runs under the lock, unless another process built meanwhile.

    A damaged folder is reported to ``on_damage`` and built again.
    """
    opened = open_arrays(folder)
    if isinstance(opened, Arrays):
        return opened, True
    with only_builder(folder):
        opened = open_arrays(folder)
        if isinstance(opened, Arrays):
            return opened, True
        if folder.exists():
            on_damage(opened)
        return build(), False


@contextmanager
def only_builder(folder: Path) -> Iterator[None]:
    """Hold the kernel lock of this folder's name; waits while another process holds it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f"{folder.name}.lock")
    with path.open("ab", buffering=0) as stream:
        take(stream, path, wait=True)
        yield


class ArrayWriter:
    """Appends to the arrays of a folder that is not visible yet. Hold :func:`only_builder` around it."""

    def __init__(self, folder: Path, dtypes: Mapping[str, str], key: object = None) -> None:
        """``key``: what the content is made from; a partial folder of another key is discarded."""
        self._final, self._staging = folder, folder.with_name(f"{folder.name}.partial")
        self._dtypes, self._key = dict(dtypes), digest_json(key)
        self._hashers = {name: hashlib.sha256() for name in dtypes}
        self._lengths = dict.fromkeys(dtypes, 0)
        self.note: Mapping[str, int] | None = self._resume()
        if self.note is None:
            self._hashers = {name: hashlib.sha256() for name in dtypes}
            self._lengths = dict.fromkeys(dtypes, 0)
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging.mkdir(parents=True)
        self._streams: dict[str, IO[bytes]] = {name: self._path(name).open("ab") for name in dtypes}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if isinstance(error, OSError):  # a full disk needs the space
            shutil.rmtree(self._staging, ignore_errors=True)

    def append(self, name: str, values: Array) -> None:
        """Add values to an array. Raises ValueError if its dtype cannot hold one of them."""
        dtype = np.dtype(self._dtypes[name])
        if values.dtype != dtype:
            converted = values.astype(dtype)
            if not np.array_equal(converted, values):
                raise ValueError(f"{name}: a value does not fit into {dtype}")
            values = converted
        data = values.tobytes()
        self._streams[name].write(data)
        self._hashers[name].update(data)
        self._lengths[name] += len(values)

    def length(self, name: str) -> int:
        """Values in an array so far."""
        return self._lengths[name]

    def remember(self, note: Mapping[str, int]) -> None:
        """Let a later writer continue from here; it finds ``note`` in its own :attr:`note`."""
        for stream in self._streams.values():
            stream.flush()
        values = {"key": self._key, "note": note, "columns": self._columns()}
        write_atomic(self._staging / NOTE, pretty_json(sealed(values, NOTE_SEAL)))

    def publish(self, facts: Facts) -> Arrays:
        """Sync, write the header, rename. Replaces an earlier folder of this name."""
        for stream in self._streams.values():
            stream.flush()
            os.fsync(stream.fileno())
        self._close()
        (self._staging / NOTE).unlink(missing_ok=True)
        columns = self._columns()
        digest = digest_json(columns)
        header = {"columns": columns, "facts": dict(facts), "digest": digest}
        write_atomic(self._staging / HEADER, pretty_json(sealed(header, HEADER_SEAL)))
        shutil.rmtree(self._final, ignore_errors=True)
        os.rename(self._staging, self._final)
        fsync_dir(self._final.parent)
        arrays = {name: _map(self._final, name, column) for name, column in columns.items()}
        return Arrays(arrays, facts, digest)

    def _columns(self) -> dict[str, Column]:
        return {
            name: {"dtype": dtype, "length": self._lengths[name], "sha256": self._hashers[name].hexdigest()}
            for name, dtype in self._dtypes.items()
        }

    def _resume(self) -> Mapping[str, int] | None:
        """The last note of an earlier writer, its files truncated to it; None if they are not what it says."""
        try:
            progress = unsealed((self._staging / NOTE).read_bytes(), NOTE_SEAL)
            if progress is None or progress["key"] != self._key or progress["columns"].keys() != self._dtypes.keys():
                return None
            for name, column in progress["columns"].items():
                self._truncate(name, column)
            note: Mapping[str, int] = progress["note"]
        except OSError:
            return None
        return note if self._columns() == progress["columns"] else None

    def _truncate(self, name: str, column: Column) -> None:
        os.truncate(self._path(name), _bytes(column))
        self._lengths[name] = column["length"]
        with self._path(name).open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                self._hashers[name].update(chunk)

    def _path(self, name: str) -> Path:
        return self._staging / f"{name}.bin"

    def _close(self) -> None:
        for stream in self._streams.values():
            with suppress(OSError):  # what matters was flushed, and a failed flush has been raised
                stream.close()
