"""Single values of a ``config.json``: of the right kind, in range, of one opinion; and rotary positions in both styles.

In: a value, or the mappings that may have it. Out: the value, or what is wrong with it.

    >>> typed("16", "int")
    (None, "must be a number, not '16'")
    >>> agreed_number({"rope_theta": {"rope_theta": 1e4}, "rope_parameters.rope_theta": {}})
    (10000.0, [])
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.model_config.keys import Finding

ConfigMapping = Mapping[str, Any]  # a config.json, or a mapping nested in it
SLIDING, FULL = "sliding_attention", "full_attention"

# What a rotary number is called in the message about two keys that give it different values.
NUMBERS = {
    "rope_theta": "rotary bases",
    "rope_local_base_freq": "rotary bases of the layers with a window",
    "rope_factor": "rotary factors",
}
# Values under which positions are the plain ones, or divided by "factor"; a key that is null asks for nothing.
PLAIN_ROPE: ConfigMapping = {"partial_rotary_factor": 1.0, "attention_factor": 1.0}
LARGEST = 10**15  # beyond any size or base: an int of Python may have a thousand digits
NO_ROPE = ("original_max_position_embeddings",)  # read by other kinds of scaling only


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


def width_findings(hidden_size: int, num_attention_heads: int) -> list[Finding]:
    """What transformers' classes of Gemma 2 and 3 demand, though nothing is computed with it."""
    if hidden_size % num_attention_heads == 0:
        return []
    message = f'"hidden_size" ({hidden_size}) must be a multiple of "num_attention_heads" ({num_attention_heads})'
    return [("hidden_size", "M105", message, "transformers would not load the model otherwise")]


def rope_mapping(mapping: ConfigMapping, key: str) -> tuple[ConfigMapping, list[Finding]]:
    """A nested mapping that may be absent or null, or what is wrong with it."""
    value = mapping.get(key) or {}
    if isinstance(value, Mapping):
        return value, []
    return {}, [(key, "M104", f'"{key}": must be a mapping', None)]


def rope_findings(parameters: ConfigMapping, path: str, name: str, *, may_divide: bool = False) -> list[Finding]:
    """Every key that asks for rotary positions other than the plain ones; ``may_divide``: by a factor they may be."""
    factor = parameters.get("factor")
    divides = factor not in (None, 1, 1.0)
    kind = parameters.get("rope_type") or "default"  # "type", its older name, transformers 5 reads past in a Gemma 3
    if divides and may_divide and kind == "default":  # transformers would not divide by it
        message = f'"{path}.factor": {factor!r} is used with "rope_type": "linear" only'
        return [(f"{path}.factor", "M105", message, None)]
    findings: list[Finding] = []
    for key, value in parameters.items():
        if value is None or key in ("rope_theta", *NO_ROPE) or (key in PLAIN_ROPE and PLAIN_ROPE[key] == value):
            continue
        if (key in ("rope_type", "type") and value in ("default", "linear")) or (
            key == "factor" and may_divide >= divides
        ):
            continue
        findings.append((f"{path}.{key}", "M105", f'"{path}.{key}": {value!r} is not what {name} computes', None))
    return findings


def agreed_number(sources: Mapping[str, ConfigMapping], key: str = "rope_theta") -> tuple[float | None, list[Finding]]:
    """The number on which all sources agree (path -> the mapping that may have it under the path's last word)."""
    words = {path: path.split(".")[-1] for path in sources}
    values = {path: mapping[words[path]] for path, mapping in sources.items() if words[path] in mapping}
    values = {path: value for path, value in values.items() if value is not None or "." not in path}
    findings: list[Finding] = []
    for path, value in values.items():
        _, problem = typed(value, "float")
        if problem:
            findings.append((path, "M104", f'"{path}": {problem}', None))
    if not findings and len(set(values.values())) > 1:
        text = " and ".join(f'"{path}" is {value!r}' for path, value in values.items())
        findings.append((key, "M105", f"two {NUMBERS[key]}: {text}", None))
    if findings or not values:
        return None, findings
    return float(next(iter(values.values()))), []


def typed(value: object, kind: str, *, may_be_zero: bool = False) -> tuple[Any, str | None]:
    """The value as its field's kind, numbers above 0 (token ids: 0 or more), or what is wrong with it."""
    if kind.endswith("| None"):
        return (None, None) if value is None else typed(value, kind.removesuffix("| None").strip())
    if kind == "tuple[str, ...]":
        if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
            return tuple(value), None
        return None, f"must be a list of words, not {value!r}"
    if may_be_zero and isinstance(value, list) and value:  # "eos_token_id": [1, 106]
        problems = list(_problems(value, kind))
        return value, problems[0] if problems else None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (isinstance(value, float) and not math.isfinite(value))
    ):
        return None, f"must be a number, not {value!r}"
    if abs(value) > LARGEST:
        return None, f"must be at most {LARGEST:.0e}, not a number of {len(str(value))} digits"
    if kind == "int" and not isinstance(value, int):
        return None, f"must be an integer, not {value!r}"
    if value < 0 or (value == 0 and not may_be_zero):
        return None, f"must be above 0, not {value!r}"
    return (value if kind == "int" else float(value)), None


def _problems(values: Iterable[object], kind: str) -> Iterable[str]:
    return (problem for value in values for _, problem in [typed(value, kind, may_be_zero=True)] if problem)
