"""Matches the per-layer tensors of files with our stacked leaves, by the family's table, in both directions.

In: a family (its HF_NAMES and weight_shapes), a configuration, the tensors in the files. Out: the
tensors of each leaf; or, in the other direction, the tensors that a leaf is stored as.

    layers.q [L, D, N*H]  <->  model.layers.{i}.self_attn.q_proj.weight [N*H, D]  for i in 0..L-1
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from engine.errors import Diagnostic, InputInvalid, Where, did_you_mean
from engine.model_config.decoder import DecoderConfig
from engine.trainer.weights.reading import FLOATS, Stored

# The head is tied to the embedding; some programs store the alias as well. It is compared, then dropped.
TIED_ALIASES = ("lm_head.weight", "language_model.lm_head.weight")
TIED_SOURCE = "model.embed_tokens.weight"
# What tools that quantise store beside or instead of a weight: bitsandbytes, GPTQ and AWQ, compressed-tensors, MLX.
QUANTISED = re.compile(r"(\.(absmax|quant_map|nested_absmax|nested_quant_map|qweight|qzeros|g_idx|scales|biases|SCB"
                       r"|weight_scale|weight_zero_point|weight_packed|weight_shape|input_scale))$|\.quant_state\.")  # fmt: skip
ORIGINAL = "quantised or float64 weights are not supported; use the original ones"
MOST_SUGGESTIONS = 10  # each compares a name with all others; a wrong model has hundreds of unknown names


@dataclass(frozen=True, slots=True)
class Slot:
    """The target of one tensor of a file: a leaf, or one layer of a stacked leaf. ``shape`` is this tensor's, as ours."""

    leaf: str
    layer: int | None
    stored_name: str
    is_matrix: bool  # stored [out, in] by safetensors, [in, out] by Flax and by us
    shape: tuple[int, ...]

    def stored_shape(self, *, is_flax: bool) -> tuple[int, ...]:
        """The shape in a file."""
        return self.shape[::-1] if self.is_matrix and not is_flax else self.shape


@dataclass(frozen=True, slots=True)
class LeafPart:
    """A stored tensor and its slot."""

    stored: Stored
    slot: Slot

    @property
    def is_transposed(self) -> bool:
        """Rows of the file are columns of the leaf."""
        return self.slot.is_matrix and not self.stored.is_flax


@dataclass(frozen=True, slots=True)
class StoredLeaf:
    """One of the model's arrays and its tensors: one, or one per layer."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[LeafPart, ...]


@dataclass(frozen=True, slots=True)
class Matched:
    """Every leaf of the model; the alias of the tied head if the files have one, and the embedding's part."""

    leaves: list[StoredLeaf]
    alias: Stored | None
    source: LeafPart


def slots(family: ModuleType, config: DecoderConfig) -> Iterator[Slot]:
    """Every tensor in a model's files, leaf by leaf."""
    for name, shape in family.weight_shapes(config).items():
        stored_name, is_matrix = family.HF_NAMES[name]
        if "{}" not in stored_name:
            yield Slot(name, None, stored_name, is_matrix, shape)
            continue
        for layer in range(shape[0]):
            yield Slot(name, layer, stored_name.format(layer), is_matrix, shape[1:])


def flax_name(slot: Slot) -> str:
    """The slot's name in Flax files.

    >>> flax_name(Slot("layers.q", 3, "model.layers.3.self_attn.q_proj.weight", True, (8, 8)))
    'model/layers/3/self_attn/q_proj/kernel'
    """
    *parents, leaf = slot.stored_name.split(".")
    if slot.is_matrix:
        leaf = "kernel"
    elif slot.stored_name == TIED_SOURCE:
        leaf = "embedding"
    return "/".join([*parents, leaf])


def match(family: ModuleType, config: DecoderConfig, tensors: Iterable[Stored], folder: Path) -> Matched:
    """Match tensors with parameters by names, shapes and dtypes: nothing else is read.

    Raises InputInvalid with all findings of all files: M202 (a name without a match, or that comes twice), M203
    (another shape), M204 (a dtype that is not one of FLOATS).
    """
    expected = {slot.stored_name: slot for slot in slots(family, config)}
    parts: dict[str, LeafPart] = {}
    alias, problems = None, []
    for stored in tensors:
        slot = expected.get(stored.name)
        if stored.name in TIED_ALIASES:
            alias = stored
            # A matrix [V, D] to safetensors and [D, V] to Flax, while the embedding is [V, D] to both.
            tied = expected[TIED_SOURCE]
            problems += _mismatch(stored, Slot(tied.leaf, None, stored.name, is_matrix=True, shape=tied.shape[::-1]))
        elif slot is None:
            problems.append(_unknown(stored, expected if len(problems) < MOST_SUGGESTIONS else (), config))
        elif stored.name in parts:
            problems.append(_finding("M202", f"the weight {stored.name} comes twice", stored))
        else:
            parts[stored.name] = LeafPart(stored, slot)
            problems += _mismatch(stored, slot)
    problems += [
        Diagnostic("M202", f"the files lack a weight this model has: {name}", Where(file=str(folder), path=name))
        for name in expected
        if name not in parts
    ]
    if problems:
        raise InputInvalid.of(problems)
    by_leaf: dict[str, list[LeafPart]] = {}
    for name, slot in expected.items():
        by_leaf.setdefault(slot.leaf, []).append(parts[name])
    shapes = family.weight_shapes(config)
    leaves = [StoredLeaf(name, shapes[name], tuple(leaf_parts)) for name, leaf_parts in by_leaf.items()]
    return Matched(leaves, alias, parts[TIED_SOURCE])


def _mismatch(stored: Stored, slot: Slot) -> list[Diagnostic]:
    shape = slot.stored_shape(is_flax=stored.is_flax)
    if stored.shape != shape:
        message = f"{stored.name} has shape {list(stored.shape)}, the configuration needs {list(shape)}"
        hint = "config.json belongs to another model"
        if slot.stored_name == TIED_SOURCE and stored.shape[1:] == shape[1:]:
            hint = f"config.json says vocab_size {shape[0]}, the embedding has {stored.shape[0]} rows"
        return [_finding("M203", message, stored, hint)]
    if stored.dtype not in FLOATS:
        message = f"{stored.name} holds {stored.dtype}, not one of {', '.join(FLOATS)}"
        return [_finding("M204", message, stored, ORIGINAL)]
    return []


def _unknown(stored: Stored, expected: Iterable[str], config: DecoderConfig) -> Diagnostic:
    """Suggests only names of the same layer, and none for a layer beyond the configuration's."""
    message = f"the file has a weight this model does not: {stored.name}"
    if QUANTISED.search(stored.name):
        return _finding("M202", f"{message} (it belongs to a quantised one)", stored, ORIGINAL)
    layer = _layer(stored.name)
    if layer is not None and layer >= config.num_hidden_layers:
        return _finding("M202", message, stored, f"config.json says num_hidden_layers {config.num_hidden_layers}")
    near = did_you_mean(stored.name, [name for name in expected if _layer(name) == layer])
    return _finding("M202", message, stored, f'did you mean "{near}"?' if near else None)


def _layer(name: str) -> int | None:
    match = re.search(r"\blayers\.(\d+)\.", name)
    return int(match[1]) if match else None


def _finding(code: str, message: str, stored: Stored, hint: str | None = None) -> Diagnostic:
    return Diagnostic(code, message, Where(file=str(stored.file.path), path=stored.name), hint)
