"""Every failure of the table happens when it is asked for, shows what it says, and is over when it is healed."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from email.utils import parsedate_to_datetime

import pytest

from tests.kaggle.platform.failures.cases import CASES, ENDLESS, SCRIPT, Broken, Case, status, unbroken
from tests.kaggle.platform.failures.catalog import FAILURES
from tests.kaggle.platform.plain import Plain
from tests.kaggle.platform.platform import HANDLERS, Platform

# They are shown by tests of their own below.
BY_THEMSELVES = {"never_answers", "clock_skew"}


def test_the_table() -> None:
    """At least 35, each with what it does, the recorded words that it is made after, and operations that there are."""
    assert len(FAILURES) >= 35
    assert {case.name for case in CASES} | BY_THEMSELVES == set(FAILURES)
    for failure in FAILURES.values():
        assert failure.does.endswith("."), failure.name
        assert failure.fact
        assert set(failure.on) <= {*HANDLERS, "*"}, failure.name


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.ask.__name__}")
def test_a_failure_shows(kaggle: Platform, api: Plain, case: Case) -> None:
    """Without it the question gets another answer; with it the one of the table."""
    kaggle.script(case.script)
    kaggle.add_dataset("someone/there", {"a": ""})
    api.push()
    armed = kaggle.fail(case.name, times=case.times, after=case.after, **case.arguments)
    if case.breaks:
        with pytest.raises(Broken):
            unbroken(lambda: case.ask(api))
    else:
        answer = unbroken(lambda: case.ask(api))
        assert case.shows(answer), (answer.status, answer.headers, answer.body[:500])
    assert armed.hits >= 1
    assert any(case.name in one.failures for one in kaggle.requests)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.name not in {"slow_answer", "late_answer"}],
    ids=lambda case: f"{case.name}-{case.ask.__name__}",
)
def test_without_it_nothing_shows(kaggle: Platform, api: Plain, case: Case) -> None:
    """The check of the table is not true of an answer that no failure touched: a check that cannot fail shows nothing."""
    kaggle.script(case.script)
    kaggle.add_dataset("someone/there", {"a": ""})
    api.push()
    sound = {"accelerator_substituted", "tpu_on_cpu_image", "saved_not_run", "newer_version"}
    try:
        shows = bool(case.shows(case.ask(api)))
    except (KeyError, ValueError):
        shows = False
    assert shows == (case.breaks or case.name in sound)


def test_never_answers(kaggle: Platform, api: Plain) -> None:
    """The request hangs until the platform closes."""
    api.push()
    kaggle.fail("never_answers", on="GetKernelSessionStatus")
    ended: list[str] = []

    def ask() -> None:
        try:
            status(api)
        except Exception as error:  # noqa: BLE001 - whichever way the connection ends
            ended.append(type(error).__name__)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.2)
    assert not ended
    assert api.about("GetKernel").status == 200
    kaggle.world.closing.set()
    asking.join(timeout=5)
    assert ended == ["RemoteDisconnected"]


def test_clock_skew(kaggle: Platform, api: Plain) -> None:
    """Dates in headers and in answers are off by hours; the platform's own time is not."""
    api.push()
    before = kaggle.clock.now()
    kaggle.fail("clock_skew", hours=3.0)
    status(api)
    assert kaggle.clock.shown() - kaggle.clock.now() == pytest.approx(timedelta(hours=3), abs=timedelta(seconds=1))
    shown = parsedate_to_datetime(api.about("GetKernel").headers["date"])
    assert shown - before > timedelta(hours=2, minutes=59)
    assert kaggle.clock.now() - before < timedelta(minutes=1)


@pytest.mark.parametrize(("name", "seconds"), [("late_answer", 0.2), ("slow_answer", 0.2)])
def test_time_is_taken(kaggle: Platform, api: Plain, name: str, seconds: float) -> None:
    """The answer is right, and as late as asked for."""
    api.push()
    kaggle.fail(name, seconds=seconds)
    began = time.monotonic()
    assert status(api).json == {"status": "COMPLETE"}
    assert time.monotonic() - began >= seconds


def test_what_it_does_to_the_world(kaggle: Platform, api: Plain) -> None:
    """Beside the answer: versions that are saved, sessions that are not, machines that are others."""
    kaggle.script(SCRIPT)
    api.push()
    kaggle.fail("capacity_but_saved", times=1)
    api.push()
    saved = kaggle.version("someone/my-run")
    assert (saved.number, saved.session) == (2, None)
    kaggle.fail("saved_not_run", times=1)
    api.push()
    assert kaggle.version("someone/my-run/3").session is None
    kaggle.fail("accelerator_substituted", times=1)
    api.push(machineShape="NvidiaTeslaT4")
    assert kaggle.version("someone/my-run/4").machine.kind == "CPU"
    kaggle.fail("tpu_on_cpu_image", times=1)
    api.push(machineShape="TpuV5E8")
    machine = kaggle.version("someone/my-run/5").machine
    assert (machine.shape, machine.image_kind) == ("TpuV5E8", "CPU")
    kaggle.fail("newer_version", times=1)
    status(api)
    assert api.about("GetKernel", version=5).json["metadata"]["currentVersionNumber"] == 6
    kaggle.fail("push_answer_lost", times=1)
    with pytest.raises(Broken):
        unbroken(api.push)
    assert kaggle.version("someone/my-run").number == 7


def test_a_push_that_was_cut_off_before_is_not_taken(kaggle: Platform, api: Plain) -> None:
    """A connection that breaks early leaves nothing behind, unlike an answer that was lost."""
    kaggle.fail("connection_cut", on="SaveKernel", times=1)
    with pytest.raises(Broken):
        unbroken(api.push)
    assert not kaggle.kernels


def test_how_often_after_what_and_where(kaggle: Platform, api: Plain) -> None:
    """``times``, ``after``, ``on``, and the end by :meth:`heal`."""
    kaggle.script(ENDLESS)
    api.push()
    kaggle.fail("server_error", on="GetKernelSessionStatus", times=2, after=1)
    assert [status(api).status for _ in range(5)] == [200, 500, 500, 200, 200]
    kaggle.fail("rate_limited", on=("GetKernel", "ListKernels"))
    assert [api.about("GetKernel").status, api.call("ListKernels").status, status(api).status] == [429, 429, 200]
    kaggle.heal("rate_limited")
    assert api.about("GetKernel").status == 200
    kaggle.fail("forbidden")
    kaggle.fail("unauthorized")
    assert status(api).status == 403  # the first that was asked for is the outermost
    kaggle.heal()
    assert status(api).status == 200
    with pytest.raises(KeyError, match="no_such_failure"):
        kaggle.fail("no_such_failure")
    with pytest.raises(KeyError, match="no such operation"):
        kaggle.fail("server_error", on="GetKernels")
