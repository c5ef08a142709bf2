"""Gemma's configuration: Hugging Face's ``config.json``, read strictly, and written back.

What goes in: the mapping of a ``config.json`` as transformers 4 or 5 writes it, or the ``model.config``
of a run-spec. What comes out: :class:`GemmaConfig`, or one error naming every key that is unknown,
missing, of the wrong type, or that asks for something this network does not do.

    >>> config = GemmaConfig.from_hf({"model_type": "gemma", "vocab_size": 260, "hidden_size": 32,
    ...     "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    ...     "num_key_value_heads": 1, "head_dim": 16})
    >>> config.rope_theta, config.to_hf()["rope_parameters"]
    (10000.0, {'rope_theta': 10000.0, 'rope_type': 'default'})

Two styles: transformers 4 has ``rope_theta`` and ``hidden_activation``, transformers 5 has
``rope_parameters``. A key given in both must agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from engine.errors import Diagnostic, InputInvalid, Where, did_you_mean

# Keys that hold facts about files, serving or unused heads; they cannot change what the network computes.
BOOKKEEPING = frozenset(
    [
        "_attn_implementation_autoset",
        "_name_or_path",
        "architectures",
        "auto_map",
        "chunk_size_feed_forward",
        "dtype",
        "id2label",
        "label2id",
        "is_encoder_decoder",
        "model_type",
        "output_attentions",
        "output_hidden_states",
        "problem_type",
        "return_dict",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    ]
)
# Keys that would change the computation: the values under which Gemma 1 is exactly this network.
FIXED: dict[str, tuple[Any, ...]] = {
    "attention_bias": (False,),
    "attention_dropout": (0, 0.0),
    "hidden_act": ("gelu", "gelu_pytorch_tanh"),
    "hidden_activation": (None, "gelu", "gelu_pytorch_tanh"),
    "rope_scaling": (None,),
    "tie_word_embeddings": (True,),
    "use_bidirectional_attention": (None, False),
}
ROPE_KEYS = ("rope_theta", "rope_parameters")
ROPE_FIXED = {"rope_type": "default", "partial_rotary_factor": 1.0}

Finding = tuple[str, str, str, str | None]  # key, code, sentence, hint


@dataclass(frozen=True, slots=True)
class GemmaConfig:
    """Sizes and constants of one Gemma, by Hugging Face's names."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int = 8192
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    initializer_range: float = 0.02
    pad_token_id: int = 0
    eos_token_id: int = 1
    bos_token_id: int = 2

    @classmethod
    def from_hf(cls, mapping: Mapping[str, Any], source: str = "config.json") -> GemmaConfig:
        """Read a ``config.json``; raises InputInvalid M102 to M105 with all findings at once."""
        findings = _unknown_keys(mapping) + _fixed_keys(mapping)
        theta, more = _rope_theta(mapping)
        findings += more
        values: dict[str, Any] = {} if theta is None else {"rope_theta": theta}
        for field in fields(cls):
            if field.name == "rope_theta":
                continue
            if field.name not in mapping:
                if field.default is MISSING:
                    findings.append((field.name, "M103", f'key "{field.name}" is missing', None))
                continue
            value, problem = _typed(mapping[field.name], str(field.type), may_be_zero=field.name.endswith("_id"))
            if problem:
                findings.append((field.name, "M104", f'"{field.name}": {problem}', None))
            else:
                values[field.name] = value
        if not findings:
            config = cls(**values)
            findings = config._contradictions()
            if not findings:
                return config
        raise InputInvalid.of(
            Diagnostic(code, message, Where(file=source, path=key), hint) for key, code, message, hint in findings
        )

    def to_hf(self, *, dtype: str = "float32") -> dict[str, Any]:
        """The ``config.json`` that transformers 5 writes; transformers 4 reads its ``rope_theta``."""
        sizes = {field.name: getattr(self, field.name) for field in fields(self)}
        extra = {
            "architectures": ["GemmaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "dtype": dtype,
            "hidden_act": "gelu_pytorch_tanh",
            "model_type": "gemma",
            "rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"},
            "tie_word_embeddings": True,
            "use_cache": True,
        }
        return dict(sorted((sizes | extra).items()))

    def _contradictions(self) -> list[Finding]:
        """Values that are fine one by one and cannot be meant together."""
        found: list[Finding] = []
        if self.num_attention_heads % self.num_key_value_heads:
            message = (
                f'"num_attention_heads" ({self.num_attention_heads}) must be a multiple of '
                f'"num_key_value_heads" ({self.num_key_value_heads})'
            )
            found.append(("num_key_value_heads", "M105", message, None))
        if self.head_dim % 2:
            message = f'"head_dim" ({self.head_dim}) must be even: rotary positions turn pairs'
            found.append(("head_dim", "M105", message, None))
        for name in ("pad_token_id", "eos_token_id", "bos_token_id"):
            if getattr(self, name) >= self.vocab_size:
                message = f'"{name}" ({getattr(self, name)}) lies outside the vocabulary of {self.vocab_size}'
                found.append((name, "M105", message, None))
        return found


def _unknown_keys(mapping: Mapping[str, Any]) -> list[Finding]:
    known = {field.name for field in fields(GemmaConfig)} | set(FIXED) | set(ROPE_KEYS)
    found: list[Finding] = []
    for key in mapping:
        if key in known or key in BOOKKEEPING:
            continue
        near = did_you_mean(key, known)
        hint = f'did you mean "{near}"?' if near else "remove it; Gemma 1 has no such setting"
        found.append((key, "M102", f'unknown key "{key}" in the configuration of a gemma model', hint))
    return found


def _fixed_keys(mapping: Mapping[str, Any]) -> list[Finding]:
    found: list[Finding] = []
    for key, allowed in FIXED.items():
        if key not in mapping or any(mapping[key] is one or mapping[key] == one for one in allowed):
            continue
        choices = " or ".join(repr(one) for one in dict.fromkeys(allowed))
        found.append((key, "M105", f'"{key}": {mapping[key]!r} is not what Gemma 1 computes ({choices})', None))
    return found


def _rope_theta(mapping: Mapping[str, Any]) -> tuple[float | None, list[Finding]]:
    """The rotary base from either style; None where it is left to the default or wrong."""
    parameters = mapping.get("rope_parameters") or {}
    if not isinstance(parameters, Mapping):
        return None, [("rope_parameters", "M104", '"rope_parameters": must be a mapping', None)]
    found: list[Finding] = []
    given = {key: mapping[key] for key in ("rope_theta",) if key in mapping}
    for key, value in parameters.items():
        if key == "rope_theta":
            given["rope_parameters.rope_theta"] = value
        elif ROPE_FIXED.get(key) != value:
            message = f'"rope_parameters.{key}": {value!r} is not what Gemma 1 computes'
            found.append((f"rope_parameters.{key}", "M105", message, None))
    for key, value in given.items():
        _, problem = _typed(value, "float")
        if problem:
            found.append((key, "M104", f'"{key}": {problem}', None))
    if not found and len(set(given.values())) == 2:
        text = " and ".join(f'"{key}" is {value!r}' for key, value in given.items())
        found.append(("rope_theta", "M105", f"two rotary bases: {text}", None))
    if found or not given:
        return None, found
    return float(next(iter(given.values()))), []


def _typed(value: Any, kind: str, *, may_be_zero: bool = False) -> tuple[Any, str | None]:
    """The value as a number of its kind, above 0 (or not below, for token ids), or what is wrong with it."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]  # transformers writes "eos_token_id": [1] now and then
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None, f"must be a number, not {value!r}"
    if kind == "int" and not isinstance(value, int):
        return None, f"must be an integer, not {value!r}"
    if value < 0 or (value == 0 and not may_be_zero):
        return None, f"must be above 0, not {value!r}"
    return (value if kind == "int" else float(value)), None
