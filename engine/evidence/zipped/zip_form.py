"""What a zip says of itself, read before any library reads its directory: the plain form of a package, or the reason why not.

In: an open file. Out: nothing, or :class:`NotPlain` with one sentence. A directory of a million entries costs a
library minutes and gigabytes, so the count is read first; headers that contradict each other are told apart here, since what
one program unpacks would not be what another one shows.

    with path.open("rb") as stream:
        require_plain(stream, most_members=200)
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

END, DIRECTORY, LOCAL, END_64 = b"PK\x05\x06", b"PK\x01\x02", b"PK\x03\x04", b"PK\x06\x07"
STORED, DEFLATED = 0, 8
METHODS = {STORED: "stored", DEFLATED: "deflated"}
ENCRYPTED = 0x1 | 0x40 | 0x2000
DESCRIPTOR, UTF8 = 0x8, 0x800
MAX_ENTRY_BYTES = 1 << 10  # of one member in the directory: its name, and what other programs add
DESCRIPTOR_BYTES = (12, 16, 20, 24)  # after a member that was written without knowing its size
IN_ZIP64 = 0xFFFFFFFF


class NotPlain(Exception):
    """Why the zip is not one that a package could be."""


@dataclass(frozen=True, slots=True)
class _Entry:
    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int


def require_plain(stream: BinaryIO, most_members: int) -> None:
    """Raises NotPlain, or OSError. Reads the end, the directory and the members' headers, and no member."""
    length = os.fstat(stream.fileno()).st_size
    begin, size, count = _end(stream, length, most_members)
    stream.seek(begin)
    entries = _directory(stream.read(size), count)
    _members(stream, entries, begin)


def _end(stream: BinaryIO, length: int, most_members: int) -> tuple[int, int, int]:
    """(offset of the directory, its bytes, its entries) from the last 22 bytes, which a package ends with."""
    stream.seek(max(0, length - 42))
    tail = stream.read(42)
    last = tail[-22:]
    if len(last) < 22 or not last.startswith(END):
        raise NotPlain("this is not a complete zip: it does not end with the end of a directory")
    disk, first_disk, here, count, size, begin, comment = struct.unpack("<4H2LH", last[4:])
    if disk or first_disk or here != count:
        raise NotPlain("it is one part of a zip of several disks")
    if tail[:-22].startswith(END_64) or count == 0xFFFF or IN_ZIP64 in (size, begin):
        raise NotPlain("it is a zip64, which a package never needs")
    if comment:
        raise NotPlain("its end announces a comment")
    if count > most_members:
        raise NotPlain(f"{count} members, more than {most_members}")
    if size > count * MAX_ENTRY_BYTES:
        raise NotPlain(f"its directory has {size} bytes for {count} members")
    if begin + size != length - 22:
        raise NotPlain("there is data before the zip, or after its directory")
    return begin, size, count


def _directory(data: bytes, count: int) -> list[_Entry]:
    entries, at = [], 0
    for _ in range(count):
        fields = data[at : at + 46]
        if len(fields) < 46 or not fields.startswith(DIRECTORY):
            raise NotPlain("its directory has fewer entries than it says")
        values = struct.unpack("<4x2x2x2H4xLLL3H2H4xL", fields)
        flags, method, crc, packed, size, named, extra, comment, disk, _, offset = values
        name = data[at + 46 : at + 46 + named]
        entries.append(_Entry(name, flags, method, crc, packed, size, offset))
        _plain_entry(entries[-1], disk)
        at += 46 + named + extra + comment
    if at != len(data):
        raise NotPlain("its directory is longer than its entries")
    return entries


def _plain_entry(entry: _Entry, disk: int) -> None:
    name = shown(entry.name)
    if not entry.name:
        raise NotPlain("a member has no name")
    if entry.flags & ENCRYPTED:
        raise NotPlain(f"{name} is encrypted")
    if entry.method not in METHODS:
        raise NotPlain(
            f"{name} is packed by method {entry.method}: only {' and '.join(METHODS.values())} members are read"
        )
    if disk or IN_ZIP64 in (entry.packed, entry.size, entry.offset):
        raise NotPlain(f"{name} is on another disk, or of a zip64")
    if entry.method == STORED and entry.packed != entry.size:
        raise NotPlain(f"{name} is stored, with two sizes")
    try:
        text = entry.name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotPlain(f"{name} is not a name in UTF-8") from error
    if not text.isascii() and not entry.flags & UTF8:
        raise NotPlain(f"{name} does not say in which encoding it is")


def _members(stream: BinaryIO, entries: list[_Entry], begin: int) -> None:
    """Members follow each other from the first byte to the directory, and say of themselves what the directory says."""
    at = 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        name = shown(entry.name)
        gap = entry.offset - at
        if gap < 0:
            raise NotPlain(f"{name} overlaps with another member")
        if gap:
            raise NotPlain(f"there are {gap} bytes before {name} that belong to no member")
        at = entry.offset + _local_bytes(stream, entry) + entry.packed
        if entry.flags & DESCRIPTOR:
            following = min((other.offset for other in entries if other.offset > entry.offset), default=begin)
            if following - at not in DESCRIPTOR_BYTES:
                raise NotPlain(f"{name} does not end where it says")
            at = following
        if at > begin:
            raise NotPlain(f"{name} reaches into the directory")
    if at != begin:
        raise NotPlain(f"there are {begin - at} bytes before the directory that belong to no member")


def _local_bytes(stream: BinaryIO, entry: _Entry) -> int:
    """The length of the member's own header, which must agree with its entry in the directory."""
    stream.seek(entry.offset)
    fields = stream.read(30)
    if len(fields) < 30 or not fields.startswith(LOCAL):
        raise NotPlain(f"{shown(entry.name)} is not where the directory says")
    flags, method, crc, packed, size, named, extra = struct.unpack("<4x2x2H4xLLL2H", fields)
    same_sizes = (crc, packed, size) == (entry.crc, entry.packed, entry.size)
    unknown = bool(flags & DESCRIPTOR) and (crc, packed, size) == (0, 0, 0)
    same = flags == entry.flags and method == entry.method and stream.read(named) == entry.name
    if not same or not (same_sizes or unknown):
        raise NotPlain(f"{shown(entry.name)} and its entry in the directory say different things")
    return 30 + int(named) + int(extra)


def shown(name: bytes | str) -> str:
    """A member's name in a finding, in plain letters."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    return text.encode("unicode_escape").decode()[:80]
