"""Between our stacked leaves and the per-layer tensors of files: the table, used in both directions.

What goes in: a family (its HF_NAMES and weight_shapes) and arrays. What comes out: per-layer tensors to
store, or complete stacked leaves from stored ones.

    layers.q [L, D, N*H]  <->  model.layers.{i}.self_attn.q_proj.weight [N*H, D]  for i in 0..L-1
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from engine.errors import Diagnostic, InputInvalid, Where, did_you_mean
from engine.trainer.models.config import DecoderConfig
from engine.trainer.weight_files import WeightFile

Array = np.ndarray[Any, Any]

# The head is tied to the embedding; some writers store the alias as well. It is compared, then dropped.
TIED_ALIAS = "lm_head.weight"
TIED_SOURCE = "model.embed_tokens.weight"


def stored_rows(family: ModuleType, name: str, array: Array) -> dict[str, Array]:
    """One of our leaves as the tensors that files hold: unstacked, matrices as [out, in]."""
    stored_name, transposed = family.HF_NAMES[name]
    if "{}" not in stored_name:
        return {stored_name: np.ascontiguousarray(array)}
    return {
        stored_name.format(index): np.ascontiguousarray(row.T if transposed else row) for index, row in enumerate(array)
    }


class Filling:
    """Stacked leaves being filled from files, tensor by tensor, in the parameters' dtype."""

    def __init__(self, family: ModuleType, config: DecoderConfig, dtype: Any) -> None:
        self._leaves: dict[str, Array] = {}
        self._places: dict[str, tuple[str, int | None, bool]] = {}  # stored name -> leaf, layer, transposed
        for name, shape in family.weight_shapes(config).items():
            stored_name, transposed = family.HF_NAMES[name]
            self._leaves[name] = np.empty(shape, dtype)
            if "{}" not in stored_name:
                self._places[stored_name] = (name, None, transposed)
                continue
            for index in range(shape[0]):
                self._places[stored_name.format(index)] = (name, index, transposed)
        self._missing = dict.fromkeys(self._places)
        self._problems: list[Diagnostic] = []
        self._alias: Array | None = None

    def take(self, weights_file: WeightFile) -> None:
        """Copy every tensor of a file to its place; findings are kept until :meth:`finish`."""
        for stored_name, tensor in weights_file.tensors():
            if stored_name == TIED_ALIAS:
                self._alias = tensor.T if weights_file.is_flax else tensor
                continue
            place = self._places.get(stored_name)
            if place is None:
                near = did_you_mean(stored_name, self._places)
                message = f"the file has a weight this model does not: {stored_name}"
                self._report("M202", message, weights_file, f'did you mean "{near}"?' if near else None)
            elif stored_name not in self._missing:
                self._report("M202", f"the weight {stored_name} comes twice", weights_file)
            else:
                del self._missing[stored_name]
                self._fill(stored_name, tensor, weights_file)

    def finish(self, folder: Path) -> Iterator[tuple[str, Array]]:
        """(leaf, array) of each leaf, handed over one by one; raises all findings of all files first."""
        for stored_name in self._missing:
            message = f"the files lack a weight this model has: {stored_name}"
            self._problems.append(Diagnostic("M202", message, Where(file=str(folder), path=stored_name)))
        if not self._problems:
            self._check_alias(folder)
        if self._problems:
            raise InputInvalid.of(self._problems)
        for name in list(self._leaves):
            yield name, self._leaves.pop(name)

    def _fill(self, stored_name: str, tensor: Array, weights_file: WeightFile) -> None:
        name, index, transposed = self._places[stored_name]
        target = self._leaves[name] if index is None else self._leaves[name][index]
        if transposed and not weights_file.is_flax:
            tensor = tensor.T
        if tensor.shape != target.shape:
            stored = tensor.shape[::-1] if transposed and not weights_file.is_flax else tensor.shape
            wanted = target.shape[::-1] if transposed and not weights_file.is_flax else target.shape
            message = f"{stored_name} has shape {list(stored)}, the configuration asks for {list(wanted)}"
            self._report("M203", message, weights_file, "config.json belongs to another model")
            return
        if tensor.dtype.kind not in "fV":  # V: numpy's kind for bfloat16
            self._report("M204", f"{stored_name} holds {tensor.dtype}, not floating point", weights_file)
            return
        target[...] = tensor
        if not np.isfinite(target.astype(np.float32)).all():
            self._report("M204", f"{stored_name} holds NaN or infinity", weights_file)

    def _check_alias(self, folder: Path) -> None:
        if self._alias is None:
            return
        embed = self._leaves[self._places[TIED_SOURCE][0]]
        if self._alias.shape != embed.shape or not np.array_equal(self._alias.astype(embed.dtype), embed):
            message = f"{TIED_ALIAS} differs from {TIED_SOURCE}, but the head of this family is tied"
            self._problems.append(Diagnostic("M204", message, Where(file=str(folder), path=TIED_ALIAS)))

    def _report(self, code: str, message: str, weights_file: WeightFile, hint: str | None = None) -> None:
        self._problems.append(Diagnostic(code, message, Where(file=str(weights_file.path)), hint))
