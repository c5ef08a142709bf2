"""What the real `kaggle` command 2.2.5 makes of every failure: exit code and text, as recorded or seen here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.kaggle.platform.session.scripted import Script

VERSION = "someone/my-run/1"
PUSH = ("kernels", "push", "-p", "nb", "--accelerator", "NvidiaTeslaT4")
PUSH_TPU = (*PUSH[:-1], "TpuV5E8")
STATUS = ("kernels", "status", VERSION)
OUTPUT = ("kernels", "output", VERSION, "-p", "out")
LOGS, FOLLOW = ("kernels", "logs", VERSION), ("kernels", "logs", "-f", VERSION)
LIST = ("kernels", "files", VERSION)
CREATE = ("datasets", "create", "-p", "ds")
FILES = {"evidence/run.json": '{"a": 1}', "package.zip": b"abc" * 1000}
DONE = Script(files=FILES, log=["one", "two", "three"])
ENDLESS = Script(files=FILES, log=["one"], running_seconds=float("inf"))
KILLED = None
PUSHED = "Kernel version 1 successfully pushed."
DENIED = "Cannot access kernel 'someone/my-run/1' (Permission 'kernels.get' was denied)"
PAGE = "Expecting value: line 1 column 1 (char 0)"


@dataclass(frozen=True)
class RealCase:
    """A failure, the command, its exit code (None: it never ends), a text in its output; ``files``: name -> size of what it wrote."""

    name: str
    words: tuple[str, ...]
    code: int | None
    text: str = ""
    on: str | tuple[str, ...] = ()
    times: int | None = None
    after: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)
    script: Script = DONE
    files: Mapping[str, int] | None = None
    not_said: str = ""
    calls: int | None = None


def _on_status(name: str, code: int | None, text: str = "", **more: Any) -> RealCase:
    return RealCase(name, STATUS, code, text, on="GetKernelSessionStatus", **more)


GOOD = {"evidence/run.json": 8, "package.zip": 3000}
REAL_CASES: tuple[RealCase, ...] = (
    # pushes: refusals with exit code 0
    RealCase("gpu_capacity", PUSH, 0, "Kernel push error: Maximum batch GPU session count of 2 reached."),
    RealCase("tpu_capacity", PUSH_TPU, 0, "Kernel push error: Maximum batch TPU session count of 1 reached."),
    RealCase("cpu_capacity", PUSH, 0, "Kernel push error: Maximum batch CPU session count of 5 reached."),
    RealCase("capacity_but_saved", PUSH, 0, "Kernel push error: Maximum batch GPU session count of 2 reached."),
    RealCase("gpu_quota_empty", PUSH, 0, "Kernel push error: Maximum weekly GPU quota of 30.00 hours reached."),
    RealCase("tpu_quota_empty", PUSH_TPU, 0, "Kernel push error: Maximum weekly TPU quota of 20.00 hours reached."),
    RealCase("notebook_not_found", PUSH, 0, "Kernel push error: Notebook not found"),
    RealCase("invalid_dataset_sources", PUSH, 0, "not valid dataset sources and could not be added to the kernel: ['someone/data']"),
    RealCase("invalid_competition_sources", PUSH, 0, "not valid competition sources and could not be added to the kernel: ['titanic']"),
    RealCase("invalid_kernel_sources", PUSH, 0, "not valid kernel sources and could not be added to the kernel: ['someone/earlier-run']"),
    RealCase("invalid_model_sources", PUSH, 0, PUSHED, not_said="model"),
    RealCase("invalid_tags", PUSH, 0, "not valid tags and could not be added to the kernel: ['nlp']"),
    RealCase("accelerator_substituted", PUSH, 0, PUSHED, not_said="CPU"),
    RealCase("tpu_on_cpu_image", PUSH_TPU, 0, PUSHED, not_said="CPU"),
    RealCase("saved_not_run", PUSH, 0, PUSHED),
    RealCase("push_without_version", PUSH, 0, "Kernel version successfully pushed."),
    RealCase("slug_changed", PUSH, 0, "https://www.kaggle.com/code/someone/my-run-1"),
    # pushes: exit code 1
    RealCase("source_too_large", PUSH, 1, "The kernel source must be less than 1 megabytes in size."),
    RealCase("push_answer_lost", PUSH, 1, "Remote end closed connection without response"),
    RealCase("rate_limited", PUSH, 1, "Too many requests", on="SaveKernel", calls=1),
    RealCase("rate_limited_until", PUSH, 1, "Too many requests", on="SaveKernel", calls=1),
    RealCase("rate_limited_bare", PUSH, 1, "Too many requests", on="SaveKernel", calls=1),
    # who may ask
    RealCase("unauthorized", STATUS, 1, "Unauthenticated", on="IntrospectToken"),
    RealCase("token_refused", STATUS, 1, "Authentication required to call the Kaggle API."),
    RealCase("token_refused", STATUS, 1, "Authentication required", arguments={"status": 400}),
    RealCase("token_refused", STATUS, 1, "Authentication required", arguments={"status": 404}),
    RealCase("token_inactive", STATUS, 1, "Authentication required to call the Kaggle API."),
    _on_status("forbidden", 1, DENIED),
    _on_status("token_expired", 1, DENIED),
    # the way there and back
    _on_status("server_error", 1, "Internal error encountered."),
    _on_status("bad_gateway", 1, "502 Server Error"),
    _on_status("never_answers", KILLED),
    _on_status("slow_answer", 0, "COMPLETE", arguments={"seconds": 0.1}),
    _on_status("late_answer", 0, "COMPLETE"),
    _on_status("connection_cut", 1, "Remote end closed connection without response"),
    _on_status("answer_cut", 1, "IncompleteRead"),
    _on_status("truncated_json", 1, "Expecting value: line 1 column 12"),
    _on_status("html_with_200", 1, PAGE),
    _on_status("empty_answer", 1, PAGE),
    _on_status("redirect_loop", 1, "Exceeded 30 redirects."),
    _on_status("error_with_200", 1, "Permission 'kernels.get' was denied"),
    _on_status("unknown_fields", 0, "COMPLETE"),
    _on_status("clock_skew", 0, "COMPLETE"),
    # words
    _on_status("status_absent", 0, 'has status "KernelWorkerStatus.QUEUED"'),
    _on_status("status_numeric", 1, "AttributeError: 'int' object has no attribute 'lower'"),
    _on_status("status_unknown", 1, "KeyError: 'HIBERNATING'"),
    _on_status("status_spelling", 0, 'has status "KernelWorkerStatus.COMPLETE"'),
    _on_status("stuck_queued", 0, "QUEUED"),
    _on_status("stuck_running", 0, "RUNNING"),
    _on_status("session_cancelled", 0, "CANCEL_REQUESTED", script=ENDLESS),
    _on_status("session_timed_out", 0, "CANCEL_ACKNOWLEDGED", script=ENDLESS, not_said="Failure message"),
    _on_status("session_failed", 0, 'Failure message: "no memory"', script=ENDLESS, arguments={"message": "no memory"}),
    _on_status("newer_version", 0, "COMPLETE"),
    _on_status("version_vanished", 1, DENIED),
    # output
    RealCase("output_vanished", OUTPUT, 0, files={}),
    RealCase("error_page", OUTPUT, 1, "403 Client Error: Forbidden", files={}),
    RealCase("error_page_with_200", OUTPUT, 0, files={"evidence/run.json": 110, "package.zip": 110}),
    RealCase("link_expired", OUTPUT, 1, "403 Client Error: Forbidden", files={}),
    RealCase("traversal_name", OUTPUT, 1, "Refusing to download '../../planted.txt'", files=GOOD),
    RealCase("absolute_name", OUTPUT, 1, "Refusing to download '/planted'", arguments={"name": "/planted"}, files=GOOD),
    RealCase("name_twice", OUTPUT, 0, files={"evidence/run.json": 7, "package.zip": 3000}),
    RealCase("download_cut", OUTPUT, 0, "Retry 1/5: Resuming", times=1, files=GOOD),
    RealCase("range_ignored", OUTPUT, 0, files=GOOD),
    RealCase("file_changed", OUTPUT, 0, files=GOOD),
    RealCase("stale_file", OUTPUT, 0, files=GOOD),
    RealCase("no_validator", OUTPUT, 0, files=GOOD),
    RealCase("empty_file", OUTPUT, 0, files={"evidence/run.json": 0, "package.zip": 0}),
    RealCase("corrupt_file", OUTPUT, 0, files=GOOD),
    RealCase("wrong_size", LIST, 0, "3001"),
    RealCase("page_token_repeats", OUTPUT, KILLED),
    # logs
    RealCase("log_stream_cut", FOLLOW, 0, "one\ntwo\nthree\n", times=1),
    RealCase("log_replayed", FOLLOW, 0, "one\ntwo\nthree\none\ntwo\nthree\n"),
    RealCase("log_without_end", FOLLOW, 0, "one\ntwo\nthree\n"),
    RealCase("log_huge", LOGS, 0, "xxxx"),
    RealCase("log_not_utf8", LOGS, 0, "caf\ufffd"),
    RealCase("log_plain_text", LOGS, 0, "line one\nline two\n"),
    RealCase("log_empty", LOGS, 0, not_said="one"),
    # quota and datasets
    RealCase("quota_absent", ("quota",), 0, "No quota information available"),
    RealCase("slug_taken", CREATE, 0, "Dataset creation error: The requested slug"),
    RealCase("rate_limited", CREATE, 0, "Your private Dataset is being created", on="CreateDataset", times=1, calls=2),
    RealCase("dataset_never_ready", ("datasets", "status", "someone/data"), 0, "blobs_received"),
    RealCase("upload_expired", CREATE, 1, "Upload unsuccessful: a.whl"),
    RealCase("upload_interrupted", CREATE, 0, "Already uploaded", times=1),
)  # fmt: skip
# The command does not come by these: a notebook does, or kagglehub.
INSIDE = frozenset(
    {
        "secret_detached",
        "secret_service_down",
        "secret_answer_odd",
        "never_mounted",
        "mount_slug_missing",
        "consent_missing",
    }
)
