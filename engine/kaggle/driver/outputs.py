"""The output of one version, fetched: every file with its size and digest, nothing outside the folder, nothing of another version.

In: an attempt whose session is over. Out: the attempt ``fetched``, with the digest of each file. Where the connection is cut, an address has
ended or the process is killed, the same command goes on with the bytes that are missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from engine.artifacts.store import explain_os_error
from engine.canonical import digest_text, write_atomic
from engine.errors import RemoteRefused
from engine.kaggle.driver.api.answers import OutputFile, Refusal
from engine.kaggle.driver.api.pacing import CALLS
from engine.kaggle.driver.api.refusals import explaining
from engine.kaggle.driver.download import Place, check_space, fetch_file, finished, safe_name
from engine.kaggle.driver.drive import Drive
from engine.kaggle.driver.story import Attempt
from engine.printable import one_line
from engine.protocol.figures import size

MOST_FILES, MOST_BYTES = 2000, 21_000_000_000  # the platform keeps 20 GB of a session
TRIES = 5  # with fresh addresses each time
CARRY_OVER, CHAIN = "session/", "session/session.json"  # checkpoints, which the next session takes from its mount


def fetch(drive: Drive, attempt: Attempt) -> None:
    """Raises RemoteRefused G250, G251, G254, RunFailed G255 and R101 to R103; the attempt stays ``fetching`` then."""
    place = Place(drive.story.output(attempt.version))
    drive.story.append("fetching")
    with explaining(f"the output of {attempt.label}", drive.kaggle.login):
        files, log = drive.kaggle.outputs(attempt.name, attempt.version)
        sizes = drive.kaggle.sizes(attempt.name, attempt.version)
    wanted = _wanted(attempt, files, whole=drive.request.whole_output)
    _check_limits(attempt, wanted, sizes)
    try:
        check_space(place, sum(sizes.get(name, 0) for name in wanted if not place.file(name).exists()))
        digests = {name: _fetched(drive, attempt, wanted, name, place, sizes.get(name)) for name in list(wanted)}
        log_name = _write_log(attempt, log, place.folder, wanted)
    except OSError as error:
        raise explain_os_error(error, place.folder) from error
    drive.note(f"fetched {len(digests)} files, {size(sum(sizes.get(name, 0) for name in digests))}")
    drive.story.append("fetched", files=digests, log=log_name, log_sha256=digest_text(log))


def discard(drive: Drive, attempt: Attempt) -> None:
    """Before an output that was judged is fetched once more: nothing of it is taken for finished. Raises RunFailed R103."""
    folder = drive.story.output(attempt.version)
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise explain_os_error(error, folder) from error


def _wanted(attempt: Attempt, files: Iterable[OutputFile], *, whole: bool) -> dict[str, OutputFile]:
    """Those to fetch, by name. Raises RemoteRefused G250 for names that no file of ours may have."""
    found: dict[str, OutputFile] = {}
    for output in files:
        if safe_name(output.name) is None or output.name in found:
            what = "twice" if output.name in found else "and it would be written outside the folder of the output"
            raise RemoteRefused(
                "G250",
                f'the output of {attempt.label} has a file named "{one_line(output.name)[:80]}", {what}',
                hint="nothing was written; a notebook of this engine makes no such file: look at the version's page",
            )
        if whole or not output.name.startswith(CARRY_OVER) or output.name == CHAIN:
            found[output.name] = output
    return found


def _check_limits(attempt: Attempt, wanted: Mapping[str, OutputFile], sizes: Mapping[str, int]) -> None:
    total = sum(sizes.get(name, 0) for name in wanted)
    if len(wanted) > MOST_FILES or total > MOST_BYTES:
        raise RemoteRefused("G254", f"the output of {attempt.label} has {len(wanted):,} files of {size(total)}, too much to fetch",
                            hint=f"at most {MOST_FILES:,} files of {size(MOST_BYTES)}: look at the version's page")  # fmt: skip


def _fetched(
    drive: Drive, attempt: Attempt, wanted: dict[str, OutputFile], name: str, place: Place, expected: int | None
) -> str:
    """The digest of one file, tried again with fresh addresses."""
    done = finished(place, name)
    if done is not None:
        return done
    for number in range(TRIES):
        try:
            return fetch_file(drive.kaggle.wire, wanted[name], place, expected)
        except Refusal as refusal:
            problem = refusal
        if number < TRIES - 1:
            drive.clock.sleep(max(CALLS.seconds(number, drive.clock.jitter()), problem.wait or 0.0))
            _refresh(drive, attempt, wanted)
    raise RemoteRefused(
        "G251",
        f"{one_line(name)} of {attempt.label} does not come whole: {problem}",
        hint="what came of it is kept: the same command fetches the rest",
    )


def _refresh(drive: Drive, attempt: Attempt, wanted: dict[str, OutputFile]) -> None:
    """New addresses: signed ones end after a while. A file that is no longer listed keeps its old one."""
    with explaining(f"the output of {attempt.label}", drive.kaggle.login):
        files, _ = drive.kaggle.outputs(attempt.name, attempt.version)
    for output in files:
        if output.name in wanted:
            wanted[output.name] = output


def _write_log(attempt: Attempt, log: str, folder: Path, wanted: Mapping[str, OutputFile]) -> str:
    """The platform's log beside the files, as its own client names it."""
    name = f"{attempt.name.slug}.log"
    name = name if name not in wanted else f"{attempt.name.slug}.kaggle.log"
    write_atomic(folder / name, log)
    return name
