"""The states of a session: by requests, by the clock, at the limit, after a cancellation."""

from __future__ import annotations

import json

import pytest

from tests.kaggle.platform.plain import Plain
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.scripted import Script


def test_states_by_requests(kaggle: Platform, api: Plain) -> None:
    """So many QUEUED, so many RUNNING, then COMPLETE for ever."""
    kaggle.script(Script(queued_polls=2, running_polls=1))
    api.push()
    assert [api.status() for _ in range(5)] == ["QUEUED", "QUEUED", "RUNNING", "COMPLETE", "COMPLETE"]


def test_states_by_the_clock(kaggle: Platform, api: Plain) -> None:
    """A state lasts its seconds; a jump over both ends in the last."""
    kaggle.script(Script(queued_seconds=60, running_seconds=600))
    api.push()
    seen = [api.status()]
    for seconds in (59, 2, 590, 10):
        kaggle.clock.advance(seconds)
        seen.append(api.status())
    assert seen == ["QUEUED", "QUEUED", "RUNNING", "RUNNING", "COMPLETE"]
    assert kaggle.session("someone/my-run").run_seconds == pytest.approx(600)


def test_the_limit_loses_everything(kaggle: Platform, api: Plain) -> None:
    """Asked for by the push, held by the platform: cancelled, without output, log or reason."""
    kaggle.script(Script(files={"a.txt": "a"}, log=["hello"], running_seconds=7200))
    api.push(sessionTimeoutSeconds=3600)
    kaggle.clock.advance(3599)
    assert api.status() == "RUNNING"
    kaggle.clock.advance(2)
    assert api.about("GetKernelSessionStatus").json == {"status": "CANCEL_ACKNOWLEDGED"}
    assert api.about("ListKernelSessionOutput").json == {}
    assert kaggle.session("someone/my-run").run_seconds == 3600


@pytest.mark.parametrize(("shape", "hours"), [("NvidiaTeslaT4", 12), ("TpuV5E8", 9), ("", 12)])
def test_no_session_is_longer_than_the_platform_allows(kaggle: Platform, api: Plain, shape: str, hours: int) -> None:
    """Whatever a push asks for."""
    api.push(machineShape=shape, sessionTimeoutSeconds=100 * 3600)
    assert kaggle.version("someone/my-run").limit == hours * 3600


def test_a_cancellation_is_requested_then_acknowledged(kaggle: Platform, api: Plain) -> None:
    """By a session's number, which only the platform knows; a session that is over stays as it is."""
    kaggle.script(Script(files={"a.txt": "a"}, running_seconds=float("inf")))
    api.push()
    number = kaggle.session("someone/my-run").number
    assert api.call("CancelKernelSession", kernelSessionId=number + 1).status == 404
    assert api.call("CancelKernelSession", kernelSessionId=number).json == {}
    assert [api.status() for _ in range(3)] == ["CANCEL_REQUESTED", "CANCEL_ACKNOWLEDGED", "CANCEL_ACKNOWLEDGED"]
    assert api.about("ListKernelFiles").json == {"files": [], "nextPageToken": ""}


def test_an_error_keeps_its_output(kaggle: Platform, api: Plain) -> None:
    """State, message, files and log of a script that fails."""
    kaggle.script(Script(files={"a.txt": "a"}, log=["boom"], state="ERROR", failure_message="it broke"))
    api.push()
    assert api.about("GetKernelSessionStatus").json == {"status": "ERROR", "failureMessage": "it broke"}
    answer = api.about("ListKernelSessionOutput").json
    assert [file["fileName"] for file in answer["files"]] == ["a.txt"]
    assert json.loads(answer["log"]) == [{"stream_name": "stdout", "time": 0.0, "data": "boom\n"}]


def test_one_script_a_push_and_the_last_for_all_after(kaggle: Platform, api: Plain) -> None:
    """In their order; those of another kernel are left for it."""
    kaggle.script(Script(state="ERROR"), kernel="someone/other-run")
    kaggle.script(Script(state="COMPLETE"), Script(state="ERROR"))
    states = []
    for _ in range(3):
        api.push()
        states.append(api.status())
    assert states == ["COMPLETE", "ERROR", "ERROR"]
    api.push("other-run")
    assert api.status("other-run") == "ERROR"


def test_a_script_sees_the_pushed_version(kaggle: Platform, api: Plain) -> None:
    """Files and log made from its source: that is how a nonce comes back."""
    kaggle.script(Script(files=lambda version: {"text.json": version.text}, log=lambda version: [f"v{version.number}"]))
    api.push(text='{"nonce": "abc"}')
    answer = api.about("ListKernelSessionOutput").json
    assert api.get(answer["files"][0]["url"]).json == {"nonce": "abc"}
    assert json.loads(answer["log"])[0]["data"] == "v1\n"


def test_versions_keep_apart(kaggle: Platform, api: Plain) -> None:
    """A label picks a version; without one it is the newest; a bare number and a version that is not there are 404."""
    kaggle.script(Script(files={"a.txt": "one"}), Script(state="ERROR"))
    api.push()
    api.push()
    assert [api.status(version=1), api.status(version=2), api.status()] == ["COMPLETE", "ERROR", "ERROR"]
    for label in ("1", "v3", "latest"):
        assert api.about("GetKernelSessionStatus", versionLabel=label).status == 404


def test_who_may_look(kaggle: Platform, api: Plain) -> None:
    """A private kernel and one that is not there look the same to others; a public one is open to everybody."""
    api.push(isPrivate=True)
    api.push("public-run", isPrivate=False)
    kaggle.add_user("other")
    api.authorization = f"Bearer {kaggle.world.accounts.token('other')}"
    hidden, missing = api.about("GetKernel"), api.about("GetKernel", "no-such-run")
    assert (hidden.status, hidden.json) == (missing.status, missing.json)
    assert hidden.json == {"code": 403, "message": "Permission 'kernels.get' was denied"}
    assert [row["ref"] for row in api.call("ListKernels", user="someone").json["kernels"]] == ["someone/public-run"]
    api.authorization = None
    assert api.about("GetKernel", "public-run").status == 200
    assert api.push().status == 401
