"""What the configurations of all families share: reading Hugging Face's ``config.json``, and writing it.

In: the mapping of a ``config.json`` as transformers 4 or 5 writes it, or the ``model.config`` of a run-spec. Out: a
:class:`Reading`: a frozen dataclass of the family and the keys that were read past; or one error naming every key that
is misspelt, of the wrong type, or has a value that the family's network does not implement.

    config = GemmaConfig.from_hf(json.loads(path.read_text()), source=str(path))

A family's configuration is a final subclass of :class:`DecoderConfig`: its fields are the keys that are read, its
class variables say which other keys are allowed, with which values; what a file leaves out has the value that
transformers' class gives it (``DEFAULT_SIZES`` and the fields' own). Two styles: transformers 4 has ``rope_theta`` and
other keys beside it, transformers 5 has ``rope_parameters``; a value given in both must agree.

Why not transformers' classes alone, which are the reference: ``validate`` and ``plan`` judge a folder in a quarter of a
second, and importing those takes one; they read past ``hiden_size`` without a word; and they do not know what our
networks compute. The trainer asks them too (:mod:`engine.trainer.reference`), and both must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Self

from engine.errors import Diagnostic, InputInvalid, Where
from engine.model_config.keys import BOOKKEEPING, Finding, wrong_with
from engine.model_config.values import ConfigMapping, agreed_number, rope_findings, rope_mapping, typed

# More than any model has. A typing error would otherwise be processed layer by layer, for hours. As in the schema.
MOST_LAYERS = 1000
GELU_TANH = ("gelu", "gelu_pytorch_tanh")  # both mean the tanh form in Gemma 1 (transformers issue 29402)
IDS = ("pad_token_id", "eos_token_id", "bos_token_id")
NOT_KEYS = ("more_eos_ids", "is_nested")  # fields that are no key of config.json


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
    is_nested: bool = field(default=False, compare=False)  # read from the "text_config" of a larger model

    NAME: ClassVar[str]  # for messages
    MODEL_TYPE: ClassVar[str]
    ARCHITECTURE: ClassVar[str]
    # Keys that would change the computation: the values under which the family is exactly our network.
    FIXED: ClassVar[Mapping[str, tuple[object, ...]]]
    # Further keys that the family itself reads and that are not fields.
    ALSO_READ: ClassVar[frozenset[str]] = frozenset()
    # The sizes that transformers' class has where a file leaves them out.
    DEFAULT_SIZES: ClassVar[Mapping[str, int]]

    @classmethod
    def from_hf(cls, mapping: ConfigMapping, source: str = "config.json") -> Self:
        """The configuration in a ``config.json``; raises InputInvalid M102 to M108 with all findings at once."""
        return cls.read(mapping, source)[0]

    @classmethod
    def read(cls, mapping: ConfigMapping, source: str = "config.json") -> tuple[Self, tuple[str, ...]]:
        """(The configuration, the keys that were read past). Raises as :meth:`from_hf`."""
        is_nested = cls.nests(mapping)
        mapping, findings, read_past = cls.normalised(mapping)
        mapping = {
            **cls.DEFAULT_SIZES,
            **{key: value for key, value in mapping.items() if not _is_left_out(key, value)},
        }
        rope, more = cls.read_rope(mapping)
        findings += more + list(_fixed_keys(cls, mapping))
        for key in mapping.keys() - cls.known_keys() - BOOKKEEPING:
            finding = wrong_with(key, mapping[key], cls.known_keys(), cls.MODEL_TYPE, cls.NAME)
            read_past += [] if finding else [key]
            findings += [finding] if finding else []
        values, more = cls._typed_values(mapping)
        findings += more
        if not findings:
            config = cls(**(values | rope), is_nested=is_nested)
            findings = config.contradictions()
            if not findings:
                return config, tuple(sorted(read_past))
        order = list(mapping)
        findings.sort(key=lambda finding: order.index(finding[0]) if finding[0] in order else len(order))
        raise InputInvalid.of(
            Diagnostic(code, message, Where(file=source, path=key), hint) for key, code, message, hint in findings
        )

    @classmethod
    def known_keys(cls) -> set[str]:
        """The keys whose values the family looks at."""
        known = {one.name for one in fields(cls)} - set(NOT_KEYS)
        return known | set(cls.FIXED) | cls.ALSO_READ | {"rope_theta", "rope_scaling", "rope_parameters"}

    @classmethod
    def _typed_values(cls, mapping: ConfigMapping) -> tuple[dict[str, Any], list[Finding]]:
        """The fields that are read as they are, and what is wrong with them."""
        values: dict[str, Any] = {}
        findings: list[Finding] = []
        for one in fields(cls):
            name = one.name
            if name in cls.rope_fields() or name in NOT_KEYS or (name not in mapping and one.default is not MISSING):
                continue
            value, problem = typed(mapping[name], str(one.type), may_be_zero=name in IDS)
            if name == "eos_token_id" and isinstance(mapping[name], list) and not problem:
                value, values["more_eos_ids"] = value[0], tuple(value[1:])
            if name == "layer_types" and value == ():
                problem = "must name the type of each layer"
            if not problem and name == "num_hidden_layers" and value > MOST_LAYERS:
                problem = f"must be at most {MOST_LAYERS}, not {value}"
            if problem:
                findings.append((name, "M104", f'"{name}": {problem}', None))
            else:
                values[name] = value
        return values, findings

    def to_hf(self, *, dtype: str = "float32") -> dict[str, object]:
        """The ``config.json`` that transformers 5 writes, with the rotary keys of transformers 4 as well."""
        sizes = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in NOT_KEYS}
        if self.more_eos_ids:
            sizes["eos_token_id"] = [self.eos_token_id, *self.more_eos_ids]
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
    def normalised(cls, mapping: ConfigMapping) -> tuple[ConfigMapping, list[Finding], list[str]]:
        """(The mapping in one form, what is wrong with it, keys read past), where the family's files have several forms."""
        return mapping, [], []

    @classmethod
    def nests(cls, mapping: ConfigMapping) -> bool:
        """Whether the family's keys are in the "text_config" of this mapping."""
        del mapping
        return False

    @classmethod
    def rope_fields(cls) -> tuple[str, ...]:
        """The fields that :meth:`read_rope` fills."""
        return ("rope_theta",)

    @classmethod
    def read_rope(cls, mapping: ConfigMapping) -> tuple[dict[str, float], list[Finding]]:
        """The rotary base, from either style."""
        parameters, findings = rope_mapping(mapping, "rope_parameters")
        scaling, more = rope_mapping(mapping, "rope_scaling")
        theta, of_theta = agreed_number(
            {
                "rope_theta": mapping,
                "rope_parameters.rope_theta": parameters,
                "rope_scaling.rope_theta": scaling,
            }
        )
        findings += more + of_theta + rope_findings(parameters, "rope_parameters", cls.NAME)
        findings += rope_findings(scaling, "rope_scaling", cls.NAME)
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
        for name in IDS:
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


def _is_left_out(key: str, value: object) -> bool:
    """Null where transformers' class allows it, and the -1 with which older files say "none"."""
    return (key in IDS or key == "layer_types") and (value is None or (key == "pad_token_id" and value == -1))


def _fixed_keys(cls: type[DecoderConfig], mapping: ConfigMapping) -> Iterator[Finding]:
    for key, allowed in cls.FIXED.items():
        if key not in mapping or any(mapping[key] is value or mapping[key] == value for value in allowed):
            continue
        choices = " or ".join(repr(value) for value in dict.fromkeys(allowed))
        yield key, "M105", f'"{key}": {mapping[key]!r} is not what {cls.NAME} computes ({choices})', None
