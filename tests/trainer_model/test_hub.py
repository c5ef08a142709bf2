"""Fetching from the hub, told by a stand-in: what is fetched, and what each refusal says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import errors

from engine.errors import InputInvalid, RemoteRefused
from engine.trainer import hub

COMMIT = "0" * 39 + "1"
SECRET = "hf_" + "notARealToken"
SMALL = ["config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]


class Stand:
    """The hub as a test wants it: a list of files, or an exception."""

    def __init__(self, names: Sequence[str] = (), error: Exception | None = None, cached: Path | None = None) -> None:
        self.names, self.error, self.found = list(names), error, cached
        self.asked: list[str] = []

    def info(self, model_id: str, revision: str | None) -> tuple[str, list[str]]:
        if self.error is not None:
            raise self.error
        return COMMIT, self.names

    def download(self, model_id: str, commit: str, names: Sequence[str], cache: Path | None) -> Path:
        self.asked = list(names)
        return Path("/somewhere") / commit

    def cached(self, model_id: str, revision: str | None, cache: Path | None) -> Path | None:
        return self.found


class Reply:
    """What the hub's exceptions want to hold of an HTTP answer."""

    def __init__(self, status: int) -> None:
        self.status_code = status
        self.headers: dict[str, str] = {"authorization": SECRET}
        self.request = None


class ConnectError(Exception):
    """Named as the HTTP libraries name it."""


def http(kind: type[Exception], status: int) -> Exception:
    build: Callable[..., Exception] = kind
    return build(f"{status} Client Error. token {SECRET} https://hub.invalid/api", response=Reply(status))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (["model.safetensors", "flax_model.msgpack", "pytorch_model.bin"], ["model.safetensors"]),
        (
            ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
        ),
        (["flax_model.msgpack", "gemma-2b.gguf", "README.md"], ["flax_model.msgpack"]),
        (
            ["flax_model.msgpack.index.json", "flax_model-00001-of-00001.msgpack", ".gitattributes"],
            ["flax_model-00001-of-00001.msgpack", "flax_model.msgpack.index.json"],
        ),
    ],
)
def test_only_needed_files_are_fetched(weights: list[str], expected: list[str]) -> None:
    """Configuration, tokenizer, and the weights in one format."""
    stand = Stand([*SMALL, *weights])
    folder, commit = hub.fetch("a/b", "main", None, client=stand)
    assert commit == COMMIT == folder.name
    assert stand.asked == sorted([*SMALL, *expected])


def test_a_revision_without_weights_is_named() -> None:
    """Only PyTorch pickles: M404, and nothing is fetched."""
    stand = Stand([*SMALL, "pytorch_model.bin"])
    with pytest.raises(InputInvalid, match=r"M404.*a/b"):
        hub.fetch("a/b", "main", None, client=stand)
    assert stand.asked == []


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (http(errors.GatedRepoError, 401), "M401", "accept the licence"),
        (http(errors.GatedRepoError, 403), "M401", "HF_TOKEN"),
        (http(errors.HfHubHTTPError, 401), "M401", "HF_TOKEN"),
        (http(errors.RepositoryNotFoundError, 404), "M402", "check model.id"),
        (http(errors.RepositoryNotFoundError, 401), "M402", "private"),
        (http(errors.RevisionNotFoundError, 404), "M402", "no revision 'flax'"),
        (errors.HFValidationError(SECRET), "M402", "no model"),
        (errors.OfflineModeIsEnabled(SECRET), "M403", "model.path"),
        (ConnectError(SECRET), "M403", "cannot be reached"),
        (TimeoutError(SECRET), "M403", "cannot be reached"),
        (http(errors.HfHubHTTPError, 503), "M405", "HTTP 503"),
        (ValueError(SECRET), "M405", "ValueError"),
    ],
)
def test_each_refusal_says_what_to_do_and_no_secret(error: Exception, code: str, says: str) -> None:
    """The code, the id, the way out; never the client's own text, which may quote a request."""
    with pytest.raises((InputInvalid, RemoteRefused)) as caught:
        hub.fetch("google/gemma-2b", "flax", None, client=Stand(error=error))
    text = str(caught.value)
    assert caught.value.code == code
    assert says in text
    assert "google/gemma-2b" in text
    assert SECRET not in text
    assert caught.value.__cause__ is None


def test_without_network_an_earlier_download_serves(tmp_path: Path) -> None:
    """Offline, the cache's folder and its commit are the answer."""
    stand = Stand(error=ConnectError(), cached=tmp_path / COMMIT)
    assert hub.fetch("a/b", None, tmp_path, client=stand) == (tmp_path / COMMIT, COMMIT)


def test_a_refusal_is_not_hidden_by_the_cache(tmp_path: Path) -> None:
    """An answer that says no is not a missing network."""
    stand = Stand(error=http(errors.GatedRepoError, 403), cached=tmp_path / COMMIT)
    with pytest.raises(RemoteRefused, match="M401"):
        hub.fetch("a/b", None, tmp_path, client=stand)


def test_the_real_client_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub itself, offline and with an empty cache, ends in M403."""
    argument: Any = tmp_path
    with pytest.raises(RemoteRefused, match="M403"):
        hub.fetch("google/gemma-2b", "flax", argument)


def test_importing_hub_does_not_import_the_client() -> None:
    """The client is imported when the hub is first asked."""
    import subprocess
    import sys

    code = "import engine.trainer.hub, sys; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
