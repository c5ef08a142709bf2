"""A push, sent once: what was intended is on disk before, and what came of it is looked up where the answer does not say.

In: an attempt that passed its preflight. Out: the attempt ``pushed`` with its version, or ``refused`` with the platform's words. SaveKernel is
never repeated blindly: after a cut, a time-out, an error of the server or a kill, the notebook's saved versions are searched for this
attempt's nonce, and only where no version has it the push is sent again.

    send(drive, attempt)       # of a fresh attempt
    resolve(drive, attempt)    # of one whose answer nobody saw
"""

from __future__ import annotations

from typing import NoReturn

from engine.canonical import digest_text
from engine.errors import RemoteRefused, RunFailed
from engine.kaggle.driver.api.answers import Kernel, PushAnswer, Refusal, read_push
from engine.kaggle.driver.api.names import NotebookName, url_of
from engine.kaggle.driver.api.pacing import CALLS, RECONCILE
from engine.kaggle.driver.api.refusals import explained, explaining
from engine.kaggle.driver.drive import Drive
from engine.kaggle.driver.story import Attempt

PUSHES_AT_MOST = 4
LOOKS = 3  # for a version that the platform may still be saving
MOST_VERSIONS = 20  # that somebody may have pushed meanwhile


def send(drive: Drive, attempt: Attempt) -> None:
    """Push it. Raises RemoteRefused G230 to G233 where the platform does not take it."""
    number = 0
    while (refusal := _send_once(drive, attempt)) is not None:
        number += 1
        if number == PUSHES_AT_MOST:
            raise _refused(drive, str(refusal), None)
        seconds = max(CALLS.seconds(number + 1, drive.clock.jitter()), refusal.wait or 0.0)
        drive.note(f"the push was not taken ({refusal}); no version was saved, sent again in {seconds:.0f} s")
        drive.clock.sleep(seconds)


def _send_once(drive: Drive, attempt: Attempt) -> Refusal | None:
    """None where the attempt is pushed; else why nothing was saved, so that sending again is safe."""
    name = attempt.name
    with explaining(str(name), drive.kaggle.login):
        base = drive.kaggle.newest_version(name)
    text = _notebook(drive, attempt)
    drive.story.append("pushing", base_version=base)
    try:
        answer = read_push(drive.kaggle.ask("save_kernel", **attempt.facts["request"], text=text))
    except Refusal as refusal:
        told = drive.kaggle.login.hide(str(refusal))
        if refusal.kind in ("credentials", "forbidden"):
            drive.story.append("refused", error=told)
            raise explained(refusal, f"the push of {name}", drive.kaggle.login) from refusal
        if not refusal.is_passing:
            raise _refused(drive, told, None) from refusal
        drive.note(f"no clear answer to the push ({refusal}): looking for the version")
        return None if _found(drive, attempt, base) else refusal
    _judge(drive, attempt, base, answer)
    return None


def resolve(drive: Drive, attempt: Attempt) -> None:
    """After a kill between intent and answer. Pushes again where no saved version has the nonce."""
    drive.note(f"an earlier push of {attempt.name} has no recorded answer: looking for its version")
    intent = attempt.event("pushing")
    assert intent is not None
    if not _found(drive, attempt, int(intent["base_version"])):
        drive.note("it was never saved: pushed again")
        send(drive, attempt)


def _judge(drive: Drive, attempt: Attempt, base: int, answer: PushAnswer) -> None:
    """An accepted push is one with a new version, all sources, and no text of an error, whatever the exit code of a client was."""
    if answer.error:
        saved = _find(drive, attempt, base, looks=1)
        raise _refused(drive, answer.error, saved)
    if answer.invalid:
        told = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in answer.invalid.items())
        drive.story.append(
            "refused", error=f"invalid sources: {told}", version=answer.version, saved_version=answer.version
        )
        running = (
            f"\nversion {answer.version} runs without them: cancel it at {url_of(attempt.name)}"
            if answer.version
            else ""
        )
        raise RemoteRefused("G231", f"Kaggle left sources out of the run ({told})",
                            hint=_source_hint(answer) + running)  # fmt: skip
    if answer.version is None or answer.version <= base:
        drive.note("the answer names no new version: looking for it")
        if not _found(drive, attempt, base):
            raise _refused(drive, "the answer names no new version, and none was saved", None)
        return
    name = _named(answer, attempt.name)
    if name != attempt.name:
        drive.note(f"Kaggle has named the notebook {name}, not {attempt.name}")
    _pushed(drive, name, answer.version, answer.kernel_id, "answer")
    _look_at_machine(drive, name, attempt.facts["request"].get("machine_shape"))


def _look_at_machine(drive: Drive, name: NotebookName, asked: str | None) -> None:
    """The platform substitutes machines and images without a word; the session stops by itself then, and here it is said why."""
    try:
        kernel = drive.kaggle.kernel(name)
    except Refusal as refusal:
        drive.note(f"which machine Kaggle gives cannot be told now ({refusal})")
        return
    if kernel.machine_shape != (asked or ""):
        drive.note(f"Kaggle gives {kernel.machine_shape or 'a session without accelerator'} instead of {asked}: "
                   "the session will stop by itself")  # fmt: skip
    elif asked and asked.startswith("Tpu") and kernel.docker_image and "tpu" not in kernel.docker_image:
        drive.note(
            f"Kaggle gives the image {kernel.docker_image.partition('@')[0]}, which is none for a TPU: the session will stop by itself"
        )


def _source_hint(answer: PushAnswer) -> str:
    hints = {
        "model": "model: OWNER/MODEL/FRAMEWORK/VARIATION/VERSION; consent to its licence once, on its page, with this account",
        "dataset": "dataset: OWNER/SLUG; it must be public, or yours",
        "kernel": "notebook: OWNER/SLUG; it must be public, or yours, and have an output",
        "competition": "competition: its rules must be accepted, on its page",
    }
    return "\n".join(hints[kind] for kind in answer.invalid)


def _named(answer: PushAnswer, asked: NotebookName) -> NotebookName:
    """The name in the answer's ``/code/OWNER/SLUG``; the one that was asked for, where the answer has none."""
    parts = answer.ref.strip("/").removeprefix("code/").split("/")
    if len(parts) != 2 or not all(parts):
        return asked
    return asked if parts == [asked.owner, asked.slug] else NotebookName(parts[0], parts[1], asked.title)


def _pushed(drive: Drive, name: NotebookName, version: int, kernel_id: int | None, how: str) -> None:
    url = url_of(name)
    drive.story.append(
        "pushed", version=version, url=url, kernel_id=kernel_id, owner=name.owner, slug=name.slug, how=how
    )
    drive.note(f"pushed as version {version}: {url}")


def _refused(drive: Drive, told: str, saved: tuple[int, Kernel] | None) -> RemoteRefused:
    """Written down; a version that was saved all the same is named, since it counts as the newest from now on."""
    version = saved[0] if saved else None
    drive.story.append("refused", error=told, saved_version=version)
    also = f"; version {version} was saved and does not run" if version else ""
    return RemoteRefused("G230", f"Kaggle refuses the push: {told}{also}", hint=_hint(told))


def _hint(told: str) -> str:
    """What helps against the platform's own sentences."""
    lower = told.lower()
    if "session count" in lower:
        return "wait until one of your sessions ends, or stop it: kaggle.com/code, Your Work; then type the same command again"
    if "quota" in lower:
        return "the week's hours are used; `runspec kaggle status` shows when they come back"
    if "not found" in lower:
        return "the notebook's name is somebody else's, or its title and name differ: --notebook OWNER/SLUG"
    if "megabyte" in lower:
        return "put the engine into a dataset instead of the notebook: --wheel-dataset OWNER/SLUG"
    return "nothing runs; type the same command again when the cause is gone"


def _found(drive: Drive, attempt: Attempt, base: int) -> bool:
    """Whether a version with this nonce is there; if so the attempt is ``pushed``, or ``refused`` where it was saved and does not run."""
    found = _find(drive, attempt, base, looks=LOOKS)
    if found is None:
        return False
    version, kernel = found
    try:
        phase = drive.kaggle.status(attempt.name, version).phase
    except Refusal as refusal:
        if refusal.kind != "missing":
            raise explained(refusal, f"{attempt.name}, version {version}", drive.kaggle.login) from refusal
        phase = "not_run"
    if phase == "not_run":
        not_run(drive, version)
    _pushed(drive, attempt.name, version, kernel.kernel_id, "reconciled")
    return True


def not_run(drive: Drive, version: int) -> NoReturn:
    """G232, written down."""
    drive.story.append("refused", error="saved and not run", saved_version=version)
    raise RemoteRefused(
        "G232",
        f"Kaggle saved version {version} and does not run it: at the time there was no session or no quota left",
        hint="type the same command again: it pushes a new version",
    )


def _find(drive: Drive, attempt: Attempt, base: int, *, looks: int) -> tuple[int, Kernel] | None:
    """The version above ``base`` whose source has this attempt's nonce."""
    name, nonce = attempt.name, attempt.facts["nonce"]
    with explaining(f"the versions of {name}, one of which may be the push that got no answer", drive.kaggle.login):
        for look in range(looks):
            newest = drive.kaggle.newest_version(name)
            for version in range(newest, max(base, newest - MOST_VERSIONS), -1):
                kernel = drive.kaggle.kernel(name, version)
                if nonce in kernel.source:
                    return version, kernel
            if look < looks - 1:
                drive.clock.sleep(RECONCILE.seconds(look, drive.clock.jitter()))
    return None


def _notebook(drive: Drive, attempt: Attempt) -> str:
    """The bytes that were planned, and no others."""
    path = drive.story.notebook(attempt.facts["nonce"])
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    if digest_text(text) != attempt.facts["notebook_sha256"]:
        raise RunFailed("G234", f"{path} is not the notebook that was planned",
                        hint="plan it again: add --again")  # fmt: skip
    return text
