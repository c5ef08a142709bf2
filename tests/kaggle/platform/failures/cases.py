"""One question and the expected answer for every failure, as a plain client sees it."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from tests.kaggle.platform.plain import Answer, Plain
from tests.kaggle.platform.session.scripted import Script

FILES = {"a.txt": "0123456789", "b/c.txt": "second"}
SCRIPT = Script(files=FILES, log=["one", "two", "three"])
ENDLESS = Script(files=FILES, log=["one"], running_seconds=float("inf"))
LISTED = {"userName": "someone", "kernelSlug": "my-run"}


class Broken(Exception):
    """The connection broke before the answer was whole."""


def unbroken(ask: Callable[[], Answer]) -> Answer:
    """The answer, or :class:`Broken`."""
    try:
        return ask()
    except (http.client.HTTPException, ConnectionError) as error:
        raise Broken(type(error).__name__) from error


def push(api: Plain) -> Answer:
    """A push that names one of every source."""
    api.platform.add_dataset("someone/data", {"a": ""})
    api.platform.add_model("google/gemma/flax/2b/2", {"a": ""})
    return api.push(
        machineShape="NvidiaTeslaT4", datasetDataSources=["someone/data"], kernelDataSources=["someone/my-run"],
        modelDataSources=["google/gemma/flax/2b/2"], competitionDataSources=[], categoryIds=["nlp"],
    )  # fmt: skip


def push_tpu(api: Plain) -> Answer:
    """A push for a TPU."""
    return api.push(machineShape="TpuV5E8")


def quota(api: Plain) -> Answer:
    """Hours."""
    return api.call("GetAcceleratorQuotaStatistics")


def status(api: Plain) -> Answer:
    """The word."""
    return api.about("GetKernelSessionStatus")


def output(api: Plain) -> Answer:
    """The listing with addresses."""
    return api.about("ListKernelSessionOutput")


def files(api: Plain) -> Answer:
    """The listing with sizes."""
    return api.about("ListKernelFiles")


def download(api: Plain) -> Answer:
    """The first file."""
    listed = output(api).json["files"]
    return api.get(listed[0]["url"])


def download_rest(api: Plain) -> Answer:
    """The first file from its fifth byte on, if it is still the same."""
    address = output(api).json["files"][0]["url"]
    tag = api.send("HEAD", address).headers["etag"]
    return api.get(address, Range="bytes=5-", If_Range=tag)


def stream(api: Plain) -> Answer:
    """The log as it comes."""
    return api.get("/api/v1/kernels/logs/stream/someone/my-run?versionLabel=v1", Authorization=str(api.authorization))


def token(api: Plain) -> Answer:
    """Whose it is."""
    return api.call("IntrospectToken", token=api.platform.token)


def dataset(api: Plain) -> Answer:
    """Made of one upload."""
    started = api.call("StartBlobUpload", name="a.whl", contentLength=4).json
    api.send("PUT", started["createUrl"], b"abcd")
    return api.call("CreateDataset", slug="my-data", title="my data", files=[{"token": started["token"]}])


def dataset_status(api: Plain) -> Answer:
    """Of one that is there."""
    return api.call("GetDatasetStatus", ownerSlug="someone", datasetSlug="there")


def upload(api: Plain) -> Answer:
    """Four bytes, and how many of them arrived."""
    address = api.call("StartBlobUpload", name="a.whl", contentLength=4).json["createUrl"]
    first = api.send("PUT", address, b"abcd")
    again = api.send("PUT", address, headers={"Content-Range": "bytes */4"})
    return Answer(first.status, again.headers, json.dumps([first.status, again.status]).encode())


def _in_session(api: Plain, path: str, body: Mapping[str, Any]) -> Answer:
    version = api.platform.version("someone/my-run")
    headers = {"X-Kaggle-Authorization": f"Bearer {api.platform.world.pass_for(version)}"}
    return api.send("POST", path, json.dumps(body).encode(), headers)


def secret(api: Plain) -> Answer:
    """One that is made and attached."""
    api.platform.add_secret("HF_TOKEN", "made-up", attach_to="someone/my-run")
    return _in_session(api, "/requests/GetUserSecretByLabelRequest", {"Label": "HF_TOKEN"})


def attach(api: Plain) -> Answer:
    """A model, from inside."""
    return _in_session(api, "/kaggle-jwt-handler/AttachDatasourceUsingJwtRequest", {"modelRef": {}})


def model(api: Plain) -> Answer:
    """A file of a model."""
    api.platform.add_model("google/gemma/flax/2b/2", {"a": ""})
    words = {"ownerSlug": "google", "modelSlug": "gemma", "framework": "flax", "instanceSlug": "2b", "path": "a"}
    return api.call("DownloadModelInstanceVersion", **words)


@dataclass(frozen=True)
class Case:
    """A failure, what is asked, and whether the answer shows it. ``breaks``: the connection does not survive it."""

    name: str
    ask: Callable[[Plain], Answer]
    shows: Callable[[Answer], object] = lambda answer: True
    breaks: bool = False
    script: Script = SCRIPT
    times: int | None = None
    after: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _error(sentence: str) -> Callable[[Answer], bool]:
    return lambda answer: answer.status == 200 and answer.json == {"error": sentence}


def _coded(code: int, **headers: str) -> Callable[[Answer], bool]:
    return lambda answer: answer.status == code == answer.json["code"] and headers.items() <= answer.headers.items()


def _word(word: object) -> Callable[[Answer], bool]:
    return lambda answer: answer.json["status"] == word


def _invalid(key: str, *names: str) -> Callable[[Answer], bool]:
    return lambda answer: answer.json[key] == list(names) and "versionNumber" in answer.json


def _body(content: bytes) -> Callable[[Answer], bool]:
    return lambda answer: answer.status == 200 and answer.body == content


def _named(name: str) -> Callable[[Answer], bool]:
    return lambda answer: [file.get("fileName") for file in answer.json["files"]].count(name) == 1


def _events(answer: Answer) -> list[str]:
    return [line[6:] for line in answer.body.decode().split("\n\n") if line]


def _late_by(answer: Answer, seconds: int) -> bool:
    return abs((parsedate_to_datetime(answer.headers["retry-after"]) - _date(answer)).total_seconds() - seconds) <= 1


def _date(answer: Answer) -> datetime:
    return parsedate_to_datetime(answer.headers["date"])


GPU, TPU, CPU = (
    f"Maximum batch {kind} session count of {most} reached." for kind, most in (("GPU", 2), ("TPU", 1), ("CPU", 5))
)
CASES: tuple[Case, ...] = (
    Case("gpu_capacity", push, _error(GPU)),
    Case("tpu_capacity", push, _error(TPU)),
    Case("cpu_capacity", push, _error(CPU)),
    Case("capacity_but_saved", push, _error(GPU)),
    Case("gpu_quota_empty", push, _error("Maximum weekly GPU quota of 30.00 hours reached.")),
    Case("tpu_quota_empty", push_tpu, _error("Maximum weekly TPU quota of 20.00 hours reached.")),
    Case("quota_absent", quota, _body(b"{}")),
    Case("notebook_not_found", push, _error("Notebook not found")),
    Case("invalid_dataset_sources", push, _invalid("invalidDatasetSources", "someone/data")),
    Case("invalid_competition_sources", push, _invalid("invalidCompetitionSources")),
    Case("invalid_kernel_sources", push, _invalid("invalidKernelSources", "someone/my-run")),
    Case("invalid_model_sources", push, _invalid("invalidModelSources", "google/gemma/flax/2b/2")),
    Case("invalid_tags", push, _invalid("invalidTags", "nlp")),
    Case("accelerator_substituted", push, lambda answer: "error" not in answer.json),
    Case("tpu_on_cpu_image", push_tpu, lambda answer: "error" not in answer.json),
    Case("source_too_large", push, _coded(400)),
    Case("saved_not_run", push, lambda answer: answer.json["versionNumber"] == 2),
    Case("push_answer_lost", push, breaks=True),
    Case("push_without_version", push, lambda answer: answer.json["url"] and "versionNumber" not in answer.json),
    Case("slug_changed", push, lambda answer: answer.json["ref"] == "/code/someone/my-run-1"),
    Case("slug_taken", dataset, lambda answer: answer.status == 200 and answer.json["status"] == "error"),
    Case("dataset_never_ready", dataset_status, _word("BLOBS_RECEIVED")),
    Case("upload_expired", upload, lambda answer: answer.json == [404, 404]),
    Case("upload_interrupted", upload, lambda answer: (answer.json, answer.headers["range"]) == ([503, 308], "bytes=0-1"), times=1),
    Case("unauthorized", status, _coded(401)),
    Case("forbidden", status, _coded(403)),
    Case("token_refused", token, _coded(404), arguments={"status": 404}),
    Case("token_inactive", token, lambda answer: answer.json == {"active": False}),
    Case("token_expired", status, _coded(401)),
    Case("rate_limited", push, _coded(429, **{"retry-after": "7"}), arguments={"seconds": 7}),
    Case("rate_limited_until", push, lambda answer: _coded(429)(answer) and _late_by(answer, 60), arguments={"seconds": 60}),
    Case("rate_limited_bare", push, lambda answer: _coded(429)(answer) and "retry-after" not in answer.headers),
    Case("server_error", status, _coded(503), arguments={"status": 503}),
    Case("bad_gateway", status, lambda answer: answer.status == 502 and b"<html>" in answer.body),
    Case("slow_answer", status, _word("COMPLETE"), arguments={"seconds": 0.01}),
    Case("late_answer", status, _word("COMPLETE"), arguments={"seconds": 0.01}),
    Case("connection_cut", status, breaks=True),
    Case("answer_cut", status, breaks=True),
    Case("truncated_json", status, _body(b'{"status": ')),
    Case("html_with_200", status, lambda answer: answer.status == 200 and b"<html>" in answer.body),
    Case("empty_answer", status, _body(b"")),
    Case("redirect_loop", status, lambda answer: (answer.status, answer.headers["location"][-7:]) == (307, "nStatus")),
    Case("error_with_200", status, lambda answer: (answer.status, answer.json["code"]) == (200, 403)),
    Case("unknown_fields", status, lambda answer: answer.json["status"] == "COMPLETE" and len(answer.json) == 3),
    Case("status_absent", status, lambda answer: answer.status == 200 and "status" not in answer.json),
    Case("status_numeric", status, _word(1)),
    Case("status_unknown", status, _word("HIBERNATING")),
    Case("status_spelling", status, _word("Complete")),
    Case("stuck_queued", status, _word("QUEUED")),
    Case("stuck_running", status, _word("RUNNING")),
    Case("session_cancelled", status, _word("CANCEL_REQUESTED"), script=ENDLESS),
    Case("session_timed_out", status, _word("CANCEL_ACKNOWLEDGED"), script=ENDLESS),
    Case("session_failed", status, lambda answer: answer.json == {"status": "ERROR", "failureMessage": "no memory"},
         script=ENDLESS, arguments={"message": "no memory"}),
    Case("newer_version", status, _word("COMPLETE")),
    Case("version_vanished", status, _coded(403)),
    Case("output_vanished", output, _body(b"{}")),
    Case("error_page", download, lambda answer: answer.status == 403 and b"<Error>" in answer.body),
    Case("error_page_with_200", download, lambda answer: answer.status == 200 and b"<html>" in answer.body),
    Case("link_expired", download, lambda answer: answer.status == 403),
    Case("traversal_name", output, _named("../../planted.txt")),
    Case("absolute_name", output, _named("/planted"), arguments={"name": "/planted"}),
    Case("name_twice", output, lambda answer: [file["fileName"] for file in answer.json["files"]].count("a.txt") == 2),
    Case("download_cut", download, breaks=True),
    Case("range_ignored", download_rest, _body(b"0123456789")),
    Case("file_changed", download_rest, _body(b"9876543210"), after=1),
    Case("stale_file", download, lambda answer: "2020" in answer.headers["last-modified"]),
    Case("no_validator", download, lambda answer: not {"etag", "last-modified", "x-goog-hash"} & set(answer.headers)),
    Case("empty_file", download, _body(b"")),
    Case("corrupt_file", download, _body(b"1123456789")),
    Case("wrong_size", files, lambda answer: [file["size"] for file in answer.json["files"]] == [11, 7]),
    Case("page_token_repeats", output, lambda answer: answer.json["nextPageToken"] == "p1"),
    Case("log_stream_cut", stream, breaks=True),
    Case("log_replayed", stream, lambda answer: len(_events(answer)) == 7 and _events(answer)[-1] == "END_OF_LOG"),
    Case("log_without_end", stream, lambda answer: len(_events(answer)) == 3),
    Case("log_huge", output, lambda answer: len(answer.json["log"]) > 1024**2, arguments={"megabytes": 1}),
    Case("log_huge", stream, lambda answer: len(answer.json) == 1024, arguments={"megabytes": 1}),
    Case("log_not_utf8", output, lambda answer: b"caf\xe9" in answer.body),
    Case("log_not_utf8", stream, lambda answer: b"caf\xe9" in answer.body),
    Case("log_plain_text", output, lambda answer: answer.json["log"] == "line one\nline two\n"),
    Case("log_plain_text", stream, _body(b"line one\nline two\n")),
    Case("log_empty", output, lambda answer: answer.json["files"] and "log" not in answer.json),
    Case("log_empty", stream, _body(b"[]")),
    Case("secret_detached", secret, lambda answer: "No user secrets exist" in answer.json["errors"][0]),
    Case("secret_service_down", secret, lambda answer: answer.status == 401, arguments={"status": 401}),
    Case("secret_answer_odd", secret, _body(b'{"wasSuccessful": true}')),
    Case("never_mounted", attach, lambda answer: answer.json["result"]["mountSlug"] == "models/never/mounted"),
    Case("mount_slug_missing", attach, lambda answer: answer.json["result"] == {}),
    Case("consent_missing", model, _coded(403)),
)  # fmt: skip
