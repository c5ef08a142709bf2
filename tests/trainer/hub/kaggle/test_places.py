"""Laws of where a model on Kaggle is found: the mount first, in both layouts, then kagglehub's cache; the record is the same for all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.protocol.kaggle_models import parse_kaggle_model

LAYOUTS = {
    "today": "models/acme/tiny-gemma/transformers/micro/3",
    "before": "tiny-gemma/Transformers/micro/3",
    "another spelling": "models/acme/tiny-gemma/Transformers/micro/3",
}


def lay(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_a_mount_is_found_in_every_layout(
    machine: Any, tmp_path: Path, safetensors_files: Mapping[str, bytes], layout: str
) -> None:
    """By what lies there; the facts have the parts of the name and the digest of each file that is read, and of no other."""
    folder = lay(tmp_path / "kaggle" / "input" / layout, {**safetensors_files, "README.md": b"# Tiny\n"})
    machine.environ["RUNSPEC_KAGGLE_ROOT"] = str(tmp_path / "kaggle")
    fetched = machine.fetch()
    assert fetched.folder == folder
    parts = {"owner": "acme", "model": "tiny-gemma", "framework": "transformers", "variation": "micro", "version": 3}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in safetensors_files.items()}
    assert fetched.facts == {**parts, "place": "mount", "files": digests}
    assert "is mounted in this session: " in machine.named("note")[0]["text"]


def test_another_version_is_not_a_mount_of_this_one(
    machine: Any, tmp_path: Path, safetensors_files: Mapping[str, bytes]
) -> None:
    """A session with version 2 does not have version 3, and says how to attach it."""
    lay(tmp_path / "kaggle" / "input" / "models/acme/tiny-gemma/transformers/micro/2", safetensors_files)
    machine.environ["RUNSPEC_KAGGLE_ROOT"] = str(tmp_path / "kaggle")
    error = machine.error()
    assert error.code == "M410"
    assert "acme/tiny-gemma/transformers/micro/3 is not mounted in this session" in str(error)
    assert "framework transformers, variation micro, version 3;\na pushed notebook names it under model_sources" in str(
        error.diagnostics[0].hint
    )


def test_kagglehubs_cache_is_used_where_it_is_complete(machine: Any, safetensors_files: Mapping[str, bytes]) -> None:
    """Its marker says so; the facts are those of the mount but for the place."""
    folder = lay(machine.cache / "acme/tiny-gemma/transformers/micro/3", safetensors_files)
    (folder.parent / "3.complete").touch()
    fetched = machine.fetch()
    assert (fetched.folder, fetched.place, set(fetched.files)) == (folder, "cache", set(safetensors_files))


def test_a_half_filled_cache_is_not_a_model(machine: Any, safetensors_files: Mapping[str, bytes]) -> None:
    """kagglehub gives files their names before their bytes: without its marker there is no model, and nobody is asked without credentials."""
    lay(machine.cache / "acme/tiny-gemma/transformers/micro/3", safetensors_files)
    machine.environ["RUNSPEC_KAGGLE_API"] = "http://127.0.0.1:9/api/v1"
    assert machine.error().code == "M403"


def test_a_mount_without_weights_says_what_it_has(machine: Any, tmp_path: Path) -> None:
    """M404, as for the hub."""
    lay(tmp_path / "kaggle" / "input" / LAYOUTS["today"], {"model.gguf": b"x", "config.json": b"{}"})
    machine.environ["RUNSPEC_KAGGLE_ROOT"] = str(tmp_path / "kaggle")
    error = machine.error()
    assert error.code == "M404"
    assert "of Kaggle holds a format for inference (model.gguf)" in str(error)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("google/gemma/transformers/2b", "it names no version, and the newest one changes"),
        ("google/gemma", "it has 2 parts instead of 5"),
        ("google/gemma/transformers/2b/v3", "its version is 'v3', and versions are numbers from 1"),
        ("google/gemma/transformers/2b/0", "its version is '0', and versions are numbers from 1"),
        ("google/../transformers/2b/3", "its model is '..', and has letters"),
        ("google/gemma/transformers/2b/3/", "it has 6 parts instead of 5"),
        ("google//transformers/2b/3", "its model is ''"),
    ],
)
def test_a_name_that_is_none_says_why(text: str, says: str) -> None:
    """Nothing unpinned, nothing that leads out of a folder."""
    with pytest.raises(ValueError, match=says.replace(".", r"\.")):
        parse_kaggle_model(text)
