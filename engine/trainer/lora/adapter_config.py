"""``adapter_config.json``, PEFT's description of adapters: written and read.

In: the arguments of our adapters, the names of the base's modules. Out: the mapping that PEFT reads. And back: every key
that could change the computation must have a value under which PEFT and we compute the same; unknown keys and values are
refused.

    write_atomic(folder / ADAPTER_CONFIG, pretty_json(peft_config(args, base, target_modules)))
    args = read_args(folder / ADAPTER_CONFIG, modules)

Source: ``LoraConfig`` of peft 0.21.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.errors import Diagnostic, InputInvalid, Where
from engine.trainer.lora.adapters import TARGETS, LoraArgs

ADAPTER_CONFIG = "adapter_config.json"
# Projection, by Hugging Face's name -> the module's name in each layer of transformers' class for the base.
Modules = Mapping[str, Sequence[str]]
WORDS = f"projections of this family ({', '.join(TARGETS)})"
UNSET: tuple[object, ...] = (None, False, {}, [])  # defaults of keys that later versions of PEFT add

# Values other than unset under which PEFT computes what we compute. The others ("pissa", "olora", "loftq", …) start from
# adapters that are subtracted from the base's weights, so that they fit no published base.
PLAIN: Mapping[str, tuple[object, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
}
# Keys that do not affect the computation, or only together with another key that is refused.
IGNORED = (
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "inference_mode",
    "layers_pattern",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
)


def peft_config(args: LoraArgs, base: Mapping[str, object], target_modules: str | list[str]) -> dict[str, object]:
    """The mapping PEFT reads; ``base``: its "name_or_path" and "revision"."""
    return {
        "base_model_name_or_path": base.get("name_or_path"),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": args.alpha,
        "lora_dropout": args.dropout,
        "peft_type": "LORA",
        "r": args.rank,
        "revision": base.get("revision"),
        "target_modules": target_modules,
        "task_type": "CAUSAL_LM",
        "use_rslora": args.rslora,
    }


def read_args(path: Path, modules: Modules) -> LoraArgs:
    """The arguments in a file. Raises InputInvalid M602 (no such file, not JSON), M603 (naming every wrong key)."""
    config = read_json(path)
    problems = [Diagnostic("M603", message, Where(file=str(path), path=key)) for key, message in _problems(config)]
    targets: tuple[str, ...] = ()
    try:
        targets = _targets(config.get("target_modules"), modules)
    except ValueError as error:
        problems.append(Diagnostic("M603", str(error), Where(file=str(path), path="target_modules")))
    if problems:
        raise InputInvalid.of(problems)
    return LoraArgs(
        rank=config["r"],
        alpha=float(config["lora_alpha"]),
        rslora=bool(config.get("use_rslora")),
        dropout=float(config.get("lora_dropout") or 0.0),
        targets=targets,
    )


def _targets(value: object, modules: Modules) -> tuple[str, ...]:
    """The projections that PEFT would choose: a word names the modules that end with it, a text is a pattern of whole names.

    Raises ValueError where it chooses none, modules that are no projections, or a projection of some layers only.
    """
    names = {name for layers in modules.values() for name in layers}
    if value == "all-linear":
        chosen = names
    elif isinstance(value, str):
        try:
            pattern = re.compile(value)
        except re.error as error:
            raise ValueError(f'"target_modules" is no regular expression: {error}') from error
        chosen = {name for name in names if pattern.fullmatch(name)}
    elif isinstance(value, list) and all(isinstance(word, str) for word in value):
        by_word = {word: {name for name in names if f".{name}".endswith(f".{word}")} for word in value}
        strange = sorted(word for word, found in by_word.items() if not found)
        if strange:
            raise ValueError(f'"target_modules" must name {WORDS}, not {strange[0]!r}')
        chosen = set().union(*by_word.values())
    else:
        chosen = set()
    if not chosen:
        raise ValueError(f'"target_modules" must name {WORDS}, not {value!r}')
    partly = [target for target, layers in modules.items() if chosen & set(layers) and not chosen >= set(layers)]
    if partly:
        raise ValueError(f'"target_modules" has "{partly[0]}" in some layers only, which is not supported')
    return tuple(target for target, layers in modules.items() if chosen & set(layers))


def read_json(path: Path) -> dict[str, Any]:
    """The mapping of a file of an adapter folder. Raises InputInvalid M602."""
    try:
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise TypeError("not a JSON object")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputInvalid("M602", f"there is no {path.name}", where=Where(file=str(path.parent))) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise InputInvalid("M602", f"{path.name} cannot be read: {error}", where=Where(file=str(path))) from error
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# Key -> (what it must be, in words; the test). An optional key that is left out passes as None.
READ: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "r": ("a whole number above 0", lambda value: _is_number(value) and isinstance(value, int) and value > 0),
    "lora_alpha": ("a number above 0", lambda value: _is_number(value) and value > 0),
    "lora_dropout": ("from 0 to below 1", lambda value: value is None or (_is_number(value) and 0 <= value < 1)),
    "use_rslora": ("true or false", lambda value: value is None or isinstance(value, bool)),
}


def _problems(config: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """(key, sentence) of everything that differs from LoRA as computed here."""
    for key, (words, is_valid) in READ.items():
        if not is_valid(config.get(key)):
            yield key, f'"{key}" must be {words}, not {config.get(key)!r}'
    for key, value in config.items():
        if (
            key not in (*READ, "target_modules")
            and key not in IGNORED
            and value not in UNSET
            and value not in PLAIN.get(key, ())
        ):
            yield key, f'"{key}": {value!r} is not supported'
