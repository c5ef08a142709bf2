"""Evidence whose line ends were changed on the way (git with core.autocrlf, an editor, a transfer): told from evidence that was forged.

In: the files of a bundle. Out: the names of those that are what the manifest lists once their line ends are turned back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.canonical import digest_bytes


def changed_line_ends(files: Mapping[str, bytes], manifest: str) -> list[str]:
    """Names, sorted. ``manifest`` is the name of the file that lists the digests; every line of it was written with ``\\n``.

    >>> line = digest_bytes(b"a\\n").encode() + b"  x.txt"
    >>> changed_line_ends({"x.txt": b"a\\r\\n", "list": line + b"\\r\\n"}, "list")
    ['list', 'x.txt']
    >>> changed_line_ends({"x.txt": b"b\\n", "list": line + b"\\n"}, "list")
    []
    """
    lines = files.get(manifest, b"")
    changed = {manifest} if b"\r\n" in lines else set()
    listed = {line[66:]: line[:64] for line in lines.decode(errors="replace").splitlines()}  # each file digested once
    for name, digest in listed.items():
        data = files.get(name)
        if data is not None and digest_bytes(data) != digest and digest in map(digest_bytes, _turned_back(data)):
            changed.add(name)
    return sorted(changed)


def _turned_back(data: bytes) -> tuple[bytes, bytes]:
    unix = data.replace(b"\r\n", b"\n")
    return unix, unix.replace(b"\n", b"\r\n")


def sentence(names: Sequence[str]) -> str:
    """The one finding about these files."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f"line ends were changed in {', '.join(names[:3])}{more}: write `/submission_runs/** -text` into .gitattributes, "
        "and get these files again from where they are unchanged"
    )
