"""The loopback hub with a small Gemma on it, the real client pointed at it, and a token that must never be seen."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from flax import serialization
from huggingface_hub import close_session, constants

from engine.errors import RunspecError
from engine.trainer import hub as hub_package
from engine.trainer.hub import retry_policy
from engine.trainer.hub.hub_client import HubClient
from engine.trainer.models import config_from_hf, create
from engine.trainer.text.tokenizer import build_chars
from engine.trainer.weights import save_folder
from tests.fixtures.events import log_into

REPOSITORY = Path(__file__).parents[3]
NAME = "acme/tiny-gemma"
TOKEN = "hf_" + "Recognise" + "MeAnywhere42"
MICRO = {
    "model_type": "gemma", "vocab_size": 260, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 256,
}  # fmt: skip


def _load_server() -> ModuleType:
    """The file beside this one: tests are not a package."""
    spec = importlib.util.spec_from_file_location("hub_server", Path(__file__).with_name("server.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hub_server"] = module
    spec.loader.exec_module(module)
    return module


server = _load_server()


@pytest.fixture(scope="session")
def safetensors_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A Gemma of six thousand weights as our own code saves it: name -> bytes."""
    folder = tmp_path_factory.mktemp("gemma")
    config = config_from_hf(MICRO)
    save_folder(folder, create(config, seed=1, param_dtype="float32"), config, build_chars(), dtype="float32")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="session")
def flax_files(safetensors_files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same model with its weights as Flax msgpack: names of its own, matrices [in, out]."""
    tree: dict[str, Any] = {}
    for name, array in safetensors.numpy.load(safetensors_files["model.safetensors"]).items():
        *folders, leaf = name.removesuffix(".weight").split(".")
        is_matrix, is_embedding = array.ndim == 2 and leaf != "embed_tokens", leaf == "embed_tokens"
        node = tree
        for part in (*folders, leaf):
            node = node.setdefault(part, {})
        kind = "kernel" if is_matrix else "embedding" if is_embedding else "weight"
        node[kind] = np.ascontiguousarray(array.T) if is_matrix else array
    others = {name: data for name, data in safetensors_files.items() if name != "model.safetensors"}
    return {**others, "flax_model.msgpack": serialization.msgpack_serialize(tree), "README.md": b"# Tiny\n"}


@pytest.fixture
def hub(flax_files: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A hub where the weights are on the branch ``flax``, and ``main`` has other files."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(retry_policy, "WAITS", (0.01, 0.01, 0.01, 0.01))
    with server.Hub() as running:
        running.add(NAME, {"main": {"README.md": b"# other\n", "pytorch_model.bin": b"pickle"}, "flax": flax_files})
        yield running


@pytest.fixture(scope="session", autouse=True)
def _sessions_end() -> Iterator[None]:
    """The client's session keeps the proxies of its first request, and its connections open."""
    close_session()
    yield
    close_session()


class Fetcher:
    """Calls fetch with the real client, and keeps the events."""

    def __init__(self, endpoint: str, cache: Path) -> None:
        self.client, self.cache = HubClient(endpoint), cache
        self.events: list[dict[str, Any]] = []

    def __call__(self, revision: str | None = "flax", name: str = NAME, **keys: Any) -> tuple[Path, str]:
        self.events.clear()
        options = {"emit": log_into(self.events), "client": self.client, **keys}
        return hub_package.fetch(name, revision, self.cache, **options)

    def error(self, revision: str | None = "flax", name: str = NAME, **keys: Any) -> RunspecError:
        with pytest.raises(RunspecError) as caught:
            self(revision, name, **keys)
        return caught.value

    def named(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.events if entry["event"] == event]

    def blob(self, name: str, commit: str) -> Path:
        return (self.cache / "models--acme--tiny-gemma" / "snapshots" / commit / name).resolve()


@pytest.fixture
def fetch(hub: Any, tmp_path: Path) -> Fetcher:
    """``fetch("flax")`` from the loopback hub into a cache of its own."""
    return Fetcher(hub.url, tmp_path / "cache")


def everything_about(error: BaseException) -> str:
    """What any reporter could print: the text, the fields, the whole chain with its frames and their variables."""
    out, chain, seen = io.StringIO(), [error], set()
    while chain:
        link = chain.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        out.write(f"{link!s}\n{link!r}\n{link.args!r}\n{vars(link)!r}\n")
        out.write("".join(traceback.TracebackException.from_exception(link, capture_locals=True).format()))
        chain += [earlier for earlier in (link.__cause__, link.__context__) if earlier is not None]
    return out.getvalue()


@pytest.fixture
def everything() -> Callable[[BaseException], str]:
    """See :func:`everything_about`."""
    return everything_about


@pytest.fixture
def environment(hub: Any, tmp_path: Path) -> dict[str, str]:
    """For a process of its own: the hub of the test is the hub, and online."""
    return {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"),
            "HF_TOKEN": TOKEN, "PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}  # fmt: skip


@pytest.fixture
def start_child(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """``python -m engine.trainer fetch JOB``: a dataset's file from the hub, in a process of its own."""

    def start(job: Mapping[str, Any], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        path = tmp_path / "job.json"
        path.write_text(json.dumps(job))
        return subprocess.Popen(
            [sys.executable, "-m", "engine.trainer", "fetch", str(path)],
            env=dict(environment), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


@pytest.fixture
def token() -> str:
    """The token that must never be seen."""
    return TOKEN


@pytest.fixture
def name() -> str:
    """The id of the model on the hub."""
    return NAME
