"""The weight files of a model folder, whichever of the two formats, whole or sharded, one at a time.

What goes in: a folder. What comes out: a list of :class:`WeightFile`, each giving (name, array) pairs by
Hugging Face's safetensors names. Order of preference: model.safetensors, its index, flax_model.msgpack,
its index.

    for weights_file in open_weights(folder):
        for name, array in weights_file.tensors(): ...

Flax files name the same weights "model/layers/0/self_attn/q_proj/kernel" and store matrices [in, out];
leaves above 2^30 bytes are split there ("__msgpack_chunked_array__"), which flax.serialization joins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from flax import serialization

from engine.errors import Diagnostic, InputInvalid, Where

SAFETENSORS = "model.safetensors"
MSGPACK = "flax_model.msgpack"


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file; ``expected`` are the names an index promises in it (None: no index)."""

    path: Path
    expected: frozenset[str] | None = None

    @property
    def is_flax(self) -> bool:
        """Flax layout: matrices are [in, out]."""
        return self.path.suffix == ".msgpack"

    def tensors(self) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
        """(name, host array) for each tensor, by safetensors names. Raises InputInvalid M202 or M206."""
        seen = set()
        for stored_name, array in _msgpack(self.path) if self.is_flax else _safetensors(self.path):
            seen.add(stored_name)
            yield _common_name(stored_name), array
        if self.expected is not None and seen != self.expected:
            _complain_about_index(self.path, seen, self.expected)


def open_weights(folder: Path) -> list[WeightFile]:
    """The files that hold the weights. Raises InputInvalid M201 (none), M206 (index broken)."""
    for name in (SAFETENSORS, MSGPACK):
        if (folder / name).is_file():
            return [WeightFile(folder / name)]
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _sharded(index)
    raise InputInvalid(
        "M201",
        f"no weights here: neither {SAFETENSORS} nor {MSGPACK}, nor the index of either",
        where=Where(file=str(folder)),
        hint="for google/gemma-2b name the revision: main has safetensors, flax has msgpack",
    )


def _sharded(index: Path) -> list[WeightFile]:
    try:
        weight_map = json.loads(index.read_bytes())["weight_map"]
        files: dict[str, set[str]] = {}
        for name, file in weight_map.items():
            files.setdefault(file, set()).add(name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputInvalid("M206", f"not an index of weights: {error!r}", where=Where(file=str(index))) from error
    bad = [name for name in sorted(files) if Path(name).name != name or not (index.parent / name).is_file()]
    if bad:
        raise InputInvalid.of(
            Diagnostic("M206", f'the index names "{name}", which is not in the folder', Where(file=str(index)))
            for name in bad
        )
    return [WeightFile(index.parent / name, frozenset(files[name])) for name in sorted(files)]


def _safetensors(path: Path) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    try:
        with safetensors.safe_open(path, "np") as opened:
            for name in sorted(opened.keys()):
                yield name, opened.get_tensor(name)
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise _corrupt(path, error) from error


def _msgpack(path: Path) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    try:
        tree = serialization.msgpack_restore(path.read_bytes())
        if not isinstance(tree, dict):
            raise TypeError("not a tree of weights")
    # msgpack raises its own classes, ValueError, TypeError or KeyError, by where the damage lies
    except Exception as error:
        raise _corrupt(path, error) from error
    yield from _leaves(tree, "", path)


def _leaves(tree: dict[str, Any], prefix: str, path: Path) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Depth first, and emptying the tree on the way, so that a leaf is freed once it has been used."""
    for key in sorted(tree):
        value, name = tree.pop(key), f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{name}/", path)
        elif isinstance(value, np.ndarray):
            yield name, value
        else:
            raise _corrupt(path, TypeError(f"{name} is a {type(value).__name__}, not an array"))


def _common_name(name: str) -> str:
    """ "model/norm/weight" -> "model.norm.weight"; kernel and embedding are called weight in safetensors."""
    if "/" not in name:
        return name
    parts = name.removeprefix("params/").split("/")
    parts[-1] = {"kernel": "weight", "embedding": "weight"}.get(parts[-1], parts[-1])
    return ".".join(parts)


def _complain_about_index(path: Path, seen: set[str], expected: frozenset[str]) -> None:
    lacking, extra = sorted(expected - seen), sorted(seen - expected)
    lines = [f"the index promises {name}, the file lacks it" for name in lacking]
    lines += [f"the file has {name}, the index does not name it" for name in extra]
    raise InputInvalid.of(Diagnostic("M206", line, Where(file=str(path))) for line in lines)


def _corrupt(path: Path, error: Exception) -> InputInvalid:
    return InputInvalid(
        "M205",
        f"the weights file is damaged or cut short: {type(error).__name__}: {error}",
        where=Where(file=str(path)),
        hint="fetch or copy the file again",
    )
