"""``adapter_config.json``, PEFT's description of adapters, out and in.

In: the arguments of our adapters. Out: the mapping that PEFT reads; and back, where every key that could change the
computation must have a value under which PEFT computes what is computed here: what is not understood is refused.

    write_atomic(folder / ADAPTER_CONFIG, pretty_json(peft_config(args, base)))
    args = read_args(folder / ADAPTER_CONFIG)

Source: ``LoraConfig`` of peft 0.21.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.errors import Diagnostic, InputInvalid, Where
from engine.trainer.lora.adapters import TARGETS, LoraArgs

ADAPTER_CONFIG = "adapter_config.json"
UNSET: tuple[Any, ...] = (None, False, {}, [])  # what a key that PEFT learns tomorrow has where nobody asked for it

# Values other than unset under which PEFT's computation is ours. The others ("pissa", "olora", "loftq", …) begin with
# adapters that are taken out of the base's weights, so that they fit a base that is nobody's.
PLAIN: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
}
# Keys that say nothing about the computation, or only under another key that is refused.
SILENT = (
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


def peft_config(args: LoraArgs, base: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping PEFT reads; ``base``: its "id" and "revision"."""
    return {
        "base_model_name_or_path": base.get("id"),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": args.alpha,
        "lora_dropout": args.dropout,
        "peft_type": "LORA",
        "r": args.rank,
        "revision": base.get("revision"),
        "target_modules": sorted(args.targets),
        "task_type": "CAUSAL_LM",
        "use_rslora": args.rslora,
    }


def read_args(path: Path) -> LoraArgs:
    """The arguments a file names. Raises InputInvalid M602 (no such file, no JSON), M603 (with every key)."""
    found = read_json(path)
    if found.get("target_modules") == "all-linear":
        found["target_modules"] = list(TARGETS)
    problems = [Diagnostic("M603", message, Where(file=str(path), path=key)) for key, message in _problems(found)]
    if problems:
        raise InputInvalid.of(problems)
    return LoraArgs(
        rank=found["r"],
        alpha=float(found["lora_alpha"]),
        rslora=bool(found.get("use_rslora")),
        dropout=float(found.get("lora_dropout") or 0.0),
        targets=tuple(name for name in TARGETS if name in found["target_modules"]),
    )


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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# Key -> (what it must be, in words; the test). A key that may be left out passes as None.
READ: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "r": ("a whole number above 0", lambda value: _is_number(value) and isinstance(value, int) and value > 0),
    "lora_alpha": ("a number above 0", lambda value: _is_number(value) and value > 0),
    "lora_dropout": ("from 0 to below 1", lambda value: value is None or (_is_number(value) and 0 <= value < 1)),
    "use_rslora": ("true or false", lambda value: value is None or isinstance(value, bool)),
    "target_modules": (
        f"a list of projections of this family ({', '.join(TARGETS)})",
        lambda value: isinstance(value, list) and value != [] and all(one in tuple(TARGETS) for one in value),
    ),
}


def _problems(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, sentence) of everything that is not LoRA as here."""
    for key, (words, fits) in READ.items():
        if not fits(found.get(key)):
            yield key, f'"{key}" must be {words}, not {found.get(key)!r}'
    for key, value in found.items():
        if key not in READ and key not in SILENT and value not in UNSET and value not in PLAIN.get(key, ()):
            yield key, f'"{key}": {value!r} is not what is computed here'
