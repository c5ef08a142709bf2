"""What is fetched, what is kept, and what is not fetched again: the real client with the loopback hub."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest

from engine.trainer import hub as hub_package
from engine.trainer.hub.hub_client import HubClient
from engine.trainer.weights import load_folder

NEEDED = ["config.json", "flax_model.msgpack", "generation_config.json", "special_tokens_map.json", "tokenizer.json",
          "tokenizer_config.json"]  # fmt: skip


def test_a_branch_becomes_a_commit_and_a_folder_that_loads(hub: Any, fetch: Any, name: str) -> None:
    """The revision is resolved, only the needed files are fetched, and they are a model."""
    folder, commit = fetch("flax")
    assert commit == hub.repos[name].commit("flax") == folder.name
    assert sorted(hub.fetched()) == NEEDED
    assert sorted(path.name for path in folder.iterdir()) == NEEDED
    model, _, _ = load_folder(folder)
    assert all(np.isfinite(array).all() for array in model.weights().values())


def test_a_second_fetch_requests_no_file(hub: Any, fetch: Any) -> None:
    """One request: the branch's current commit. Everything else is in the cache."""
    first = fetch()
    hub.forget()
    assert fetch() == first
    assert [request.path for request in hub.requests] == ["/api/models/acme/tiny-gemma/revision/flax"]
    assert fetch.named("resolved")[0]["missing_bytes"] == 0
    assert fetch.named("download") == []


def test_of_a_branch_that_moved_only_changes_are_fetched(hub: Any, fetch: Any, name: str) -> None:
    """A new commit with one new file: one file is fetched, the old commit's folder stays."""
    old, _ = fetch()
    hub.repos[name].branches["flax"]["generation_config.json"] = b'{"eos_token_id": 1}'
    hub.forget()
    new, commit = fetch()
    assert commit == hub.repos[name].commit("flax")
    assert hub.fetched() == ["generation_config.json"]
    assert old != new
    assert (old / "config.json").read_bytes() == (new / "config.json").read_bytes()


def test_a_commit_is_a_revision(hub: Any, fetch: Any, name: str) -> None:
    """The commit in a run's evidence can be fetched."""
    commit = hub.repos[name].commit("flax")
    assert fetch(commit)[1] == commit


def test_safetensors_come_first(
    hub: Any, fetch: Any, safetensors_files: Mapping[str, bytes], flax_files: Mapping[str, bytes]
) -> None:
    """Of a revision with both formats only safetensors are fetched."""
    hub.add("acme/both", {"main": {**flax_files, **safetensors_files, "pytorch_model.bin": b"x"}})
    fetch(None, "acme/both")
    assert "model.safetensors" in hub.fetched()
    assert not {"flax_model.msgpack", "pytorch_model.bin"} & set(hub.fetched())


def shards(files: Mapping[str, bytes], stem: str, suffix: str) -> dict[str, bytes]:
    """An index that names two shards, and a third that it does not name."""
    names = [f"{stem}-0000{n}-of-00002{suffix}" for n in (1, 2)]
    index = {"metadata": {}, "weight_map": {"a": names[0], "b": names[1], "c": names[0]}}
    others = {name: data for name, data in files.items() if not name.startswith((stem, "model", "flax_model"))}
    return {**others, f"{stem}{suffix}.index.json": json.dumps(index).encode(), names[0]: b"one", names[1]: b"two",
            f"{stem}-00003-of-00003{suffix}": b"left over"}  # fmt: skip


@pytest.mark.parametrize(("stem", "suffix"), [("model", ".safetensors"), ("flax_model", ".msgpack")])
def test_of_sharded_weights_those_in_the_index_are_fetched(
    hub: Any, fetch: Any, safetensors_files: Mapping[str, bytes], stem: str, suffix: str
) -> None:
    """The index is fetched first and names the shards; a stray one is not fetched."""
    hub.add("acme/sharded", {"main": shards(safetensors_files, stem, suffix)})
    folder, _ = fetch(None, "acme/sharded")
    names = sorted(path.name for path in folder.iterdir() if path.name.startswith(stem))
    assert names == [f"{stem}-00001-of-00002{suffix}", f"{stem}-00002-of-00002{suffix}", f"{stem}{suffix}.index.json"]
    assert fetch.named("resolved")[0]["n_files"] == 8


def test_a_listing_without_sizes_is_completed(hub: Any, fetch: Any) -> None:
    """If the listing has names only, each needed file has a request of its own, and is checked all the same."""
    hub.mute_blobs = True
    fetch()
    heads = [request.path.rsplit("/", 1)[1] for request in hub.requests if request.method == "HEAD"]
    assert sorted(heads) == NEEDED


def test_the_cache_is_the_clients_own(hub: Any, fetch: Any, name: str) -> None:
    """huggingface_hub finds offline what we fetch; what it fetched, we do not fetch again."""
    folder, commit = fetch()
    snapshot = huggingface_hub.snapshot_download(name, revision="flax", cache_dir=fetch.cache, local_files_only=True)
    assert Path(snapshot) == folder
    other = fetch.cache.with_name("other")
    huggingface_hub.hf_hub_download(name, "config.json", revision="flax", cache_dir=other, endpoint=hub.url)
    hub.forget()
    fetch.cache = other
    assert fetch()[1] == commit
    assert sorted({"config.json", *hub.fetched()}) == NEEDED
    assert "config.json" not in hub.fetched()


def test_large_files_need_no_xet_and_no_token_goes_to_the_storage(
    hub: Any, fetch: Any, name: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub offers Xet in its headers; plain HTTPS is used, and the other host gets no token."""
    monkeypatch.setenv("HF_TOKEN", token)
    hub.repos[name].access, hub.repos[name].members = "gated", frozenset({token})
    fetch()
    assert not any("xet" in request.path for request in hub.requests)
    assert {request.token for request in hub.requests if request.on_cdn} == {None}
    assert {request.token for request in hub.requests if not request.on_cdn} == {token}


def test_two_that_want_the_same_file_fetch_it_once(hub: Any, fetch: Any, flax_files: Mapping[str, bytes]) -> None:
    """The second waits for the first, then uses what it finds."""
    hub.pause = threading.Event()
    results: list[Any] = []
    both = [
        threading.Thread(target=lambda: results.append(hub_package.fetch("acme/tiny-gemma", "flax", fetch.cache, client=fetch.client)))
        for _ in range(2)
    ]  # fmt: skip
    for thread in both:
        thread.start()
    while not any(request.sent for request in hub.requests if request.on_cdn):
        both[0].join(0.01)
    hub.pause.set()
    for thread in both:
        thread.join(20)
    assert len(set(results)) == 1
    assert len(results) == 2
    for name in ("tokenizer.json", "flax_model.msgpack"):
        assert hub.served(name) == len(flax_files[name])


def test_the_default_cache_is_the_hubs(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HOME and HF_HUB_CACHE say where models are stored, here as elsewhere."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "shared"))
    folder, _ = hub_package.fetch("acme/tiny-gemma", "flax", client=HubClient(hub.url))
    assert folder.is_relative_to(tmp_path / "shared" / "models--acme--tiny-gemma")


def test_importing_the_package_does_not_import_the_client() -> None:
    """huggingface_hub is imported on the first request."""
    import subprocess
    import sys

    code = "import engine.trainer.hub, sys; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
