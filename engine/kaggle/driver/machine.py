"""The states of a run on Kaggle, in order: each is written down before it is acted on, so that the next driver begins where this one was.

    planned -> preflight -> pushing -> pushed -> queued -> running -> complete, error, cancelled or vanished
    complete, error, cancelled -> fetching -> fetched -> checked -> completing -> done; or continue, and a new plan; or failed

In: a :class:`Drive`. Out: the last attempt, ``done``, or as far as a command goes. What stops on the way is an exception, and the same command
resumes.

    drive_on(drive, until=frozenset({"pushed"}))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.errors import (
    EvidenceIncomplete,
    InputInvalid,
    RemoteRefused,
    RunFailed,
    RunspecError,
    VerificationFailed,
)
from engine.kaggle.driver.completion import complete
from engine.kaggle.driver.drive import Drive
from engine.kaggle.driver.judge import FETCHED_AGAIN, check, fail
from engine.kaggle.driver.outputs import discard, fetch
from engine.kaggle.driver.planning import chain_of, is_of, machine_of, other_options, plan
from engine.kaggle.driver.preflight import preflight, quota_of
from engine.kaggle.driver.push import resolve, send
from engine.kaggle.driver.reasons import HINTS
from engine.kaggle.driver.standing import pushed_attempt
from engine.kaggle.driver.story import LIVE, Attempt, State
from engine.kaggle.driver.upload import upload_data
from engine.kaggle.driver.watch import is_gone, look, watch

RESUMABLE_EXIT_CODES = (7, 130)
ENDED: frozenset[State] = frozenset({"done", "failed"})
_KINDS: Mapping[int, type[RunspecError]] = {
    kind.exit_code: kind for kind in (RunFailed, InputInvalid, EvidenceIncomplete, VerificationFailed, RemoteRefused)
}


def begin(drive: Drive) -> Attempt:
    """The attempt to go on with: the last one, or a new one where that one never came to the platform, or is over and ``again`` is asked.

    Raises InputInvalid G235 where a push of another state of the run-spec is still under way, or one with other options counts.
    """
    last = drive.story.last
    if last is None or last.state in ("planned", "preflight", "refused"):
        return plan_next(drive)
    if is_of(last, drive.spec):
        # One that is under way is never left for another: the same command, typed after a kill, must not push twice.
        others = other_options(drive.request, last)
        if drive.request.again and (last.state in ENDED or (others and last.state in LIVE)):
            return plan_next(drive)
        if others and last.state in LIVE | {"done"}:
            raise InputInvalid(
                "G235",
                f"{last.label} is {last.state}, and was pushed without {' '.join(others)}",
                hint="leave that out to go on with it\nor push with it: add --again",
            )
        return last
    if last.state in LIVE and not drive.request.again:
        raise InputInvalid(
            "G235",
            f"{last.label} was pushed of another state of this run-spec, and is {last.state}",
            hint=f"wait for it: runspec kaggle fetch {drive.spec.run_version}"
            "\nor push the run-spec as it is now: add --again",
        )
    return plan_next(drive)


def plan_next(drive: Drive) -> Attempt:
    """A new attempt. What was planned and never pushed is planned anew: the engine, or the quota, may be another."""
    chain = chain_of(drive.story, drive.spec)
    request = drive.request.over(chain[-1].facts["options"]) if chain else drive.request
    quota = quota_of(drive, machine_of(drive.spec, request))
    data = upload_data(drive.kaggle, drive.spec) if request.upload_data else None
    facts = plan(
        drive.spec,
        request,
        drive.story,
        user=drive.kaggle.user,
        quota=quota,
        is_built_in=drive.facts.is_built_in,
        data=data,
    )
    drive.story.append("planned", **facts)
    return _last(drive)


def drive_on(drive: Drive, until: frozenset[State] = frozenset()) -> Attempt:
    """Act on the last attempt's state until it is one of these, or an end. Raises what it ended with."""
    attempt = _last(drive)
    while attempt.state not in until | ENDED:
        ACTIONS[attempt.state](drive, attempt)
        attempt = _last(drive)
    if attempt.state == "failed":
        raise failure_of(attempt)
    return attempt


def fetch_now(drive: Drive) -> Attempt:
    """What the last push left, where its session is over. Raises InputInvalid G237, RemoteRefused G236 where it is not."""
    if drive.story.last is not None and drive.story.last.state == "pushing":
        resolve(drive, drive.story.last)
    attempt = pushed_attempt(drive.story, drive.spec.run_version)
    if attempt.state in ("pushed", "queued", "running", "superseded") and not look(drive, attempt):
        raise RemoteRefused("G236", f"{attempt.label} is not over yet", hint=f"wait for it: {_follow(drive)}")
    if attempt.state == "failed" and attempt.facts["code"] in FETCHED_AGAIN and attempt == drive.story.last:
        discard(drive, attempt)
        _fetching(drive, attempt)
    return drive_on(drive, until=NOT_FETCHED)


# `kaggle fetch` pushes nothing: a plan, or another session, is left to `kaggle run`.
NOT_FETCHED: frozenset[State] = frozenset({"planned", "preflight", "refused", "continue"})


def _follow(drive: Drive) -> str:
    return f"runspec kaggle logs {drive.spec.run_version} --follow"


def failure_of(attempt: Attempt) -> RunspecError:
    """The error that the attempt ended with, the same however often it is asked for."""
    failed = attempt.facts
    kind = _KINDS.get(failed["exit_code"], RunFailed)
    return kind(failed["code"], failed["message"], hint=failed["hint"] or None)


def _last(drive: Drive) -> Attempt:
    attempt = drive.story.last
    assert attempt is not None, "something is planned first"
    return attempt


def _fetching(drive: Drive, attempt: Attempt) -> None:
    """Where the notebook was deleted after its session, that is an end, as it is while one is watched."""
    try:
        fetch(drive, attempt)
    except RemoteRefused as error:
        if error.code not in ("G206", "G207") or not is_gone(drive, attempt):
            raise
        _vanished(drive, attempt)


def _vanished(drive: Drive, attempt: Attempt) -> None:
    fail(drive, 8, "G242", f"{attempt.label} is no longer on Kaggle",
         "it, or the whole notebook, was deleted there; push again: add --again")  # fmt: skip


def _decide(drive: Drive, attempt: Attempt) -> None:
    """By the outcome that the session wrote down."""
    facts = attempt.facts
    outcome = facts["outcome"]
    if outcome["state"] == "complete":
        complete(drive, attempt)
    elif outcome["state"] == "incomplete" or outcome["exit_code"] in RESUMABLE_EXIT_CODES:
        _go_on(drive, attempt)
    else:
        reason, cause = facts["reason"], facts["last_error"] or "see its log"
        code = outcome["exit_code"] if outcome["exit_code"] in _KINDS else 1
        fail(drive, code, _CODES.get(code, "G240"), f"the run failed on Kaggle ({attempt.label}, {reason}): {cause}",
             HINTS.get(reason, f"its whole log: runspec kaggle logs {drive.spec.run_version}"), reason)  # fmt: skip


# Exit code of the run in the session -> the code of the error here, whose class has the same exit code.
_CODES: Mapping[int, str] = {2: "G246", 4: "G247", 5: "G248", 8: "G249"}


def _go_on(drive: Drive, attempt: Attempt) -> None:
    """Another session, where this one brought the run on."""
    before, facts = chain_of(drive.story, drive.spec), attempt.facts
    if attempt.event("superseded"):
        fail(drive, 8, "G243", f"the run is not finished, and version {facts['superseded_by']} of {attempt.name} was pushed meanwhile "
             "by somebody: the next session would be given that version's output",
             f"resume it here: runspec kaggle fetch {drive.spec.run_version} --all"
             "\nthen `runspec run` with --continue-from and the folder session/ of that output")  # fmt: skip
    elif before and facts["standing_sha256"] == before[-1].facts["standing_sha256"]:
        fail(drive, 1, "G260", f"session {len(before) + 1} brought the run no further than the one before (train step {facts['progress']})",
             "its limit is shorter than a train step and a save: a longer --session-limit, or a smaller save_every_steps; then add --again",
             "timeout")  # fmt: skip
    else:
        drive.note(f"session {len(before) + 1} reached train step {facts['progress']}; the next one resumes there")
        drive.story.append("continue")


def _plan_next(drive: Drive, _: Attempt) -> None:
    plan_next(drive)


ACTIONS: Mapping[State, Callable[[Drive, Attempt], None]] = {
    "planned": preflight,
    "preflight": send,
    "pushing": resolve,
    "pushed": watch,
    "queued": watch,
    "running": watch,
    "superseded": watch,
    "complete": _fetching,
    "error": _fetching,
    "cancelled": _fetching,
    "fetching": _fetching,
    "vanished": _vanished,
    "fetched": check,
    "checked": _decide,
    "continue": _plan_next,
    "completing": complete,
}
