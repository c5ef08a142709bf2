"""TensorBoard: event files, written without its library, read by TensorBoard.

The library's own writer imports TensorFlow where that is installed (Kaggle's images have it), and TensorFlow takes hold
of the accelerator this process trains on. The format is small: a file is a list of records,

    length u64 | masked CRC-32C of it u32 | bytes | masked CRC-32C of them u32          (little-endian)

each an ``Event`` message of protocol buffers: wall_time = 1 double, step = 2 int64, file_version = 3 string,
summary = 5 {value = 1 {tag = 1 string, simple_value = 2 float}}. Sources: tensorboard/compat/proto/event.proto and
summary.proto, tensorboard/summary/writer/record_writer.py; CRC-32C is Castagnoli's, RFC 3720 appendix B.4.

    logger = open_run(facts)                 # facts.folder/events.out.tfevents.<seconds>.<host>.<process>
    logger.row(7, {"loss": 2.5})             # one record: complete or absent, whatever happens to the process

Each process writes a file of its own; TensorBoard shows them as one curve. Every reader ignores a partial record that a
killed process left at the end of its file.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.trainer.tracking.loggers import RunFacts

PATTERN = "events.out.tfevents.*"
VERSION = b"brain.Event:2"
DOUBLE, VARINT, BYTES, FLOAT = 1, 0, 2, 5  # wire types
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reflected
_WORD = 0xFFFFFFFF


class EventFile:
    """One new event file beside those of earlier processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.last_step = max((step for path in folder.glob(PATTERN) for step in steps_of(path)), default=0)
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{time.time_ns()}"
        self._stream = (folder / name).open("xb")
        self._write(_field(3, BYTES, VERSION))

    @property
    def where(self) -> str:
        """The command that shows the run."""
        return f"tensorboard --logdir {self._folder}"

    def row(self, train_step: int, metrics: Mapping[str, float]) -> None:
        """One event with all numbers of the row."""
        values = b"".join(
            _field(1, BYTES, _field(1, BYTES, tag.encode()) + _field(2, FLOAT, value)) for tag, value in metrics.items()
        )
        self._write(_field(2, VARINT, train_step) + _field(5, BYTES, values))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _write(self, message: bytes) -> None:
        self._stream.write(record(_field(1, DOUBLE, time.time()) + message))
        self._stream.flush()


def open_run(facts: RunFacts) -> EventFile:
    """A new file in the run's folder."""
    return EventFile(facts.folder)


def record(message: bytes) -> bytes:
    """The message with its length and both checksums."""
    length = struct.pack("<Q", len(message))
    return length + _checksum(length) + message + _checksum(message)


def steps_of(path: Path) -> Iterator[int]:
    """The train steps of the complete records of a file."""
    data = path.read_bytes()
    start = 0
    while start + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, start)
        message = data[start + 12 : start + 12 + length]
        end = start + 16 + length
        if end > len(data) or data[end - 4 : end] != _checksum(message):
            return  # torn
        yield from (value for number, value in _varints(message) if number == 2)
        start = end


def crc32c(data: bytes) -> int:
    """CRC-32C.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    register = _WORD
    for byte in data:
        register = _TABLE[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ _WORD


def _table() -> tuple[int, ...]:
    entries = []
    for entry in range(256):
        for _ in range(8):
            entry = (entry >> 1) ^ (_POLYNOMIAL if entry & 1 else 0)  # noqa: PLW2901 - eight turns of one register
        entries.append(entry)
    return tuple(entries)


_TABLE = _table()


def _checksum(data: bytes) -> bytes:
    """Masked, so that a checksum of bytes that hold checksums is no weaker (as in LevelDB)."""
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & _WORD)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(0x80 | (value & 0x7F))
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _field(number: int, wire: int, value: float | bytes) -> bytes:
    key = _varint(number << 3 | wire)
    if isinstance(value, bytes):
        return key + _varint(len(value)) + value
    if wire == VARINT:
        return key + _varint(int(value))
    return key + struct.pack("<d" if wire == DOUBLE else "<f", value)


def _varints(message: bytes) -> Iterator[tuple[int, int]]:
    """(field number, value) of the top-level varints of a message."""
    offset = 0
    while offset < len(message):
        key, offset = _read_varint(message, offset)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, offset = _read_varint(message, offset)
            yield number, value
        elif wire == BYTES:
            size, offset = _read_varint(message, offset)
            offset += size
        else:
            offset += 8 if wire == DOUBLE else 4


def _read_varint(message: bytes, offset: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[offset]
        value, offset, shift = value | (byte & 0x7F) << shift, offset + 1, shift + 7
        if not byte & 0x80:
            return value, offset
