"""Artifacts: staged, published atomically, looked up by fingerprint; and the locks of the store.

In: a folder that a step has filled. Out: an immutable artifact at
``.runspec/store/<type>/<fingerprint>/``, whose manifest ``artifact.json`` is written before the one rename that makes it
visible. An incomplete artifact is under ``.runspec/staging/`` and is never found.

    .runspec/
      store/<type>/<fingerprint[:32]>/…, artifact.json    published
      staging/<fingerprint[:32]>/out-*, work              in progress; ``work`` survives a kill
      locks/<name>.lock                                   kernel locks: released with their process
      runs/<run_version>/journal.jsonl                    see engine.artifacts.journal
      cache/                                              losing it only costs time
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from engine.artifacts.holder import is_alive, mark_of
from engine.artifacts.manifest import MANIFEST, SHAPE, Read, fingerprint_in, manifest_text, read_manifest
from engine.artifacts.refusals import explained_reading, read_state
from engine.canonical import JsonMapping, digest_file, digest_json, digest_result, digest_tree, write_atomic
from engine.errors import LockBusy, RunFailed
from engine.locks import take
from engine.os_errors import ANY_WRITE, NO_PERMISSION, hint_for
from engine.temporary import fsync_dir, remove_leftovers

INCOMING = "incoming-"  # the beginning of a staging folder's name: what another session left, while it is checked
KEY_CHARS = 32  # of the fingerprint's 64: enough to be unique, short enough to read in a path


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a step published.

    ``digest`` covers the content of every file, without file times and, in the files that the handler lists as
    ``measured``, without measurements. Two runs of the same thing have the same digest.
    """

    type: str
    kind: str
    fingerprint: str
    digest: str
    path: Path
    files: Mapping[str, str]  # relative POSIX path -> SHA-256
    facts: JsonMapping
    started_at: str  # ISO 8601, UTC
    finished_at: str
    ingredients: JsonMapping  # the values that the fingerprint is the digest of
    is_sealed: bool = True  # False: published by an engine whose manifests had no digest of themselves

    def file(self, name: str) -> Path:
        """The absolute path of one of its files. Raises KeyError for a name it does not have."""
        if name not in self.files:
            raise KeyError(f"{self.type} artifact has no file {name!r}; it has {', '.join(self.files)}")
        return self.path / name


@dataclass(frozen=True, slots=True)
class Staging:
    """The folders of an artifact in progress.

    The files in ``out`` become the artifact. It is new at each attempt, in name too: a trainer of an earlier attempt that
    was frozen, and wakes, writes into a folder that nobody reads. ``work`` remains between attempts.
    """

    root: Path
    out: Path

    @property
    def work(self) -> Path:
        """The files here help the next attempt, and are removed when the artifact is published."""
        return self.root / "work"


class Store:
    """The artifacts of one project."""

    def __init__(self, project: Path) -> None:
        self.root = project / ".runspec"

    @property
    def cache(self) -> Path:
        """A folder for data that can be computed again."""
        return self.root / "cache"

    def home(self, type_: str, fingerprint: str) -> Path:
        """Where an artifact of this type and fingerprint is, or would be."""
        return self.root / "store" / type_ / fingerprint[:KEY_CHARS]

    def find(self, type_: str, fingerprint: str) -> Artifact | None:
        """The published artifact of this fingerprint, or None. Checks the manifest, names and sizes, not contents.

        Raises RunFailed R112 where the manifest is there and cannot be read.
        """
        found = self._look(type_, fingerprint)
        return found if isinstance(found, Artifact) else None

    def published(self, type_: str) -> Iterator[Artifact]:
        """Every artifact of a type, as :meth:`find` sees it."""
        for home in _folders(self.root / "store" / type_):
            data = read_state(home / MANIFEST, f"moved away, with its folder {home}, it is made again by the next run")
            found = self.find(type_, fingerprint_in(data)) if data is not None else None
            if found is not None:
                yield found

    def flaw(self, type_: str, fingerprint: str) -> str | None:
        """Why a folder that is there is no artifact; None where there is none, or where it is one."""
        found = self._look(type_, fingerprint)
        return found if isinstance(found, str) else None

    def _look(self, type_: str, fingerprint: str) -> Artifact | str | None:
        home = self.home(type_, fingerprint)
        data = read_state(home / MANIFEST, f"moved away, with its folder {home}, it is made again by the next run")
        if data is None:
            return f"{MANIFEST} is missing" if home.is_dir() else None
        found = read_manifest(data, type_, fingerprint)
        if isinstance(found, str):
            return found
        with explained_reading(home):
            changed = _without_its_size(home, found.values["files"])
        return _artifact(home, found) if changed is None else f"{changed} is missing or has another size"

    def damage(self, artifact: Artifact) -> list[str]:
        """Names of files whose content differs from what was published (reads every byte). Raises RunFailed R112."""
        with explained_reading(artifact.path):
            return [
                name
                for name, digest in artifact.files.items()
                if not (artifact.path / name).is_file() or digest_file(artifact.path / name) != digest
            ]

    def seal(self, artifact: Artifact) -> None:
        """Give the manifest of an engine before the seal its digest; :meth:`damage` has checked the files."""
        path = artifact.path / MANIFEST
        with explained_reading(path):
            found = read_manifest(path.read_bytes(), artifact.type, artifact.fingerprint)
        if isinstance(found, Read) and not found.is_sealed:
            with _explained(path):
                write_atomic(path, manifest_text(found.values))

    def staging(self, fingerprint: str) -> Staging:
        """Where an artifact of this fingerprint is in progress, or would be; nothing is made."""
        root = self.root / "staging" / fingerprint[:KEY_CHARS]
        return Staging(root, root / f"out-{os.urandom(4).hex()}")

    def stage(self, fingerprint: str) -> Staging:
        """An empty ``out`` of a name of its own, and the ``work`` of earlier attempts."""
        staging = self.staging(fingerprint)
        root, out = staging.root, staging.out
        with _explained(root):
            root.mkdir(parents=True, exist_ok=True)
            # The new one first: a folder with work and without out was published (see sweep).
            out.mkdir()
            for earlier in root.glob("out*"):
                if earlier != out:
                    shutil.rmtree(earlier, ignore_errors=True)
            staging.work.mkdir(exist_ok=True)
            self.cache.mkdir(exist_ok=True)
        return staging

    def sweep(self, run_version: str) -> None:
        """Remove what killed runs left: folders of artifacts that were published or discarded, temporary files.

        The caller holds the lock of this run. The ``work`` of an attempt that can be resumed stays. Another run that is at
        work is left alone: its step has the lock, and the copy of its replaced evidence has its name.
        """
        for root in _folders(self.root / "staging"):
            if root.name.startswith("discarded-"):
                shutil.rmtree(root, ignore_errors=True)
            elif root.name.startswith(("replaced-", INCOMING)):
                if root.name in (f"replaced-{run_version}", f"{INCOMING}{run_version}"):
                    shutil.rmtree(root, ignore_errors=True)
            elif root.name.startswith("probe-"):
                if not is_alive(root.name.removeprefix("probe-")):
                    shutil.rmtree(root, ignore_errors=True)
            elif not _is_resumable(root):
                with suppress(LockBusy), self.lock(f"step-{root.name[:16]}"):
                    if not _is_resumable(root):
                        shutil.rmtree(root, ignore_errors=True)
        for folder in (self.cache, self.cache / "price", self.root / "logs", *_folders(self.root / "runs")):
            remove_leftovers(folder)

    def publish(self, staging: Staging, manifest: JsonMapping, measured: Collection[str] = ()) -> Artifact:
        """Make the staged folder visible atomically: digests, manifest, fsync, one rename.

        ``manifest`` has type, kind, fingerprint, facts, ingredients, started_at and finished_at; ``measured`` names
        the JSON and JSONL files whose measurements do not count as content.
        """
        home = self.home(manifest["type"], manifest["fingerprint"])
        with _explained(home):
            digests = digest_tree(staging.out)
            files = {
                name: {"sha256": digest, "bytes": (staging.out / name).stat().st_size}
                for name, digest in digests.items()
            }
            _fsync_files(staging.out, files)
            content = {**digests, **{name: digest_result(staging.out / name) for name in measured}}
            values = {**manifest, "digest": digest_json(content), "files": files}
            write_atomic(staging.out / MANIFEST, manifest_text({key: values[key] for key in SHAPE}))
            home.parent.mkdir(parents=True, exist_ok=True)
            if home.exists():  # forced, or damaged: the old one is replaced
                self.discard(home)
            os.rename(staging.out, home)
            fsync_dir(home.parent)
            shutil.rmtree(staging.root, ignore_errors=True)
        published = self.find(manifest["type"], manifest["fingerprint"])
        if published is None:
            raise RunFailed(
                "R104",
                f"the artifact just published at {home} cannot be read back",
                hint="is another program deleting files in .runspec/?",
            )
        return published

    def incoming(self, run_version: str) -> Path:
        """An empty folder for what another session left, on the disk of the store."""
        folder = self.root / "staging" / f"{INCOMING}{run_version}"
        with _explained(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        return folder

    def adopt(self, type_: str, fingerprint: str, folder: Path) -> None:
        """Publish a checked copy of an artifact of another store, by one rename; one that is here already stays."""
        home = self.home(type_, fingerprint)
        with _explained(home):
            if self.find(type_, fingerprint) is None:
                if home.exists():
                    self.discard(home)
                home.parent.mkdir(parents=True, exist_ok=True)
                os.rename(folder, home)
                fsync_dir(home.parent)

    def adopt_work(self, work_key: str, folder: Path) -> None:
        """Make a checked copy the ``work`` of an unfinished step, in the place of what is here."""
        root = self.staging(work_key).root
        with _explained(root):
            (folder / f"out-{os.urandom(4).hex()}").mkdir()
            if root.exists():
                self.discard(root)
            os.rename(folder, root)
            fsync_dir(root.parent)

    def discard(self, home: Path) -> None:
        """Hide an artifact with one rename, then remove it."""
        (self.root / "staging").mkdir(parents=True, exist_ok=True)
        discarded = self.root / "staging" / f"discarded-{home.name}-{os.urandom(4).hex()}"
        os.rename(home, discarded)
        shutil.rmtree(discarded, ignore_errors=True)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the kernel lock of this name. Raises LockBusy (exit 6) where another process holds it."""
        path = self.root / "locks" / f"{name}.lock"
        # Not buffered: what a full disk refuses is refused here, and not once more when the file is closed.
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = path.open("a+b", buffering=0)
        with stream:
            with _explained(path):
                is_ours = take(stream, path)
                if is_ours:
                    stream.truncate(0)
                    stream.write(f"{os.getpid()} {mark_of(os.getpid()) or ''}\n".encode())
            if not is_ours:
                stream.seek(0)
                holder = (stream.read().decode(errors="replace").split() or ["unknown"])[0]
                raise LockBusy(
                    "R106",
                    f"another run holds the lock of {name} (process {holder})",
                    hint="wait for it, or stop it; a lock never outlives its process, so nothing needs removing",
                )
            yield

    def check_publication(self, types: Collection[str]) -> None:
        """X311 where an artifact of one of these types could not be published: before the work, not after it.

        Publication is one rename, which works within one disk only, and of a link to another disk nothing shows the difference
        but the attempt.
        """
        staging = self.root / "staging"
        for type_ in sorted(types):
            shelf = self.root / "store" / type_
            tried, moved = staging / f"probe-{os.getpid()}", shelf / f".probe-{os.getpid()}"
            with _explained(shelf):
                shelf.mkdir(parents=True, exist_ok=True)
                tried.mkdir(parents=True, exist_ok=True)
                try:
                    os.rename(tried, moved)
                    for probe in shelf.glob(".probe-*"):  # those of killed runs, too
                        with suppress(FileNotFoundError):
                            probe.rmdir()
                except OSError as error:
                    with suppress(FileNotFoundError):  # what was refused came after the rename
                        tried.rmdir()
                    if error.errno != errno.EXDEV:
                        raise
                    raise RunFailed(
                        "X311",
                        f"{shelf} is on another disk than {staging}: what a step makes could not be published",
                        hint=f"link the whole of {self.root.name}/ to that disk instead of a folder in it",
                    ) from None


def _artifact(home: Path, manifest: Read) -> Artifact:
    values = manifest.values
    files = {name: entry["sha256"] for name, entry in values["files"].items()}
    return Artifact(
        path=home, files=files, is_sealed=manifest.is_sealed, **{key: values[key] for key in SHAPE.keys() - {"files"}}
    )


def _without_its_size(home: Path, files: Mapping[str, JsonMapping]) -> str | None:
    """The first file that is missing or has another size."""
    for name, entry in files.items():
        try:
            if (home / name).stat().st_size != entry["bytes"]:
                return name
        except (FileNotFoundError, NotADirectoryError):
            return name
    return None


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return []


def _is_resumable(root: Path) -> bool:
    """Whether a staging folder is that of an attempt: both folders are there from its beginning to its publication."""
    return (root / "work").is_dir() and any(root.glob("out*"))


def _fsync_files(root: Path, names: JsonMapping) -> None:
    for name in names:
        descriptor = os.open(root / name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for folder in (path for path in root.rglob("*") if path.is_dir()):
        fsync_dir(folder)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn an error of the operating system (disk full, no permission) into a sentence with a fix."""
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, path) from error


def explain_os_error(error: OSError, path: Path) -> RunFailed:
    """R101 no space, R102 no permission, R103 anything else the operating system refused."""
    file = error.filename or str(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunFailed(
            "R101",
            f"no disk space left to write {file}",
            hint="free some disk space (`runspec status` shows the size of .runspec/), then run again: "
            "the run resumes where it stopped",
        )
    if error.errno in NO_PERMISSION:
        return RunFailed(
            "R102",
            f"no permission to write {file}",
            hint="give this user write permission there, or move the project",
        )
    return RunFailed("R103", f"cannot write {file}: {error.strerror or error}", hint=hint_for(error.errno) or ANY_WRITE)
