"""What the platform would refuse, or take and let fail, said before anything is pushed: all of it at once.

In: an attempt that is planned. Out: the attempt past its ``preflight``, or RemoteRefused with every finding. Looked at: the week's quota beside
the time of the session and of the whole run, the sessions that run already, the size of the source. What cannot be looked at is said, and
does not stop a push.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.canonical import JsonMapping
from engine.errors import Diagnostic, RemoteRefused
from engine.kaggle.driver.accelerators import ACCELERATORS, Accelerator
from engine.kaggle.driver.api.answers import Quota, Refusal
from engine.kaggle.driver.api.names import NotebookName
from engine.kaggle.driver.api.refusals import explained
from engine.kaggle.driver.drive import Drive
from engine.kaggle.driver.forecast import Forecast, forecast
from engine.kaggle.driver.planning import GRACE_SECONDS, SHORTEST_SECONDS
from engine.kaggle.driver.story import Attempt
from engine.protocol.figures import duration
from engine.protocol.hub_token import LABEL
from engine.runspec.model import comes_from_hub

_SHAPES = {row.machine_shape: row.quota for row in ACCELERATORS.values() if row.machine_shape}


@dataclass(frozen=True, slots=True)
class Survey:
    """``quota`` is None where the machine has none, or none is told; ``running``: notebooks with a session of this kind."""

    quota: Quota | None
    running: tuple[str, ...]


def preflight(drive: Drive, attempt: Attempt) -> None:
    """Raises RemoteRefused G220, G221, and what a refused call is."""
    machine = ACCELERATORS[attempt.facts["target"]]
    survey = Survey(quota_of(drive, machine), tuple(_running(drive, machine)))
    coming = forecast(drive.spec, drive.story, machine, drive.facts.plan_time(machine.target))
    findings = [*_quota(attempt, machine, survey.quota, coming), *_sessions(machine, survey.running)]
    if findings:
        raise RemoteRefused.of(findings)
    _say(drive, attempt, machine, survey, coming)
    drive.story.append("preflight", quota_left=survey.quota and survey.quota.left_seconds, running=list(survey.running),
                       forecast_seconds=coming.seconds)  # fmt: skip


def quota_of(drive: Drive, machine: Accelerator) -> Quota | None:
    """The week's quota of the machine's kind. Raises RemoteRefused where the credentials are refused."""
    if machine.quota is None:
        return None
    try:
        found = drive.kaggle.quota().get(machine.quota)
    except Refusal as refusal:
        if refusal.kind in ("credentials", "forbidden"):
            raise explained(refusal, "your quota", drive.kaggle.login) from refusal
        drive.note(f"the quota cannot be looked up now ({refusal}); the push will say whether it is enough")
        return None
    if found is None:
        drive.note(f"Kaggle says nothing of a {machine.quota.upper()} quota; the push will say whether it is enough")
    return found


def _quota(attempt: Attempt, machine: Accelerator, quota: Quota | None, coming: Forecast) -> Iterator[Diagnostic]:
    if quota is None or machine.quota is None:
        return
    kind, left, session = machine.quota.upper(), quota.left_seconds, float(attempt.facts["session_seconds"])
    is_declared = attempt.facts["options"]["session_limit"] is not None
    has = f"{duration(left)} of {duration(quota.allowed)} of {kind} are left this week"
    when = "`runspec kaggle status` says when the week ends"
    if left < SHORTEST_SECONDS + GRACE_SECONDS:
        yield Diagnostic("G220", f"the week's {kind} quota is used: {has}", hint=when)
    elif left < session and is_declared:
        yield Diagnostic("G220", f"{has}, and a session of {duration(session)} was asked for",
                         hint=f"a shorter --session-limit; the next session resumes. {when}")  # fmt: skip
    elif coming.is_measured and coming.seconds is not None and coming.seconds > left and not is_declared:
        yield Diagnostic(
            "G220",
            f"{has}, and the run takes about {duration(coming.seconds)} ({coming.source})",
            hint=f"fewer train steps; or begin with what is left, and resume later: --session-limit {int(left) // 60 - 30}m",
        )


def _sessions(machine: Accelerator, running: tuple[str, ...]) -> Iterator[Diagnostic]:
    if len(running) >= machine.sessions:
        kind = (machine.quota or "cpu").upper()
        yield Diagnostic(
            "G221",
            f"{len(running)} {kind} session{'s' * (len(running) != 1)} of yours run or wait, and Kaggle allows {machine.sessions}: "
            + ", ".join(running),
            hint="wait until one ends, or stop it on its page; then type the same command again",
        )


def _running(drive: Drive, machine: Accelerator) -> Iterator[str]:
    """The user's notebooks whose newest version waits or runs on this kind of machine, among those that ran last."""
    try:
        for row in drive.kaggle.recent_notebooks():
            name = _name(row)
            if name is None or _kind(row) != machine.quota:
                continue
            version = row.get("currentVersionNumber")
            if isinstance(version, int) and drive.kaggle.status(name, version).phase in (
                "queued",
                "running",
                "cancelling",
            ):
                yield f"{name} (version {version})"
    except Refusal as refusal:
        drive.note(f"your running sessions cannot be looked up now ({refusal})")


def _name(row: JsonMapping) -> NotebookName | None:
    owner, _, slug = str(row.get("ref", "")).rpartition("/")
    return NotebookName(owner, slug, "") if owner and slug else None


def _kind(row: JsonMapping) -> str | None:
    """Which quota a notebook's sessions take from."""
    shape = str(row.get("machineShape") or "")
    if shape in _SHAPES:
        return _SHAPES[shape]
    if shape.lower().startswith("tpu") or row.get("enableTpu"):
        return "tpu"
    return "gpu" if shape.lower().startswith("nvidia") or row.get("enableGpu") else None


def _say(drive: Drive, attempt: Attempt, machine: Accelerator, survey: Survey, coming: Forecast) -> None:
    facts = attempt.facts
    parts = [f"{machine.target}, session of at most {duration(facts['session_seconds'])}"]
    if survey.quota is not None:
        parts.append(f"quota left {duration(survey.quota.left_seconds)}")
    parts.append(
        f"the run takes about {duration(coming.seconds)} ({coming.source})"
        if coming.seconds is not None
        else coming.source
    )
    parts.append(f"notebook of {facts['notebook_bytes']:,} bytes")
    drive.note("; ".join(parts))
    for model in facts["request"]["model_data_sources"]:
        page = "/".join(model.split("/")[:2])
        drive.note(f"{model} needs your consent once: https://www.kaggle.com/models/{page}")
    if comes_from_hub(drive.spec.model):
        drive.note(f"{drive.spec.model.id} comes from the hub: where it is gated, the session needs the secret {LABEL}, and a push from outside "
                   "detaches secrets; 'model={kaggle: OWNER/MODEL/FRAMEWORK/VARIATION/VERSION}' needs none")  # fmt: skip
