"""Everything that is known to go wrong on Kaggle ends in the right state, with the right words and exit code, and is resumed rightly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.kaggle.driver import machine, planning
from engine.kaggle.driver.api import client
from engine.kaggle.driver.story import read_story
from tests.kaggle.driver.stand_ins import done_at_once, log_of, outcome
from tests.kaggle.platform.failures.catalog import FAILURES
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.scripted import Script

STATUS, SAVE, LIST = "GetKernelSessionStatus", "SaveKernel", "ListKernelSessionOutput"
DONE = "done"
ONCE_A_RUN = {
    "Upload",
    "CreateDataset",
    "GetDatasetStatus",
    "GetUserSecretByLabel",
    "AttachDatasource",
    "DownloadModelInstanceVersion",
}
MODEL = "google/gemma/transformers/2b/3"


@dataclass(frozen=True)
class Case:
    """``name``: the failure. ``code``: of the error, "" for none. ``state``: where the run stands then, None where nothing is planned."""

    name: str
    code: str = ""
    exit_code: int = 0
    state: str | None = DONE
    times: int | None = None
    on: str | tuple[str, ...] = ()
    with_: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    pushes: int = 1  # versions on the platform when the run is done after all
    leaves_nothing: bool = False  # the session
    is_fetched_again: bool = False  # instead of pushed again
    said: str = ""  # a part of what is said

    @property
    def id(self) -> str:
        where = self.on if isinstance(self.on, str) else "+".join(self.on)
        return "-".join(
            filter(
                None,
                [
                    self.name,
                    where,
                    f"x{self.times}" if self.times else "",
                    *map(str, self.with_.values()),
                    "nothing" * self.leaves_nothing,
                ],
            )
        )


CASES = (
    # the push
    Case("gpu_capacity", "G230", 8, "refused", said="Maximum batch GPU session count"),
    Case("tpu_capacity", "G230", 8, "refused", words=("--target", "kaggle-v5e-8"), said="Maximum batch TPU session count"),
    Case("cpu_capacity", "G230", 8, "refused"),
    Case("capacity_but_saved", "G230", 8, "refused", pushes=2, said="version 1 was saved and does not run"),
    Case("gpu_quota_empty", "G220", 8, "planned", said="quota is used"),
    Case("gpu_quota_empty", "G230", 8, "refused", on=SAVE, said="Maximum weekly GPU quota"),
    Case("tpu_quota_empty", "G220", 8, "planned", words=("--target", "kaggle-v5e-8")),
    Case("quota_absent", said="says nothing of a GPU quota"),
    Case("notebook_not_found", "G230", 8, "refused", said="Notebook not found"),
    Case("invalid_dataset_sources", "G231", 8, "refused", words=("--wheel-dataset", "someone/engine"), pushes=2, said="dataset: someone/engine"),
    Case("invalid_model_sources", "G231", 8, "refused", pushes=2, said=f"model: {MODEL}"),
    Case("invalid_competition_sources"),
    Case("invalid_tags"),
    Case("accelerator_substituted", said="without accelerator instead of NvidiaTeslaT4"),
    Case("tpu_on_cpu_image", words=("--target", "kaggle-v5e-8"), said="none for a TPU"),
    Case("source_too_large", "G230", 8, "refused", said="--wheel-dataset"),
    Case("saved_not_run", "G232", 8, "refused", pushes=2),
    Case("push_answer_lost", said="looking for the version"),
    Case("push_without_version"),
    Case("slug_changed", said="has named the notebook someone/runspec-toy-v1-1"),
    # the way there and back
    Case("unauthorized", "G205", 8, None, said="401"),
    Case("unauthorized", "G205", 8, "pushed", on=STATUS),
    Case("unauthorized", "G205", 8, "refused", on=SAVE),
    Case("forbidden", "G205", 8, None, said="403"),
    Case("forbidden", "G206", 8, "pushed", on=STATUS),
    Case("forbidden", "G206", 8, "refused", on=SAVE),
    Case("token_refused", "G205", 8, None, with_={"status": 403}),
    Case("token_refused", "G205", 8, None, with_={"status": 404}, said="no token of Kaggle's (404)"),
    Case("token_inactive", "G205", 8, None, said="expired, or was revoked"),
    Case("token_expired", "G205", 8, "pushed", on=STATUS, said="what runs on Kaggle goes on"),
    Case("rate_limited", times=2, on="*"),
    Case("rate_limited", times=1, on=SAVE),
    Case("rate_limited", "G230", 8, "refused", on=SAVE),
    Case("rate_limited", "G211", 8, "pushed", on=STATUS),
    Case("rate_limited", times=1, on=STATUS, with_={"seconds": 120}, said="asked again in 120 s"),
    Case("rate_limited_until", times=2, on="*"),
    Case("rate_limited_bare", times=2, on="*"),
    Case("server_error", times=2, on="*"),
    Case("server_error", "G208", 8, None, on="IntrospectToken"),
    Case("server_error", "G208", 8, "pushed", on=STATUS),
    Case("server_error", "G208", 8, "preflight", on="GetKernel"),
    Case("server_error", "G208", 8, "fetching", on=LIST),
    Case("server_error", times=2, on=SAVE),
    Case("server_error", "G230", 8, "refused", on=SAVE),
    Case("bad_gateway", times=1, on=("SaveKernel", STATUS, LIST)),
    Case("never_answers", times=1, on=STATUS),
    Case("never_answers", times=1, on=SAVE),
    Case("slow_answer", on=STATUS, times=1, with_={"seconds": 0.01}),
    Case("connection_cut", times=1, on=SAVE),
    Case("connection_cut", times=2, on=(STATUS, LIST)),
    Case("answer_cut", times=1, on=SAVE),
    Case("answer_cut", times=2, on=(STATUS, LIST)),
    Case("truncated_json", times=1, on=SAVE),
    Case("truncated_json", "G209", 8, "pushed", on=STATUS),
    Case("html_with_200", times=1, on=SAVE),
    Case("html_with_200", "G209", 8, "pushed", on=STATUS, said="a page of HTML"),
    Case("empty_answer", times=1, on=SAVE),
    Case("empty_answer", times=2, on=STATUS),
    Case("redirect_loop", times=1, on=SAVE),
    Case("redirect_loop", "G209", 8, "pushed", on=STATUS),
    Case("error_with_200", "G206", 8, "pushed", on=STATUS),
    Case("unknown_fields", on=(SAVE, STATUS, LIST, "ListKernelFiles", "GetKernel", "GetAcceleratorQuotaStatistics", "IntrospectToken")),
    Case("clock_skew", on="*"),
    Case("late_answer", times=2, on="*", with_={"seconds": 0.05}),
    # the session
    Case("status_absent", times=2),
    Case("status_numeric", times=2),
    Case("status_unknown", times=2),
    Case("status_unknown", "G244", 8, "pushed", said='"HIBERNATING"'),
    Case("status_spelling"),
    Case("stuck_queued", "G245", 8, "queued", said="waiting in the queue"),
    Case("stuck_running", "G245", 8, "running", said="still running"),
    Case("session_cancelled", "G241", 1, "failed", times=1, pushes=2),
    Case("session_timed_out", "G241", 1, "failed", pushes=2),
    Case("session_failed", "G240", 1, "failed", times=1, pushes=2, leaves_nothing=True, said="allocate more memory"),
    Case("session_failed", times=1, said="is over (ERROR)"),
    Case("newer_version", times=1, pushes=2, said="version 2 was pushed meanwhile"),
    Case("version_vanished", "G242", 8, "failed", times=1),
    # the output
    Case("output_vanished", "G253", 8, "failed", pushes=2),
    Case("output_vanished", "G253", 8, "failed", times=2, on=(LIST, "ListKernelFiles"), pushes=2),
    Case("error_page", times=1),
    Case("error_page", "G251", 8, "fetching"),
    Case("error_page_with_200", "G251", 8, "fetching"),
    Case("link_expired", times=1),
    Case("traversal_name", "G250", 8, "fetching", said="outside the folder"),
    Case("absolute_name", "G250", 8, "fetching"),
    Case("name_twice", "G250", 8, "fetching", said="twice"),
    Case("download_cut", times=2),
    Case("download_cut", "G251", 8, "fetching"),
    Case("range_ignored"),
    Case("file_changed", "G262", 8, "failed", is_fetched_again=True),
    Case("stale_file"),
    Case("no_validator"),
    Case("empty_file", "G251", 8, "fetching"),
    Case("corrupt_file", "G251", 8, "fetching"),
    Case("wrong_size", "G251", 8, "fetching"),
    Case("page_token_repeats", "G209", 8, "fetching"),
    Case("log_stream_cut"),
    Case("log_replayed"),
    Case("log_without_end"),
    Case("log_huge", with_={"megabytes": 1}),
    Case("log_not_utf8"),
    Case("log_plain_text"),
    Case("log_empty"),
)  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, kaggle: Platform) -> None:
    """Short time-outs, and a run that is done when its session says so: tests/kaggle/driver/test_run.py has the evidence."""
    monkeypatch.setattr(client, "READ_SECONDS", 0.5)
    monkeypatch.setattr(client, "PUSH_SECONDS", 0.5)
    monkeypatch.setattr(machine, "complete", done_at_once)
    monkeypatch.setitem(machine.ACTIONS, "completing", done_at_once)  # type: ignore[index]
    kaggle.add_dataset("someone/engine", {"engine.whl": "x"})
    kaggle.add_model(MODEL, {"config.json": "{}"})


# One of each kind; `make test-all` has them all.
QUICK = frozenset(
    [
        "gpu_capacity",
        "capacity_but_saved",
        "invalid_model_sources",
        "push_answer_lost",
        "unauthorized",
        "rate_limited-*-x2",
        "connection_cut-SaveKernel-x1",
        "html_with_200-SaveKernel-x1",
        "status_unknown",
        "session_cancelled-x1",
        "session_failed-x1",
        "newer_version-x1",
        "version_vanished-x1",
        "output_vanished",
        "traversal_name",
        "download_cut-x2",
        "corrupt_file",
        "log_stream_cut",
    ]
)


def marked(case: Case) -> Any:
    return pytest.param(case, id=case.id, marks=() if case.id in QUICK else pytest.mark.slow)


def test_each_quick_case_is_a_case() -> None:
    """A renamed case would leave the short run without a word."""
    assert {case.id for case in CASES} >= QUICK


def test_every_failure_of_the_platform_is_tried() -> None:
    """But those that a run without uploads and secrets never meets: test_upload.py and the notebook's own tests have them."""
    elsewhere = {name for name, failure in FAILURES.items() if not ONCE_A_RUN.isdisjoint(failure.on)}
    assert {case.name for case in CASES} == FAILURES.keys() - elsewhere - {"invalid_kernel_sources"}


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_each_failure_ends_rightly(
    case: Case,
    run: Callable[..., Any],
    runspec: Callable[..., Any],
    project: Path,
    kaggle: Platform,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The state, the words, the exit code; no secret; what is over says the same again, and what is not is resumed and done."""
    if case.name == "invalid_model_sources":
        monkeypatch.setattr(planning, "model_sources", lambda _: [MODEL])
    quota = dict(kaggle.quota.used)
    script = Script(files={} if case.leaves_nothing else outcome, log=log_of, queued_polls=1, running_polls=1)
    kaggle.script(script, *[Script(files=outcome, log=log_of)] * case.leaves_nothing)
    kaggle.fail(case.name, times=case.times, on=case.on, **case.with_)
    done = run(*case.words, "--json")
    told = done.out + done.err
    assert (done.code, code_of(done)) == (case.exit_code, case.code), told
    assert state_of(project) == case.state
    assert case.said in told.replace('\\"', '"')
    shown = runspec("kaggle", "status", "--json")
    assert shown.code == 0, shown.err
    assert [row["state"] for row in shown.document["runs"]] == [case.state] * (case.state is not None)
    kaggle.heal()
    kaggle.quota.used.update(quota)
    if case.state == "failed":
        assert code_of(run(*case.words, "--json")) == case.code, "what is over is over"
    if case.is_fetched_again:
        assert runspec("kaggle", "fetch", "toy_v1").code == 0
    after = run(*case.words, *["--again"] * (case.state == "failed" and not case.is_fetched_again), "--json")
    assert after.code == 0, after.out + after.err
    assert state_of(project) == DONE
    assert sum(len(kernel.versions) for kernel in kaggle.kernels.values()) == case.pushes
    assert_nothing_mixed(project, kaggle)
    assert_no_secret(project, kaggle, told + after.out + after.err)


def code_of(done: Any) -> str:
    return "" if done.code == 0 else str(done.document["diagnostics"][0]["code"])


def state_of(project: Path) -> str | None:
    last = read_story(project, "toy_v1").last
    return last.state if last else None


def assert_nothing_mixed(project: Path, kaggle: Platform) -> None:
    """Each version's folder has the bytes of that version."""
    for attempt in read_story(project, "toy_v1").attempts:
        folder = project / ".runspec" / "kaggle" / "toy_v1" / f"v{attempt.version}" / "output"
        for name in (attempt.event("fetched") or {}).get("files", ()):
            stored = {file.name: file.read() for file in kaggle.session(f"{attempt.name}/{attempt.version}").output()}
            assert (folder / name).read_bytes() == stored[name]


def assert_no_secret(project: Path, kaggle: Platform, told: str) -> None:
    """Neither on the screen nor in any file that the driver wrote."""
    written = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    for secret in kaggle.issued_secrets:
        assert secret not in told
        assert [path for path, data in written.items() if secret.encode() in data] == []
