"""The sections of a spec that a step reads, as digests: ``model``, ``dataset``, ``eval_set``, ``device``.

A section that names a file is digested with the file's content, so that an edited eval set changes it and a touched
one does not. Digests of large files are remembered (engine.pipeline.digest_cache).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from engine.artifacts.store import Store
from engine.canonical import JsonObject, digest_json, files_below
from engine.data import BUILDERS
from engine.errors import InputInvalid
from engine.pipeline.digest_cache import remembered_digest
from engine.runspec.model import Spec


def section_digest(spec: Spec, section: str, store: Store) -> Any:
    """A JSON value that changes with the section, and with the content of its files."""
    if section == "model":
        content = path_digest(spec.resolve(spec.model.path), store) if spec.model.path else None
        return {"declared": declared_model(spec), "content": content}
    if section == "dataset":
        own_file = spec.dataset.path if spec.dataset.hub is None else None
        content = path_digest(spec.resolve(own_file), store) if own_file else None
        builder = BUILDERS.get(spec.dataset.name or "")
        return {
            "declared": declared_dataset(spec),
            "content": content,
            "builder": builder.version if builder else None,
        }
    if section == "eval_set":
        content = path_digest(spec.resolve(spec.eval_set), store)
        # The other two policies ask all items that are in the file, or none.
        return {"content": content, "on_duplicate": "drop"} if spec.on_duplicate_item == "drop" else content
    if section == "device":
        return spec.device
    raise ValueError(f"a handler reads an unknown section of the spec: {section}")


def declared_model(spec: Spec) -> JsonObject:
    """The model section without the content of its files. ``kaggle`` only where it is written: its version stands for the content."""
    config = dict(spec.model.config) if spec.model.config is not None else None
    declared = {**asdict(replace(spec.model, config=None)), "config": config}
    return declared if spec.model.kaggle else {key: value for key, value in declared.items() if key != "kaggle"}


def declared_dataset(spec: Spec) -> JsonObject:
    """The dataset section without the content of its file."""
    return {**asdict(replace(spec.dataset, fields={})), "fields": dict(spec.dataset.fields)}


def path_digest(path: Path, store: Store) -> str:
    """SHA-256 of a file, or of a folder's names and contents. Raises InputInvalid (R107) if absent."""
    try:
        if path.is_dir():
            files = {child.relative_to(path).as_posix(): child for child in files_below(path)}
            return digest_json({name: remembered_digest(child, store.cache) for name, child in files.items()})
        return remembered_digest(path, store.cache)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> InputInvalid:
    """R107: a file that the run-spec names."""
    file = error.filename or path
    return InputInvalid("R107", f"cannot read {file}: {error.strerror or error}", hint="the run-spec names this path")
