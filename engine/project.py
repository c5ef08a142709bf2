"""Begin a project: a shipped run-spec, the files it refers to, the schema for the editor, a marker, what git must know.

In: a preset or an example of :mod:`engine.gallery`, and a folder. Out: files that ``runspec validate`` and
``runspec plan`` take as they are. No existing file is overwritten without ``force``; each file is written atomically.

    made = init(shipped()["chat"].path, Path("."), kinds=handlers())
    made.written     # ("runspecs/chat.yaml", "evalsets/library.jsonl", "data/chat.jsonl", …)
    made.first       # what has to be typed before the run-spec is complete: here nothing
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine import gallery
from engine.canonical import JsonMapping, pretty_json, write_atomic
from engine.errors import Diagnostic, InputInvalid, RunFailed
from engine.os_errors import hint_for
from engine.temporary import remove_leftovers

MARKER = ".runspec"
GITIGNORE = (
    "# heavy artifacts, caches and journals of runspec; evidence is meant to be committed\n/.runspec/\n/submission/\n"
)
# Without it, evidence that was committed does not verify in a checkout with core.autocrlf, or one that stores pointers (Git LFS).
GITATTRIBUTES = (
    "# digests are over bytes: git must not change the line ends of what runs read and write\n"
    "/submission_runs/** -text -filter\n"
    + "".join(f"/{folder}/** -text\n" for folder in ("runspecs", "evalsets", "data", "templates"))
)
# file -> (our lines, whether a line says that they are there)
GIT_FILES: Mapping[str, tuple[str, Callable[[bytes], bool]]] = {
    ".gitattributes": (GITATTRIBUTES, lambda line: line.split()[:2] == [b"/submission_runs/**", b"-text"]),
    ".gitignore": (GITIGNORE, lambda line: line.strip().strip(b"/") == MARKER.encode()),
}


@dataclass(frozen=True, slots=True)
class Project:
    """What ``init`` made. ``written`` and ``kept`` (equal already) are paths relative to ``root``.

    ``first``: commands for what cannot be shipped, a model of one's own and the installation of a plug-in.
    """

    root: Path
    spec: str
    written: tuple[str, ...]
    kept: tuple[str, ...]
    first: tuple[str, ...]


def project_files(spec: Path, kinds: JsonMapping) -> dict[str, str]:
    """Everything ``init`` writes, by path relative to the project."""
    from engine.runspec import schema_document

    return {**gallery.project_files(spec), gallery.SCHEMA_PATH: pretty_json(schema_document(kinds))}


def init(spec: Path, root: Path, *, kinds: JsonMapping, force: bool = False) -> Project:
    """Write the project. Raises InputInvalid (U111) listing every file that is there and differs."""
    files = project_files(spec, kinds)
    if root.exists() and not root.is_dir():
        raise InputInvalid("U111", f"{root} is a file, not a folder")
    kept = tuple(name for name, text in files.items() if _holds(root / name, text))
    different = [name for name in files if name not in kept and os.path.lexists(root / name)]
    if different and not force:
        raise InputInvalid.of(
            [Diagnostic("U111", f"{root / name} is there already and differs", hint="--force overwrites it, "
                        "--dir writes elsewhere") for name in different]
        )  # fmt: skip
    written = tuple(name for name in files if name not in kept)
    try:
        (root / MARKER).mkdir(parents=True, exist_ok=True)
        for name in (*files, *GIT_FILES):
            remove_leftovers((root / name).parent, Path(name).name.__eq__)
        for name in written:
            write_atomic(root / name, files[name])
        extended = [name for name, (ours, is_ours) in GIT_FILES.items() if _extend(root / name, ours, is_ours)]
    except OSError as error:
        raise RunFailed("U115", f"cannot write {error.filename or root}: {error.strerror or error}",
                        hint=hint_for(error.errno) or "choose a folder where this user may write: --dir DIR") from error  # fmt: skip
    first = tuple(gallery.commands_before(spec))
    return Project(root, f"runspecs/{spec.name}", (*written, *extended), kept, first)


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def _extend(path: Path, ours: str, is_ours: Callable[[bytes], bool]) -> bool:
    """Add our lines to a file of the project, its own bytes left as they are; False where they are there."""
    before = path.read_bytes() if path.is_file() else b""
    if any(map(is_ours, before.splitlines())):
        return False
    joint = b"" if not before or before.endswith((b"\n", b"\r")) else b"\n"
    write_atomic(path, before + joint + ours.encode())
    return True
