"""What git makes of the files that are to be committed: which it ignores, and which bytes a commit has of them.

In: the project's folder and the files' names in it, with ``/``. Out: names, with the rule that ignores them, or whose bytes git
would store otherwise (line ends, a filter such as Git LFS's); and the entries of a commit's tree.

    ignored(root, names)                    # {"submission_runs/v1/metrics.jsonl": ".gitignore:3: *.jsonl"}
    blobs(root, names)                      # git's names of the bytes as they are on the disk
    committed_blobs(root, sha, folder)      # of the bytes that a clone gets

git is asked with the person's own settings: it is their commit, and their exclude file and their filters hold for it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.pipeline import git

# Attributes by which git stores other bytes than a file has -> what takes them back.
_CURES = {"filter": "-filter", "ident": "-ident", "working-tree-encoding": "!working-tree-encoding"}
_NOT_SET = ("unspecified", "unset")


def answer(done: subprocess.CompletedProcess[bytes], what: str) -> bytes:
    """Its standard output. Raises NoAnswer, with what git said, where it failed."""
    if done.returncode != 0:
        output = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace")[-2000:]
        raise git.NoAnswer(f"{what} refused (exit status {done.returncode})",
                           f"the output of git:\n{output}")  # fmt: skip
    return done.stdout


def ignored(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Name -> the rule that ignores it, as ``file:line: pattern``. What git tracks already is not ignored."""
    asked = b"".join(os.fsencode(f"./{name}") + b"\0" for name in names)
    done = git.run(root, "check-ignore", "-v", "-z", "--stdin", data=asked)
    if done.returncode == 1:
        return {}
    fields = _fields(answer(done, "git check-ignore"))
    rules = zip(*(fields[start::4] for start in range(4)), strict=True)
    return {
        name.removeprefix("./"): f"{source}:{line}: {pattern}"
        for source, line, pattern, name in rules
        if not pattern.startswith("!")  # with -v git lists those too that a later rule takes in again
    }


def blobs(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Name -> git's name of the bytes that the file has on the disk."""
    done = git.run(root, "hash-object", "--no-filters", "--", *names)
    return dict(zip(names, answer(done, "git hash-object").decode().split(), strict=True))


def stored_otherwise(root: Path, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Name -> the attributes that make git store other bytes; none of them set: it would change the line ends."""
    done = git.run(root, "hash-object", "--", *names)
    attributes = _attributes(root, names)
    if done.returncode != 0 and any(attributes.values()):  # a filter that is required and not installed
        return {name: found for name, found in attributes.items() if found}
    stored = dict(zip(names, answer(done, "git hash-object").decode().split(), strict=True))
    written = blobs(root, names)
    return {name: attributes[name] for name in names if stored[name] != written[name]}


def attribute_line(root: Path, folder: str, attributes: Sequence[Mapping[str, str]]) -> tuple[str, str]:
    """The line that makes git store the folder's bytes as they are, and the file that it goes into, which is the one that decides."""
    first = folder.split("/", maxsplit=1)[0]
    cures = ["-text", *dict.fromkeys(_CURES[name] for found in attributes for name in found)]
    for parent in [Path(folder), *Path(folder).parents[:-1]]:
        if (root / parent / ".gitattributes").is_file():  # it outranks that of the project
            return f"* {' '.join(cures)}", f"{parent.as_posix()}/.gitattributes"
    return f"/{first}/** {' '.join(cures)}", ".gitattributes"


def committed_blobs(root: Path, sha: str, folder: str) -> dict[str, str]:
    """Name -> git's name of its bytes, for every file below the folder in the commit."""
    rows = _fields(git.ask(root, "ls-tree", "-r", "-z", sha, "--", f"{folder}/"))
    parted = (row.partition("\t") for row in rows)
    return {name: head.split(" ")[2] for head, _, name in parted}


def changed_elsewhere(root: Path, sha: str, folder: str) -> list[str]:
    """What the commit changes outside the folder, by its path in the repository."""
    prefix = os.fsdecode(git.ask(root, "rev-parse", "--show-prefix").removesuffix(b"\n"))
    names = _fields(git.ask(root, "diff-tree", "-r", "--root", "-z", "--name-only", "--no-commit-id", sha))
    return [name for name in names if not name.startswith(f"{prefix}{folder}/")]


def _attributes(root: Path, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Name -> those of :data:`_CURES` that are set for it, with their values."""
    fields = _fields(answer(git.run(root, "check-attr", "-z", *_CURES, "--", *names), "git check-attr"))
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for name, attribute, value in zip(fields[0::3], fields[1::3], fields[2::3], strict=True):
        if value not in _NOT_SET:
            found[name][attribute] = value
    return found


def _fields(output: bytes) -> list[str]:
    """The fields of an answer that git has ended with NUL."""
    return [os.fsdecode(field) for field in output.split(b"\0")[:-1]]
