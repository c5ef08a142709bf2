"""The output of one version, fetched: every file with its size and digest, nothing outside the folder, nothing of another version.

In: a notebook, a version whose session is over, a folder. Out: the folder as a reader brings it to ``verify --witness``:

    fetched.json   which version the platform was asked for, and whether everybody can; written last
    session.log    the platform's log, as text
    output/        the files as they are

Where the connection is cut, an address has ended or the process is killed, the same command fetches the bytes that are missing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.artifacts.journal import iso_time
from engine.artifacts.refusals import explained_reading
from engine.artifacts.store import explain_os_error
from engine.canonical import JsonObject, digest_text, pretty_json, write_atomic
from engine.errors import InputInvalid, RemoteRefused
from engine.evidence.witness import FETCHED, OUTPUT, PLATFORM, VERSION
from engine.kaggle.driver.api.answers import OutputFile, Refusal
from engine.kaggle.driver.api.connection import Kaggle
from engine.kaggle.driver.api.download import PARTS, OutputFolder, check_space, fetch_file, finished, safe_name
from engine.kaggle.driver.api.logs import events
from engine.kaggle.driver.api.names import NotebookName, url_of
from engine.kaggle.driver.api.pacing import CALLS, RECONCILE
from engine.kaggle.driver.api.refusals import explaining
from engine.kaggle.driver.drive import Drive
from engine.kaggle.driver.story import Attempt
from engine.printable import one_line
from engine.protocol.figures import size

MOST_FILES, MOST_BYTES = 2000, 21_000_000_000  # the platform keeps 20 GB of a session
TRIES = 5  # with fresh addresses each time
EMPTY_LOOKS = 4  # about a minute
CARRY_OVER, CHAIN = "session/", "session/session.json"  # checkpoints, which the next session takes from its mount
LOG, BEGUN = "session.log", "version.json"


@dataclass(frozen=True, slots=True)
class Fetched:
    """``files``: name in ``output/`` -> SHA-256."""

    files: Mapping[str, str]
    log_sha256: str
    n_bytes: int


def fetch(drive: Drive, attempt: Attempt) -> None:
    """The attempt is ``fetched`` then. Raises what :func:`fetch_version` raises; it stays ``fetching`` then."""
    drive.story.append("fetching")
    folder = drive.story.fetched(attempt.version)
    found = fetch_version(
        drive.kaggle,
        attempt.name,
        attempt.version,
        folder,
        whole=drive.request.whole_output,
        is_complete=attempt.event("complete") is not None,
    )
    drive.note(f"fetched {len(found.files)} files, {size(found.n_bytes)}")
    drive.story.append("fetched", files=dict(found.files), log_sha256=found.log_sha256)


def discard(drive: Drive, attempt: Attempt) -> None:
    """Before an output that was judged is fetched once more: nothing of it is taken for finished. Raises RunFailed R103."""
    folder = drive.story.fetched(attempt.version)
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise explain_os_error(error, folder) from error


def fetch_version(
    kaggle: Kaggle, name: NotebookName, version: int, folder: Path, *, whole: bool, is_complete: bool = True
) -> Fetched:
    """Raises RemoteRefused G205 to G211, G250, G251, G254, RunFailed G255 and R101 to R103. ``whole``: with the carry-over."""
    label, place = f"{name}, version {version}", OutputFolder(folder / OUTPUT)
    with explaining(f"the output of {label}", kaggle.login):
        files, log = _listed(kaggle, name, version, is_complete=is_complete)
        sizes = kaggle.sizes(name, version)
        kernel = kaggle.kernel(name, version)
    wanted = _wanted(label, files, whole=whole)
    _check_limits(label, wanted, sizes)
    text = "".join(event.data if event.data.endswith("\n") else f"{event.data}\n" for event in events(log))
    try:
        check_space(place, sum(sizes.get(one, 0) for one in wanted if not place.file(one).exists()))
        write_atomic(place.folder / PARTS / BEGUN, pretty_json(_asked(name, version)))
        download = _Download(kaggle, name, version, wanted, place)
        digests = {one: download.file(one, sizes.get(one)) for one in list(wanted)}
        write_atomic(folder / LOG, text)
        write_atomic(
            folder / FETCHED, pretty_json(_fetched_json(kaggle, name, version, kernel.kernel_id, kernel.is_private))
        )
    except OSError as error:
        raise explain_os_error(error, folder) from error
    return Fetched(digests, digest_text(text), sum(sizes.get(one, 0) for one in digests))


def _listed(kaggle: Kaggle, name: NotebookName, version: int, *, is_complete: bool) -> tuple[list[OutputFile], str]:
    """Files and log. A session that is complete has files: the platform may list them some moments later."""
    files, log = kaggle.outputs(name, version)
    for look in range(EMPTY_LOOKS):
        if files or not is_complete:
            break
        kaggle.clock.sleep(RECONCILE.seconds(look, kaggle.clock.jitter()))
        files, log = kaggle.outputs(name, version)
    return files, log


def refuse_other_version(folder: Path, name: NotebookName, version: int) -> None:
    """Raises InputInvalid G238 where the folder has another version, or something else than a version, in it."""
    with explained_reading(folder):
        if not folder.exists() or not any(folder.iterdir()):
            return
        marks = [mark for mark in (folder / FETCHED, folder / OUTPUT / PARTS / BEGUN) if mark.is_file()]
        asked: object = json.loads(marks[0].read_bytes()) if marks else {}
    if not isinstance(asked, dict) or {key: asked.get(key) for key in _asked(name, version)} != _asked(name, version):
        raise InputInvalid("G238", f"{folder} has something else in it than {name}, version {version}",
                           hint="name a new folder: --out FOLDER")  # fmt: skip


def _asked(name: NotebookName, version: int) -> JsonObject:
    return {"owner": name.owner, "slug": name.slug, "version": version}


def _fetched_json(
    kaggle: Kaggle, name: NotebookName, version: int, kernel_id: int | None, is_private: bool
) -> JsonObject:
    """Which version the platform was asked for. A server on this machine is named: what it says is nobody's word."""
    api = {} if kaggle.wire.address.is_kaggle else {"api": kaggle.wire.address.base}
    return {"schema_version": VERSION, "platform": PLATFORM, **_asked(name, version),
            "kernel_id": kernel_id, "is_private": is_private, "notebook_url": url_of(name), "fetched_at": iso_time(kaggle.clock.now()),
            **api}  # fmt: skip


def _wanted(label: str, files: Iterable[OutputFile], *, whole: bool) -> dict[str, OutputFile]:
    """Those to fetch, by name. Raises RemoteRefused G250 for names that no file of ours may have."""
    found: dict[str, OutputFile] = {}
    for output in files:
        if safe_name(output.name) is None or output.name in found:
            what = "twice" if output.name in found else "and it would be written outside the folder of the output"
            raise RemoteRefused(
                "G250",
                f'the output of {label} has a file named "{one_line(output.name)[:80]}", {what}',
                hint="nothing was written; a notebook of this engine makes no such file: look at the version's page",
            )
        if whole or not output.name.startswith(CARRY_OVER) or output.name == CHAIN:
            found[output.name] = output
    return found


def _check_limits(label: str, wanted: Mapping[str, OutputFile], sizes: Mapping[str, int]) -> None:
    total = sum(sizes.get(name, 0) for name in wanted)
    if len(wanted) > MOST_FILES or total > MOST_BYTES:
        raise RemoteRefused("G254", f"the output of {label} has {len(wanted):,} files of {size(total)}, too much to fetch",
                            hint=f"at most {MOST_FILES:,} files of {size(MOST_BYTES)}: look at the version's page")  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Download:
    """``wanted`` is replaced by fresh addresses where signed ones have ended."""

    kaggle: Kaggle
    name: NotebookName
    version: int
    wanted: dict[str, OutputFile]
    place: OutputFolder

    def file(self, name: str, expected: int | None) -> str:
        """The digest of one file, tried again with fresh addresses. Raises RemoteRefused G251."""
        done = finished(self.place, name)
        if done is not None:
            return done
        for number in range(TRIES):
            try:
                return fetch_file(self.kaggle.wire, self.wanted[name], self.place, expected)
            except Refusal as refusal:
                problem = refusal
            if number < TRIES - 1:
                self.kaggle.clock.sleep(max(CALLS.seconds(number, self.kaggle.clock.jitter()), problem.wait or 0.0))
                self._refresh()
        raise RemoteRefused(
            "G251",
            f"{one_line(name)} of {self.name}, version {self.version} does not come whole: {problem}",
            hint="what came of it is kept: the same command fetches the rest",
        )

    def _refresh(self) -> None:
        """New addresses. A file that is no longer listed keeps its old one."""
        with explaining(f"the output of {self.name}, version {self.version}", self.kaggle.login):
            files, _ = self.kaggle.outputs(self.name, self.version)
        self.wanted.update({output.name: output for output in files if output.name in self.wanted})
