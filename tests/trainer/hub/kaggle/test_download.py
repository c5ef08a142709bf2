"""Laws of a download from Kaggle: into kagglehub's layout, each file checked, resumable, and only what is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest

from engine.trainer.hub.kaggle import errors, rest
from tests.kaggle.platform.platform import Platform

FOLDER = "acme/tiny-gemma/transformers/micro"


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def downloads(kaggle: Platform) -> int:
    return sum(request.operation == "Download" for request in kaggle.requests)


def test_what_is_read_is_fetched_once(online: Any, kaggle: Platform, safetensors_files: Mapping[str, bytes]) -> None:
    """Into kagglehub's layout with its markers, and not the other files; the second time nobody is asked."""
    fetched = online.fetch()
    assert fetched.folder == online.cache / FOLDER / "3"
    assert (fetched.place, fetched.files) == ("cache", digests(safetensors_files))
    assert {path.name for path in fetched.folder.iterdir()} == set(safetensors_files)
    markers = online.cache / FOLDER / ".complete" / "3"
    assert {path.name for path in markers.iterdir()} == {f"{name}.complete" for name in safetensors_files}
    assert not (online.cache / FOLDER / "3.complete").exists()  # kagglehub would fetch README.md as well
    assert not (online.cache / FOLDER / ".runspec" / "3").exists()
    progress = online.named("download")
    assert progress[-1]["done_bytes"] == progress[-1]["total_bytes"]
    asked = len(kaggle.requests)
    assert online.fetch().files == fetched.files
    assert len(kaggle.requests) == asked


def test_all_files_make_a_complete_version(
    online: Any, kaggle: Platform, safetensors_files: Mapping[str, bytes]
) -> None:
    """Where every file is one that is read, kagglehub takes the folder as its own."""
    kaggle.add_model("acme/tiny-gemma/transformers/micro/4", safetensors_files)
    online.fetch("acme/tiny-gemma/transformers/micro/4")
    assert (online.cache / FOLDER / "4.complete").exists()


@pytest.mark.parametrize("failure", ["download_cut", "range_ignored", "no_validator", "connection_cut", "rate_limited",
                                     "rate_limited_bare", "server_error", "bad_gateway"])  # fmt: skip
def test_a_download_survives(
    online: Any, kaggle: Platform, safetensors_files: Mapping[str, bytes], failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut connection, a server that ignores ranges or names no digest, 429 and 5xx: the same files in the end."""
    if failure == "range_ignored":
        kaggle.fail("download_cut", times=1)
    kaggle.fail(failure, times=None if failure in ("range_ignored", "no_validator") else 1)
    assert online.fetch().files == digests(safetensors_files)


@pytest.mark.parametrize("failure", ["corrupt_file", "error_page_with_200", "empty_file"])
def test_other_bytes_than_listed_are_refused(online: Any, kaggle: Platform, failure: str) -> None:
    """M406; nothing of it keeps a name, and the next fetch works."""
    kaggle.fail(failure)
    assert online.error().code == "M406"
    assert not list(online.cache.rglob("*.runspec.json"))
    kaggle.heal()
    assert online.fetch().place == "cache"


def test_a_file_that_has_changed_since_is_fetched_again(online: Any, kaggle: Platform) -> None:
    """By the engine's own digests; without Kaggle it is an error that names the file."""
    fetched = online.fetch()
    (fetched.folder / "config.json").write_bytes(b"{}")
    reachable = online.environ.pop("RUNSPEC_KAGGLE_API")
    online.environ["RUNSPEC_KAGGLE_API"] = "http://127.0.0.1:9/api/v1"
    error = online.error()
    assert error.code == "M406"
    assert "config.json of acme/tiny-gemma/transformers/micro/3: changed in the cache" in str(error)
    online.environ["RUNSPEC_KAGGLE_API"] = reachable
    assert online.fetch().files == fetched.files
    assert [entry["file"] for entry in online.named("hub_bad_file")] == ["config.json"]


def test_a_stopped_download_goes_on_where_it_stopped(online: Any, kaggle: Platform) -> None:
    """M408 in the middle of the weights; the files before them are not fetched again."""
    kaggle.fail("download_cut")
    stopped = online.error(stopping=lambda: any(path.stat().st_size for path in online.cache.rglob("*.safetensors.*")))
    assert stopped.code == "M408"
    (half,) = online.cache.rglob("*.safetensors.incomplete")
    size, before = half.stat().st_size, len(kaggle.requests)
    kaggle.heal()
    online.fetch()
    again = kaggle.requests[before:]
    assert "config.json" not in [request.body.get("path") for request in again if isinstance(request.body, dict)]
    assert f"bytes={size}-" in [request.headers.get("range") for request in again]


def test_a_refused_configuration_ends_it_before_the_weights(online: Any, kaggle: Platform) -> None:
    """``judge`` has config.json alone."""

    def judge(folder: Any) -> None:
        assert json.loads((folder / "config.json").read_text())["model_type"] == "gemma"
        assert not (folder / "model.safetensors").exists()
        raise errors.not_mounted(errors.KaggleSource(rest.KaggleModel("a", "b", "c", "d", 1)))

    assert online.error(judge=judge).code == "M410"


def test_many_files_come_as_an_archive(online: Any, kaggle: Platform, safetensors_files: Mapping[str, bytes]) -> None:
    """More than 25: one download; of the archive only the files that are read are taken."""
    chunks = {f"2b/d/{number:02}": bytes([number]) * 10 for number in range(30)}
    files = {"tokenizer.model": b"pieces", "2b/_METADATA": b"{}", **chunks}
    kaggle.add_model("acme/tiny-gemma/flax/micro/1", {**files, "README.md": b"x"})
    fetched = online.fetch("acme/tiny-gemma/flax/micro/1")
    assert fetched.files == digests(files)
    assert downloads(kaggle) == 2  # one byte to learn the size, then the archive
    assert not (fetched.folder / "README.md").exists()
