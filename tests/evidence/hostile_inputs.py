"""Evidence that a stranger made to crash the reader, to hold it, or to show two programs two things.

In: a folder of good evidence. Out: :data:`CASES`, each a name, a function that writes the input, and what its refusal says.
Everything is refused by ``verify``: contents and zips with exit code 5 and a finding, a path that is no file with 2.
"""

from __future__ import annotations

import bz2
import io
import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.canonical import digest_bytes

Files = dict[str, bytes]
Make = Callable[[Files, Path], Path]
TOP = "toy_v1"


@dataclass(frozen=True)
class Case:
    """One hostile input. ``finding``: a pattern for what the refusal says; ``is_large``: 50 MB and more of work."""

    name: str
    make: Make
    finding: str
    exit_code: int = 5
    is_large: bool = False


@dataclass
class Member:
    """A member as the zip's two headers describe it; ``local`` overrides what its own header says."""

    name: bytes
    data: bytes
    method: int = 0
    flags: int | None = (
        None  # None: as `package` writes it, whose names say that they are UTF-8 where they are not ASCII
    )
    mode: int = 0o100644
    packed: bytes | None = None
    size: int | None = None
    crc: int | None = None
    extra: bytes = b""
    before: bytes = b""
    after: bytes = b""
    disk: int = 0
    local: Mapping[str, object] | None = None
    same_place_as_before: bool = False


def raw_zip(members: list[Member], **end: int | bytes) -> bytes:
    """A zip whose every field can lie. ``end``: fields of its last record, and ``prefix``, ``suffix``, ``locator``."""
    out, directory, at = bytearray(bytes(end.get("prefix", b""))), bytearray(), 0
    for member in members:
        packed = member.data if member.packed is None else member.packed
        crc = zlib.crc32(member.data) if member.crc is None else member.crc
        flags = (0 if member.name.isascii() else 0x800) if member.flags is None else member.flags
        fields = {"name": member.name, "flags": flags, "method": member.method, "crc": crc,
                  "packed": len(packed), "size": len(member.data) if member.size is None else member.size}  # fmt: skip
        if not member.same_place_as_before:
            out += member.before
            at = len(out)
            own = {**fields, **(member.local or {})}
            out += struct.pack("<4s5H3L2H", b"PK\3\4", 20, own["flags"], own["method"], 0, 33, own["crc"], own["packed"],
                               own["size"], len(own["name"]), len(member.extra))  # fmt: skip
            out += own["name"] + member.extra + packed + member.after
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 0x314, 20, fields["flags"], fields["method"], 0, 33, crc,
                                 fields["packed"], fields["size"], len(member.name), 0, 0, member.disk, 0,
                                 member.mode << 16, at)  # fmt: skip
        directory += member.name
    begin = len(out) + int(end.get("shift", 0))
    count = int(end.get("count", len(members)))
    out += bytes(end.get("filler", b"")) + directory + bytes(end.get("locator", b""))
    comment = bytes(end.get("comment", b""))
    out += struct.pack("<4s4H2LH", b"PK\5\6", int(end.get("disk", 0)), 0, int(end.get("here", count)), count,
                       len(directory) + int(end.get("longer", 0)), begin, len(comment)) + comment  # fmt: skip
    return bytes(out) + bytes(end.get("suffix", b""))


def members_of(files: Files) -> list[Member]:
    """As ``package`` writes them."""
    return [Member(f"{TOP}/{name}".encode(), data) for name, data in sorted(files.items())]


def sealed(files: Files) -> Files:
    """With a manifest that lists what is there."""
    rest = {name: data for name, data in files.items() if name != "manifest-sha256.txt"}
    lines = "".join(f"{digest_bytes(data)}  {name}\n" for name, data in sorted(rest.items()))
    return {**rest, "manifest-sha256.txt": lines.encode()}


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _zip(change: Callable[[list[Member]], object] | None = None, **end: int | bytes) -> Make:
    def make(files: Files, folder: Path) -> Path:
        members = members_of(files)
        if change is not None:
            change(members)
        return _written(folder / "toy.zip", raw_zip(members, **end))

    return make


def _bytes(change: Callable[[bytes], bytes]) -> Make:
    return lambda files, folder: _written(folder / "toy.zip", change(raw_zip(members_of(files))))


def _first(**fields: object) -> Make:
    def change(members: list[Member]) -> None:
        for name, value in fields.items():
            setattr(members[0], name, value)

    return _zip(change)


def _more(*members: Member) -> Make:
    return _zip(lambda present: present.extend(members))


def _content(name: str, change: Callable[[bytes], bytes], *, as_zip: bool = False) -> Make:
    """One file changed, the manifest written again."""

    def make(files: Files, folder: Path) -> Path:
        forged = sealed({**files, name: change(files[name])})
        if as_zip:
            return _written(folder / "toy.zip", raw_zip(members_of(forged)))
        return _folder(forged, folder)

    return make


def _folder(files: Files, folder: Path) -> Path:
    target = folder / "forged"
    target.mkdir()
    for name, data in files.items():
        (target / name).write_bytes(data)
    return target


def _beside(write: Callable[[Path], object]) -> Make:
    """Something else in the folder."""

    def make(files: Files, folder: Path) -> Path:
        target = _folder(files, folder)
        write(target)
        return target

    return make


def _deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def _bomb(files: Files, folder: Path) -> Path:
    """400 MB of zeros in 400 kB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(400)) + packer.flush()
    bomb = Member(f"{TOP}/metrics.jsonl".encode(), b"", 8, packed=packed, size=400 << 20, crc=0)
    return _written(folder / "toy.zip", raw_zip([bomb]))


def _hidden_bomb(files: Files, folder: Path) -> Path:
    """As much, and its header says that it is 100 bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(400)) + packer.flush()
    bomb = Member(f"{TOP}/metrics.jsonl".encode(), b"", 8, packed=packed, size=100, crc=0)
    return _written(folder / "toy.zip", raw_zip([bomb]))


def _library_zip(method: int) -> Make:
    def make(files: Files, folder: Path) -> Path:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in files.items():
                archive.writestr(f"{TOP}/{name}", data)
        return _written(folder / "toy.zip", buffer.getvalue())

    return make


def _named(name: bytes, finding: str, flags: int = 0x800) -> Case:
    return Case(f"a member named {name[:30]!r}", _more(Member(name, b"x", flags=flags)), finding)


def _socket(_: Files, folder: Path) -> Path:
    os.mknod(folder / "pipe", 0o600 | 0o010000)
    return folder / "pipe"


def _sparse(target: Path) -> None:
    with (target / "metrics.jsonl").open("wb") as stream:
        stream.truncate(4 << 30)


def _field(value: bytes) -> Callable[[bytes], bytes]:
    """A JSON object, or the first line of JSONL, with one more field."""
    return lambda data: data.replace(b"{", b'{"more": ' + value + b", ", 1)


DAMAGED = r"not a complete zip"
LEVELS = 600
VALUES = {
    "a number of 401 digits": (b"1" + b"0" * 400, r"a number of 401 digits"),
    "a negative one": (b"-1" + b"0" * 400, r"a number of 401 digits"),
    "a number of 5,000 digits": (b"9" * 5000, r"a number of 5000 digits"),
    "1e999": (b"1e999", r"a number that is too large"),
    "NaN": (b"NaN", r"NaN, which JSON does not have"),
    "Infinity": (b"-Infinity", r"-Infinity, which JSON does not have"),
    "600 lists": (b"[" * LEVELS + b"]" * LEVELS, r"nested more than 64 levels"),
    "600 objects": (b'{"a":' * LEVELS + b"1" + b"}" * LEVELS, r"nested more than 64 levels"),
    "60,000 lists": (b"[" * 60_000 + b"]" * 60_000, r"nested more than 64 levels"),
    "a lone surrogate": (b'"\\ud800"', r"a lone surrogate"),
    "a lone surrogate as a key": (b'{"\\uDC80": 1}', r"a lone surrogate"),
    "no UTF-8": (b'"\xff\xfe"', r"is not UTF-8"),
    "surrogates in bytes": (b'"\xed\xa0\x80"', r"is not UTF-8"),
}
JSON_FILES = ("run_record.json", "run_manifest.json", "eval_summary.json", "metrics.jsonl", "predictions.jsonl")
OF_CONTENTS = [
    Case(
        f"{name}: {what}",
        _content(name, _field(value), as_zip=index % 2 == 0),
        rf"V01 +fail .*{re.escape(name)}: .*{why}",
    )
    for name in JSON_FILES
    for index, (what, (value, why)) in enumerate(VALUES.items())
]
WHOLE = {
    "empty": (b"", r"run_record.json is not JSON"),
    "a list": (b"[]", r"not a JSON object"),
    "null": (b"null", r"not a JSON object"),
    "UTF-16": ("{}".encode("utf-16"), r"run_record.json: is not UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf{}", r"not JSON"),
    "300,000 values": (b'{"a": [' + b"1," * 300_000 + b"1]}", r"values or so"),
    "300,000 lists": (b'{"a": [' + b"[]," * 300_000 + b"1]}", r"values or so"),
    "9 MB": (b'{"a": "' + b"x" * (9 << 20) + b'"}', r"too large"),
    "steps that are text": (b'{"steps": "none", "environment": 1, "overrides": []}', r"V0[5-8] +fail"),
    "open brackets": (b"[" * 100_000, r"values or so|nested"),
}
OF_CONTENTS += [
    Case(f"run_record.json: {what}", _content("run_record.json", lambda _, data=data: data), why)
    for what, (data, why) in WHOLE.items()
]
OF_CONTENTS += [
    Case("a log that a placeholder is searched in", _content("kaggle_output_log.txt", lambda _: b"<" + b"PENDING" * 900_000),
         r"V25 +fail", is_large=True),
    Case("a log of open brackets", _content("kaggle_output_log.txt", lambda _: b"<" * (7 << 20)), r"V25 +fail"),
    Case("a log of private keys", _content("kaggle_output_log.txt", lambda _: b"-----BEGIN " * 600_000), r"V25 +fail", is_large=True),
    Case("a line of 2 MB", _content("metrics.jsonl", lambda _: b'{"a": "' + b"x" * (2 << 20) + b'"}\n'),
         r"V01 +fail .*metrics.jsonl: line 1: \d+ bytes, more than"),
    Case("3 million values in lines", _content("metrics.jsonl", lambda _: b'{"a": [1,1,1,1]}\n' * 400_000),
         r"V01 +fail .*values or so", is_large=True),
    Case("100,000 lines that list one file", _beside(lambda target: (target / "manifest-sha256.txt").write_bytes(
        b"".join(b"%064d  metrics.jsonl\n" % number for number in range(100_000)))), r"V02 +fail"),
    Case("a run-spec of aliases", _content("runspec.yaml", lambda _: b"a: &a [x]\n" + b"".join(
        b"%c: &%c [%s]\n" % (98 + n, 98 + n, b", ".join([b"*%c" % (97 + n)] * 9)) for n in range(20))), r"V06 +fail"),
    Case("a run-spec of open brackets", _content("runspec.yaml", lambda _: b"[" * 100_000), r"V06 +fail"),
    Case("a run-spec of 1 MB", _content("runspec.yaml", lambda _: b"a: 1 #" + b"x" * (1 << 20)), r"runspec.yaml is too large"),
]  # fmt: skip

OF_FORM = [
    Case("nothing", _bytes(lambda _: b""), DAMAGED),
    Case("one byte", _bytes(lambda _: b"P"), DAMAGED),
    Case("text", _bytes(lambda _: b"this is no zip, whatever its name says, and has more than 22 bytes"), DAMAGED),
    Case("zeros", _bytes(lambda _: bytes(1 << 20)), DAMAGED),
    *(Case(f"cut at {share} %", _bytes(lambda data, share=share: data[: len(data) * share // 100]), DAMAGED)
      for share in (1, 25, 50, 75, 99)),
    Case("without its last byte", _bytes(lambda data: data[:-1]), DAMAGED),
    Case("only its end", _bytes(lambda data: data[-22:]), r"before the zip|fewer entries|after its directory"),
    Case("an empty zip", lambda _, folder: _written(folder / "toy.zip", raw_zip([])), r"X322", 2),
    Case("a byte before it", _zip(prefix=b"x"), r"before .* belong to no member"),
    Case("a program before it", _bytes(lambda data: b"\x7fELF" + bytes(1000) + data), r"data before the zip"),
    Case("a byte after it", _zip(suffix=b"x"), DAMAGED),
    Case("100 kB after it", _zip(suffix=bytes(100_000)), DAMAGED),
    Case("another zip after it", _bytes(lambda data: data + data), r"data before the zip"),
    Case("a comment", _zip(comment=b"hello"), DAMAGED),
    Case("a comment that ends as a zip", _zip(comment=raw_zip([])), r"data before the zip"),
    Case("a part of several disks", _zip(disk=1), r"several disks"),
    Case("fewer entries here", _zip(here=1), r"several disks"),
    Case("zip64 by its count", _zip(count=0xFFFF), r"zip64"),
    Case("zip64 by its locator", _zip(locator=struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)), r"zip64"),
    Case("60,000 entries", lambda _, folder: _written(folder / "toy.zip", raw_zip(
        [Member(b"t/%d" % number, b"") for number in range(60_000)])), r"60000 members, more than 200"),
    Case("a count of 60,000", _zip(count=60_000), r"60000 members, more than 200"),
    Case("a count of one more", lambda files, folder: _zip(count=len(files) + 1)(files, folder), r"fewer entries"),
    Case("a count of one less", lambda files, folder: _zip(count=len(files) - 1)(files, folder), r"longer than its entries"),
    Case("a longer directory", _zip(longer=1), r"data before the zip"),
    Case("a shorter directory", _zip(longer=-1), r"data before the zip"),
    Case("a directory elsewhere", _zip(shift=1), r"data before the zip"),
    Case("a directory at 4 GB", _zip(shift=0xFF000000), r"data before the zip"),
    Case("bytes before the directory", _zip(filler=b"hidden"), r"data before the zip|belong to no member"),
    Case("bytes between members", _zip(lambda members: setattr(members[1], "before", b"hidden")), r"belong to no member"),
    Case("two entries for one place", _more(Member(f"{TOP}/more.txt".encode(), b"x", same_place_as_before=True)),
         r"overlaps|different things"),
    Case("a member inside another", _first(packed=b"", size=0, crc=0, after=raw_zip([Member(b"toy_v1/in", b"x")])[:40]),
         r"belong to no member"),
    Case("another name in its own header", _first(local={"name": b"toy_v1/other.jsonl"}), r"different things"),
    Case("another size in its own header", _first(local={"size": 1}), r"different things"),
    Case("another method in its own header", _first(local={"method": 8}), r"different things"),
    Case("another checksum in its own header", _first(local={"crc": 1}), r"different things"),
    Case("other flags in its own header", _first(local={"flags": 0x801}), r"different things"),
    Case("a wrong checksum", _first(crc=1), r"cannot be read: Bad CRC"),
    Case("a stored member of two sizes", _first(size=1), r"stored, with two sizes"),
    Case("a size of 4 GB", _first(size=0xFFFFFFFF, method=8), r"zip64"),
    Case("a deflated member of noise", _first(method=8), r"cannot be read|shorter than|is larger"),
    Case("a deflated member that is cut", _first(method=8, packed=_deflated(b"x" * 500)[:-3], size=500),
         r"cannot be read|shorter than"),
    Case("a deflated member larger than it says", _first(method=8, packed=_deflated(b"x" * 500), size=5),
         r"cannot be read|larger than"),
    Case("a member that reaches into the directory", _zip(lambda members: setattr(members[-1], "size", 10**6) or setattr(
        members[-1], "method", 8) or setattr(members[-1], "extra", b"")), r"cannot be read|expands|shorter"),
    Case("a descriptor that is not there", _first(flags=0x808), r"does not end where it says"),
    *(Case(f"encrypted, flag {flag:#x}", _first(flags=0x800 | flag), r"is encrypted") for flag in (0x1, 0x40, 0x2000)),
    *(Case(f"packed by method {method}", _first(method=method), rf"packed by method {method}")
      for method in (1, 2, 6, 9, 10, 12, 14, 18, 20, 93, 95, 97, 98, 99)),
    Case("packed by bzip2", _library_zip(zipfile.ZIP_BZIP2), r"packed by method 12"),
    Case("packed by LZMA", _library_zip(zipfile.ZIP_LZMA), r"packed by method 14"),
    Case("bytes of bzip2", lambda _, folder: _written(folder / "toy.zip", bz2.compress(b"x" * 1000)), DAMAGED),
    Case("bytes of xz", lambda _, folder: _written(folder / "toy.zip", lzma.compress(b"x" * 1000)), DAMAGED),
    Case("on another disk", _first(disk=1), r"on another disk"),
    Case("a bomb", _bomb, r"too large|expands", is_large=True),
    Case("a bomb that says it is small", _hidden_bomb, r"larger than its header|cannot be read", is_large=True),
    Case("1 GB in small members", _zip(lambda members: members.extend(
        Member(f"{TOP}/{number}.jsonl".encode(), b"", 8, packed=bytes(1000), size=40 << 20) for number in range(30))),
         r"expands|bytes in all"),
    Case("a link", _first(mode=0o120777), r"not a plain file"),
    Case("a pipe as a member", _first(mode=0o010644), r"not a plain file"),
    Case("a device as a member", _first(mode=0o020644), r"not a plain file"),
    Case("a folder as a member", _first(mode=0o040755), r"not a plain file"),
    _named(b"/etc/passwd", r"not a plain name"),
    _named(b"../up.txt", r"not a plain name"),
    _named(b"toy_v1/../../up.txt", r"not a plain name"),
    _named(b"toy_v1/./a.txt", r"not a plain name"),
    _named(b"toy_v1//a.txt", r"not a plain name"),
    _named(b"toy_v1\\a.txt", r"character that names must not have"),
    _named(b"C:/a.txt", r"character that names must not have"),
    _named(b"toy_v1/a:stream", r"character that names must not have"),
    _named(b"toy_v1/a\0.txt", r"character that names must not have"),
    _named(b"toy_v1/\x1b[2J.txt", r"\\x1b\[2J.txt has a character"),
    _named("toy_v1/\x9b2J.txt".encode(), r"\\x9b2J.txt has a character"),
    _named("toy_v1/\u202etxt.exe".encode(), r"\\u202etxt.exe has a character"),
    _named(b"toy_v1/a\nV24  pass", r"\\nV24  pass has a character"),
    _named(b"toy_v1/\xff.txt", r"not a name in UTF-8"),
    _named(b"toy_v1/\xed\xa0\x80.txt", r"not a name in UTF-8"),
    _named(b"toy_v1/\xe9.txt", r"not a name in UTF-8", flags=0),
    _named("toy_v1/é.txt".encode(), r"in which encoding", flags=0),
    _named(b"other/a.txt", r"do not share one folder"),
    _named(b"toy_v1/a/b.txt", r"not in the one folder"),
    _named(b"a.txt", r"not in the one folder"),
    _named(b"toy_v1/run_record.json", r"appears twice"),
    _named(b"toy_v1/RUN_RECORD.JSON", r"appears twice"),
    _named(b"toy_v1/" + b"x" * 60_000, r"bytes for \d+ members|not listed"),
    _named(b"", r"a member has no name"),
]  # fmt: skip

OF_PATHS = [
    Case("a pipe", _socket, r"V00.*pipe or a device", 2),
    Case("a device of zeros", lambda _, __: Path("/dev/zero"), r"V00.*pipe or a device", 2),
    Case("an empty folder", lambda _, folder: _folder({}, folder), r"X322", 2),
    Case("a folder with a link", _beside(lambda target: (target / "more.txt").symlink_to("/etc/passwd")), r"more.txt is a link"),
    Case("a folder with a pipe", _beside(lambda target: os.mkfifo(target / "more.txt")), r"more.txt is not a file"),
    Case("a folder with a folder", _beside(lambda target: (target / "more").mkdir()), r"more is not a file"),
    Case("a folder with a name of control characters", _beside(lambda target: (target / "\x1b[2J").write_bytes(b"")),
         r"\\x1b\[2J has a character"),
    Case("a folder with a name that is not UTF-8", _beside(lambda target: Path(os.fsdecode(bytes(target) + b"/\xff")).write_bytes(b"")),
         r"\\udcff has a character"),
    Case("a folder of 5,000 files", _beside(lambda target: [(target / str(n)).touch() for n in range(5000)]), r"X322|more than 200", 2),
    Case("a folder with a file of 4 GB", _beside(_sparse), r"metrics.jsonl is too large"),
]  # fmt: skip

CASES = [*OF_FORM, *OF_CONTENTS, *OF_PATHS]
