"""Failures of a session and of what the platform says of it."""

from __future__ import annotations

from tests.kaggle.platform.api.calls import Call
from tests.kaggle.platform.failures.table import Collection
from tests.kaggle.platform.web.messages import Go, Reply, json_reply
from tests.kaggle.platform.world.kernels import KernelVersion
from tests.kaggle.platform.world.pushing import save
from tests.kaggle.platform.world.sessions import Session

STATUSES = Collection()
STATUS = "GetKernelSessionStatus"


def version_of(call: Call) -> KernelVersion:
    """The version that a request names."""
    body = call.body
    owner, slug = body.get("userName") or body.get("ownerSlug", ""), body.get("kernelSlug", "")
    return call.world.kernels[f"{owner}/{slug}"].version(body.get("versionLabel") or body.get("versionNumber"))


def _session(call: Call) -> Session | None:
    return version_of(call).session


def _worded(go: Go, word: object) -> Reply:
    """The answer with this word; an error stays what it is."""
    answer = go()
    return json_reply(answer.json | {"status": word}) if answer.status == 200 else answer


@STATUSES.add(STATUS, fact="Absent = QUEUED (default)")
def status_absent(call: Call, go: Go) -> Reply:
    """The answer has no status."""
    return json_reply({key: value for key, value in go().json.items() if key != "status"})


@STATUSES.add(STATUS, fact="a number `AttributeError` in the client (both exit 1, seen)")
def status_numeric(call: Call, go: Go, *, number: int = 1) -> Reply:
    """The status is a number."""
    return _worded(go, number)


@STATUSES.add(STATUS, fact="an unknown word is `KeyError`")
def status_unknown(call: Call, go: Go, *, word: str = "HIBERNATING") -> Reply:
    """The status is a word that nobody knows."""
    return _worded(go, word)


@STATUSES.add(STATUS, fact="Parsed from a string of any case")
def status_spelling(call: Call, go: Go) -> Reply:
    """`Complete`, `CancelAcknowledged`: the words in other letters."""
    answer = go()
    return json_reply(answer.json | {"status": answer.json["status"].title().replace("_", "")})


@STATUSES.add(STATUS, fact="TPU queue waits 30 min and more")
def stuck_queued(call: Call, go: Go) -> Reply:
    """QUEUED for ever."""
    return _worded(go, "QUEUED")


@STATUSES.add(STATUS, fact="stuck running")
def stuck_running(call: Call, go: Go) -> Reply:
    """RUNNING for ever."""
    return _worded(go, "RUNNING")


@STATUSES.add(STATUS, fact="a cancelled/timed-out version can expose no outputs, logs or reason")
def session_cancelled(call: Call, go: Go) -> Reply:
    """Somebody cancels the session."""
    session = _session(call)
    with call.world.lock:
        if session is not None:
            session.cancel()
    return go()


@STATUSES.add(STATUS, fact="a cancelled/timed-out version can expose no outputs, logs or reason")
def session_timed_out(call: Call, go: Go) -> Reply:
    """The session meets its time limit."""
    session = _session(call)
    with call.world.lock:
        if session is not None and not session.is_over:
            session.limit = 0.0
    return go()


@STATUSES.add(STATUS, fact="failed(reason class: oom, secret, device, timeout, data-missing, code)")
def session_failed(
    call: Call, go: Go, *, message: str = "Your notebook tried to allocate more memory than is available."
) -> Reply:
    """The session ends in ERROR with this message."""
    session = _session(call)
    with call.world.lock:
        if session is not None:
            session.fail(message)
    return go()


@STATUSES.add(STATUS, fact="newer version pushed meanwhile")
def newer_version(call: Call, go: Go) -> Reply:
    """Right after this answer somebody pushes another version."""
    version = version_of(call)
    answer = go()
    with call.world.lock:
        save(call.world, version.kernel, {**version.request, "text": '{"cells": []}'}, version.machine, runs=True)
    return answer


@STATUSES.add(STATUS, fact="{complete, error, cancelled, vanished, superseded(version>N)}")
def version_vanished(call: Call, go: Go) -> Reply:
    """The version is deleted."""
    version = version_of(call)
    with call.world.lock:
        version.kernel.versions.remove(version)
        if not version.kernel.versions:
            del call.world.kernels[version.kernel.ref]
    return go()
