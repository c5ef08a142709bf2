"""What the configurations of all families share: reading Hugging Face's ``config.json`` strictly, and writing it.

In: the mapping of a ``config.json`` as transformers 4 or 5 writes it, or the ``model.config`` of a
run-spec. Out: a frozen dataclass of the family, or one error naming every key that is unknown, missing,
of the wrong type, or has a value that the family's network does not implement.

    config = GemmaConfig.from_hf(json.loads(path.read_text()), source=str(path))

A family's configuration is a final subclass of :class:`DecoderConfig`: its fields are the keys that are read, its
class variables say which other keys are allowed, with which values. Two styles: transformers 4 has ``rope_theta`` and
other keys beside it, transformers 5 has ``rope_parameters``; a value given in both must agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, NamedTuple, Self

from engine.errors import Diagnostic, InputInvalid, Where, did_you_mean

# Keys about files, serving or unused heads; they cannot change what the network computes.
BOOKKEEPING = frozenset(
    [
        "_attn_implementation_autoset",
        "_name_or_path",
        "architectures",
        "auto_map",
        "cache_implementation",
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
# More than any model has. A typing error would otherwise be processed layer by layer, for hours. As in the schema.
MOST_LAYERS = 1000
GELU_TANH = ("gelu", "gelu_pytorch_tanh")  # both mean the tanh form (transformers issue 29402)
SLIDING, FULL = "sliding_attention", "full_attention"

# What a rotary number is called in the message about two keys that give it different values.
NUMBERS = {
    "rope_theta": "rotary bases",
    "rope_local_base_freq": "rotary bases of the layers with a window",
    "rope_factor": "rotary factors",
}

Finding = tuple[str, str, str, str | None]  # key, code, sentence, hint
ConfigMapping = Mapping[str, Any]  # a config.json, or a mapping nested in it


class Rope(NamedTuple):
    """Rotary positions: the base, and the factor by which positions are divided (linear scaling)."""

    theta: float
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Sizes and constants that every family has, by Hugging Face's names. Abstract."""

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
    more_eos_ids: tuple[int, ...] = ()  # "eos_token_id": [1, 106] is eos_token_id 1 and these

    NAME: ClassVar[str]  # for messages
    MODEL_TYPE: ClassVar[str]
    ARCHITECTURE: ClassVar[str]
    # Keys that would change the computation: the values under which the family is exactly our network.
    FIXED: ClassVar[Mapping[str, tuple[object, ...]]]
    # Further keys that the family itself reads and that are not fields.
    ALSO_READ: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def from_hf(cls, mapping: ConfigMapping, source: str = "config.json") -> Self:
        """Read a ``config.json``; raises InputInvalid M102 to M105 with all findings at once."""
        mapping, findings = cls.normalised(mapping)
        findings += _unknown_keys(cls, mapping) + _fixed_keys(cls, mapping)
        rope, more = cls.read_rope(mapping)
        findings += more
        values: dict[str, Any] = dict(rope)
        for field in fields(cls):
            if field.name in cls.rope_fields() or field.name == "more_eos_ids":
                continue
            if field.name not in mapping:
                if field.default is MISSING:
                    findings.append((field.name, "M103", f'key "{field.name}" is missing', None))
                continue
            value, problem = _typed(mapping[field.name], str(field.type), may_be_zero=field.name.endswith("_id"))
            if field.name == "eos_token_id" and isinstance(mapping[field.name], list) and not problem:
                value, values["more_eos_ids"] = value[0], tuple(value[1:])
            if not problem and field.name == "num_hidden_layers" and value > MOST_LAYERS:
                problem = f"must be at most {MOST_LAYERS}, not {value}"
            if problem:
                findings.append((field.name, "M104", f'"{field.name}": {problem}', None))
            else:
                values[field.name] = value
        if not findings:
            config = cls(**values)
            findings = config.contradictions()
            if not findings:
                return config
        raise InputInvalid.of(
            Diagnostic(code, message, Where(file=source, path=key), hint) for key, code, message, hint in findings
        )

    def to_hf(self, *, dtype: str = "float32") -> dict[str, object]:
        """The ``config.json`` that transformers 5 writes, with the rotary keys of transformers 4 as well."""
        sizes = {field.name: getattr(self, field.name) for field in fields(self)}
        more_eos = sizes.pop("more_eos_ids")
        if more_eos:
            sizes["eos_token_id"] = [self.eos_token_id, *more_eos]
        extra = {
            "architectures": [self.ARCHITECTURE],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "dtype": dtype,
            "model_type": self.MODEL_TYPE,
            "tie_word_embeddings": True,
            "use_cache": True,
        }
        return dict(sorted((sizes | extra | self.rope_to_hf()).items()))

    # --- what a family may override ---

    @classmethod
    def normalised(cls, mapping: ConfigMapping) -> tuple[ConfigMapping, list[Finding]]:
        """The mapping in one form, where the family's files have more than one."""
        return mapping, []

    @classmethod
    def rope_fields(cls) -> tuple[str, ...]:
        """The fields that :meth:`read_rope` fills."""
        return ("rope_theta",)

    @classmethod
    def read_rope(cls, mapping: ConfigMapping) -> tuple[dict[str, float], list[Finding]]:
        """The rotary base, from either style."""
        parameters, findings = rope_mapping(mapping, "rope_parameters")
        theta, more = agreed_number({"rope_theta": mapping, "rope_parameters.rope_theta": parameters})
        findings += more + only_default_rope(parameters, "rope_parameters", cls.NAME)
        return ({} if theta is None else {"rope_theta": theta}), findings

    def rope_to_hf(self) -> dict[str, object]:
        """The rotary keys of ``config.json`` in transformers 5's style, beside the fields themselves."""
        return {"rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"}}

    def contradictions(self) -> list[Finding]:
        """Values that are valid by themselves and contradict each other."""
        findings: list[Finding] = []
        if self.num_attention_heads % self.num_key_value_heads:
            message = (
                f'"num_attention_heads" ({self.num_attention_heads}) must be a multiple of '
                f'"num_key_value_heads" ({self.num_key_value_heads})'
            )
            findings.append(("num_key_value_heads", "M105", message, None))
        if self.head_dim % 2:
            message = f'"head_dim" ({self.head_dim}) must be even: rotary positions rotate pairs'
            findings.append(("head_dim", "M105", message, None))
        for name in ("pad_token_id", "eos_token_id", "bos_token_id"):
            if getattr(self, name) >= self.vocab_size:
                message = f'"{name}" ({getattr(self, name)}) is outside the vocabulary of {self.vocab_size}'
                findings.append((name, "M105", message, None))
        return findings

    # --- what the walk through the layers reads ---

    @property
    def query_scale(self) -> float:
        """The factor of queries."""
        return float(self.head_dim**-0.5)

    def ropes(self) -> tuple[Rope, ...]:
        """The different rotary positions that the layers use."""
        return (Rope(self.rope_theta),)

    def layer_ropes(self) -> tuple[int, ...] | None:
        """For each layer the index into :meth:`ropes`; None where there is only one."""
        return None

    def layer_windows(self) -> tuple[int | None, ...] | None:
        """For each layer its window: the token itself and those before it (None: all tokens); None without any window."""
        return None

    @property
    def attention_softcap(self) -> float | None:
        """Scores become c tanh(score / c)."""
        return None

    @property
    def final_softcap(self) -> float | None:
        """Logits become c tanh(logit / c)."""
        return None


def windows_by_type(layer_types: Sequence[str], sliding_window: int) -> tuple[int | None, ...]:
    """layer_windows of a configuration with ``layer_types`` and ``sliding_window``."""
    return tuple(sliding_window if kind == SLIDING else None for kind in layer_types)


def layer_type_findings(types: Sequence[str], depth: int) -> list[Finding]:
    """What is wrong with ``layer_types``."""
    unknown = sorted({kind for kind in types if kind not in (SLIDING, FULL)})
    if unknown:
        return [("layer_types", "M105", f'"layer_types": {unknown[0]!r} is neither {SLIDING!r} nor {FULL!r}', None)]
    if len(types) != depth:
        return [("layer_types", "M105", f'"layer_types" names {len(types)} layers, num_hidden_layers is {depth}', None)]
    return []


def rope_mapping(mapping: ConfigMapping, key: str) -> tuple[ConfigMapping, list[Finding]]:
    """A nested mapping that may be absent or null, or what is wrong with it."""
    value = mapping.get(key) or {}
    if isinstance(value, Mapping):
        return value, []
    return {}, [(key, "M104", f'"{key}": must be a mapping', None)]


def only_default_rope(parameters: ConfigMapping, path: str, name: str) -> list[Finding]:
    """Every key that asks for rotary positions other than the plain ones."""
    fixed = {"rope_type": "default", "partial_rotary_factor": 1.0}
    return [
        (f"{path}.{key}", "M105", f'"{path}.{key}": {value!r} is not what {name} computes', None)
        for key, value in parameters.items()
        if key != "rope_theta" and fixed.get(key) != value
    ]


def agreed_number(sources: Mapping[str, ConfigMapping], key: str = "rope_theta") -> tuple[float | None, list[Finding]]:
    """The number on which all sources agree (path -> the mapping that may have it under the path's last word)."""
    words = {path: path.split(".")[-1] for path in sources}
    values = {path: mapping[words[path]] for path, mapping in sources.items() if words[path] in mapping}
    findings: list[Finding] = []
    for path, value in values.items():
        _, problem = _typed(value, "float")
        if problem:
            findings.append((path, "M104", f'"{path}": {problem}', None))
    if not findings and len(set(values.values())) > 1:
        text = " and ".join(f'"{path}" is {value!r}' for path, value in values.items())
        findings.append((key, "M105", f"two {NUMBERS[key]}: {text}", None))
    if findings or not values:
        return None, findings
    return float(next(iter(values.values()))), []


def _unknown_keys(cls: type[DecoderConfig], mapping: ConfigMapping) -> list[Finding]:
    known = {field.name for field in fields(cls)} - {"more_eos_ids"}
    known |= set(cls.FIXED) | cls.ALSO_READ | {"rope_theta", "rope_parameters"}
    findings: list[Finding] = []
    for key in mapping:
        if key in known or key in BOOKKEEPING:
            continue
        near = did_you_mean(key, known)
        hint = f'did you mean "{near}"?' if near else f"remove it; {cls.NAME} has no such setting"
        findings.append((key, "M102", f'unknown key "{key}" in the configuration of a {cls.MODEL_TYPE} model', hint))
    return findings


def _fixed_keys(cls: type[DecoderConfig], mapping: ConfigMapping) -> list[Finding]:
    findings: list[Finding] = []
    for key, allowed in cls.FIXED.items():
        if key not in mapping or any(mapping[key] is value or mapping[key] == value for value in allowed):
            continue
        choices = " or ".join(repr(value) for value in dict.fromkeys(allowed))
        findings.append((key, "M105", f'"{key}": {mapping[key]!r} is not what {cls.NAME} computes ({choices})', None))
    return findings


def _typed(value: object, kind: str, *, may_be_zero: bool = False) -> tuple[Any, str | None]:
    """The value as its field's kind, numbers above 0 (token ids: 0 or more), or what is wrong with it."""
    if kind.endswith("| None"):
        return (None, None) if value is None else _typed(value, kind.removesuffix("| None").strip())
    if kind == "tuple[str, ...]":
        if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
            return tuple(value), None
        return None, f"must be a list of words, not {value!r}"
    if may_be_zero and isinstance(value, list) and value:  # "eos_token_id": [1, 106]
        problems = list(_problems(value, kind))
        return value, problems[0] if problems else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None, f"must be a number, not {value!r}"
    if kind == "int" and not isinstance(value, int):
        return None, f"must be an integer, not {value!r}"
    if value < 0 or (value == 0 and not may_be_zero):
        return None, f"must be above 0, not {value!r}"
    return (value if kind == "int" else float(value)), None


def _problems(values: Iterable[object], kind: str) -> Iterable[str]:
    return (problem for value in values for _, problem in [_typed(value, kind, may_be_zero=True)] if problem)
