"""The checkout that a run starts from: its commit, and whether the project's files are that commit's.

In: the project's folder and the paths that runs write. Out: :class:`Checkout`. What git cannot say is unknown, with its reason,
and never counts as clean.

    checkout = read_checkout(root, ["submission_runs/m36_v1", "submission"])
    checkout.commit, checkout.dirty, checkout.digest, checkout.unknown

The digest of the change covers what is on the disk (path, kind and content of every changed or new entry), not git's text of the
difference, which depends on its version and on the person's settings. Of what git ignores, only the checkout's own .gitignore
files are asked: a stranger has no other ones. A run's evidence that is not committed yet is not a change of what is run.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from engine.canonical import CHUNK_BYTES
from engine.evidence import evidence_names
from engine.pipeline import git

OVERLOOKED = "the git checkout around the project has none of its files and ignores them"
STORE = ":(exclude,literal).runspec"  # git need not look into it
KINDS = {
    stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip
_FIELDS_BEFORE_PATH = {b"1": 8, b"2": 9, b"u": 10}  # of `git status --porcelain=v2`


@dataclass(frozen=True, slots=True)
class Checkout:
    """``commit`` and ``dirty`` are None where git could not say: then ``unknown`` is the reason, ``cure`` what to type.

    ``digest``: of the uncommitted change, None without one.
    """

    commit: str | None = None
    dirty: bool | None = None
    digest: str | None = None
    unknown: str | None = None
    cure: str | None = None

    def facts(self) -> dict[str, str | bool | None]:
        """The keys of the record's ``environment``; ``commit_unknown`` only where something is unknown."""
        facts: dict[str, str | bool | None] = {
            "commit_sha": self.commit, "commit_dirty": self.dirty, "diff_sha256": self.digest,
        }  # fmt: skip
        return facts | ({"commit_unknown": self.unknown} if self.unknown else {})


def read_checkout(root: Path, generated: Collection[str]) -> Checkout:
    """``generated``: paths in the project that this run writes. Never raises for what git says."""
    commit = None
    try:
        commit = git.commit_of(root)
        changed = sorted(_changed(root, generated))
        if not changed and _is_overlooked(root):
            return Checkout(unknown=OVERLOOKED, cure="git init && git add . && git commit -m 'first commit'")
    except git.NoAnswer as error:
        return Checkout(commit, unknown=error.reason, cure=error.cure)
    if not changed:
        return Checkout(commit, dirty=False)
    hasher = hashlib.sha256()
    for name in changed:
        _add(hasher, name, *entry_digest(root / name))
    return Checkout(commit, dirty=True, digest=hasher.hexdigest())


def entry_digest(path: Path) -> tuple[str, str]:
    """Kind and content of anything that can lie in a folder. A link is not followed, what cannot be read is named.

    >>> entry_digest(Path("/dev/null"))
    ('a device', '')
    """
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            return "a link", os.readlink(path)  # noqa: PTH115 - Path.readlink() cannot hold every target
        if stat.S_ISREG(mode):
            return "a program" if mode & stat.S_IXUSR else "a file", _file_digest(path)
        if stat.S_ISDIR(mode):
            return "a folder", _folder_digest(path)
        return KINDS.get(stat.S_IFMT(mode), "something else"), ""
    except (FileNotFoundError, NotADirectoryError):
        return "removed", ""
    except OSError as error:
        return "unreadable", error.strerror or type(error).__name__


def _file_digest(path: Path) -> str:
    hasher = hashlib.sha256()
    # Not blocking: between lstat and open it may have become a pipe.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:  # noqa: PTH123 - a descriptor
        while chunk := stream.read(CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()


def _folder_digest(folder: Path) -> str:
    """Of a repository inside the checkout (git names it, not its files): every entry but its own .git."""
    hasher, open_folders = hashlib.sha256(), [folder]
    while open_folders:
        for entry in sorted(open_folders.pop().iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                open_folders += [entry] * (entry.name != ".git")
            else:
                _add(hasher, entry.relative_to(folder).as_posix(), *entry_digest(entry))
    return hasher.hexdigest()


def _add(hasher: hashlib._Hash, *parts: str) -> None:
    for part in parts:
        hasher.update(part.encode(errors="surrogateescape") + b"\0")


def _changed(root: Path, generated: Collection[str]) -> Iterator[str]:
    """Paths in the project that differ from the commit, or that it does not have. Raises NoAnswer."""
    prefix = git.ask(root, "rev-parse", "--show-prefix").removesuffix(b"\n")
    names = {name.removeprefix(prefix) for name in _tracked(root)} | _untracked(root) | _hidden(root)
    is_evidence = _evidence_test(root)
    ours = [PurePosixPath(path) for path in generated]
    for name in map(os.fsdecode, names):
        path = PurePosixPath(name)
        if not any(path.is_relative_to(folder) for folder in ours) and not is_evidence(path):
            yield name.rstrip("/")


def _is_overlooked(root: Path) -> bool:
    """Whether the repository around has none of the project's files and ignores them all: its commit is not the project's."""
    is_there = any(entry.name not in (".git", ".runspec") for entry in root.iterdir())
    return is_there and not git.ask(root, "ls-files", "-z", "--", ".")


def _tracked(root: Path) -> Iterator[bytes]:
    """Changed tracked paths, relative to the repository's top. git compares contents where a time or size differs."""
    output = git.ask(
        root, "status", "--porcelain=v2", "-z", "--no-renames", "--untracked-files=no", "--ignore-submodules=none", "--", ".", STORE
    )  # fmt: skip
    for row in filter(None, output.split(b"\0")):
        yield row.split(b" ", _FIELDS_BEFORE_PATH[row[:1]])[-1]


def _untracked(root: Path) -> set[bytes]:
    output = git.ask(root, "ls-files", "--others", "--exclude-per-directory=.gitignore", "-z", "--", ".", STORE)
    return set(filter(None, output.split(b"\0")))


def _hidden(root: Path) -> set[bytes]:
    """Changed files that git was told to overlook (`update-index --assume-unchanged`, a sparse checkout)."""
    changed = set()
    for row in git.ask(root, "ls-files", "-v", "-s", "-z", "--", ".", STORE).split(b"\0"):
        flag = row[:1]
        if flag and (flag.islower() or flag == b"S"):
            head, _, name = row.partition(b"\t")
            path = root / os.fsdecode(name)
            if os.path.lexists(path) and _blob(root, path, os.fsdecode(name)) != head.split(b" ")[2]:
                changed.add(name)
    return changed


def _blob(root: Path, path: Path, name: str) -> bytes | None:
    """git's own name for the content of a file or link, after the checkout's filters."""
    if path.is_symlink():
        return git.ask(root, "hash-object", "--stdin", data=os.fsencode(os.readlink(path))).strip()  # noqa: PTH115
    return git.ask(root, "hash-object", "--", name).strip() if path.is_file() else None


def _evidence_test(root: Path) -> Callable[[PurePosixPath], bool]:
    """Whether a path in the project is a file of some run's evidence folder."""

    @cache
    def names_in(folder: PurePosixPath) -> frozenset[str]:
        return evidence_names(root / folder) if folder.parts else frozenset()

    return lambda path: path.name in names_in(path.parent)
