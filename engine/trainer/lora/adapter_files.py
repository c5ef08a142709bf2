"""Adapters in PEFT's format: written and read.

In: a model with adapters, or a folder with ``adapter_config.json`` and ``adapter_model.safetensors``. Out: such a folder, which ``peft`` loads over the same base with equal logits, byte-identical for equal
adapters; or the model with the folder's adapters. ``runspec_base.json`` beside them identifies the base they were made
for: its configuration and the origin of its weights; PEFT does not read it.

    save_adapter(folder, model, base={"id": "google/gemma-2b", "revision": commit, "weights": origin})
    model = load_adapter(folder, model, base=...)

Names are those of the modules that transformers' class for the base has: PEFT reads past a name that the class does not
have, and the adapter does nothing. For the text part of a larger model (Gemma 3 from 4B on) they have one part more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from engine.canonical import digest_json, pretty_json, write_atomic
from engine.errors import Diagnostic, InputInvalid, Where, did_you_mean
from engine.model_config.folder_files import HEAD_BYTES, file_in, stand_in
from engine.trainer.lora.adapter_config import ADAPTER_CONFIG, peft_config, read_args, read_json
from engine.trainer.lora.adapters import TARGETS, Lora, adapter_shapes, with_adapters
from engine.trainer.models import family_of
from engine.trainer.models.decoder import Decoder
from engine.trainer.weights.folder import common_name

ADAPTER_WEIGHTS = "adapter_model.safetensors"
BASE_FILE = "runspec_base.json"
PEFT_PREFIX = "base_model.model."
HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


def save_adapter(folder: str | Path, model: Decoder, *, base: Mapping[str, object]) -> None:
    """Write the three files. ``base``: "name_or_path" and "revision" for PEFT, "id", "weights": what identifies the base."""
    folder = Path(folder)
    lora = model.lora
    assert isinstance(lora, Lora)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(_stored(model, lora))
    write_atomic(folder / ADAPTER_WEIGHTS, safetensors.numpy.save(tensors, metadata={"format": "pt"}))
    made_for = {key: value for key, value in base.items() if key != "name_or_path"}
    write_atomic(folder / BASE_FILE, pretty_json({**made_for, "config_sha256": _config_digest(model)}))
    write_atomic(folder / ADAPTER_CONFIG, pretty_json(peft_config(lora.args, base, _target_modules(model, lora))))


def load_adapter(folder: str | Path, model: Decoder, *, base: Mapping[str, object] | None = None) -> Decoder:
    """The model with the folder's adapters.

    Raises InputInvalid: M602 (a file is missing or damaged), M603 (asks for another kind of LoRA), M604 (names or
    shapes that do not fit this base), M605 (made for another base), M204 (NaN).
    """
    folder = Path(folder)
    args = read_args(folder / ADAPTER_CONFIG, modules_of(model))
    if base is not None:
        _refuse_other_base(folder, model, base)
    missing = {
        stored: (name, index)
        for name in adapter_shapes(model.config, args)
        for index, stored in enumerate(_stored_names(model, name))
    }
    filled = {name: np.empty(shape, np.float32) for name, shape in adapter_shapes(model.config, args).items()}
    problems: list[Diagnostic] = []
    where = Where(file=str(folder / ADAPTER_WEIGHTS))
    prefixes = _prefixes(model)
    for stored, tensor in _tensors(folder / ADAPTER_WEIGHTS):
        slot = missing.pop(_own_name(stored, prefixes), None)
        if slot is None:
            near = did_you_mean(stored, missing)
            hint = f'did you mean "{near}"?' if near else None
            problems.append(Diagnostic("M604", f"the adapter has a weight this base does not: {stored}", where, hint))
            continue
        target = filled[slot[0]][slot[1]]
        if tensor.shape[::-1] != target.shape:
            message = f"{stored} has shape {list(tensor.shape)}, this base needs {list(target.shape[::-1])}"
            problems.append(Diagnostic("M604", message, where, "the adapter was made for a base of another size"))
            continue
        target[...] = tensor.T.astype(np.float32)
        if not np.isfinite(target).all():
            problems.append(Diagnostic("M204", f"{stored} holds NaN or infinity", where))
    problems += [Diagnostic("M604", f"the adapter lacks {stored}", where) for stored in missing]
    if problems:
        raise InputInvalid.of(problems)
    return with_adapters(model, args, {name: jnp.asarray(array) for name, array in filled.items()})


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds adapters."""
    return file_in(Path(folder), ADAPTER_CONFIG, "M602") is not None


def read_base(folder: str | Path) -> dict[str, Any]:
    """The base of the folder's adapters. Raises InputInvalid M602."""
    path = Path(folder) / BASE_FILE
    base = read_json(path)
    lacking = [key for key in ("revision", "dtype", "seed") if key not in base]
    if lacking:
        raise InputInvalid("M602", f"{BASE_FILE} lacks {', '.join(lacking)}", where=Where(file=str(path)))
    return base


def modules_of(model: Decoder) -> dict[str, list[str]]:
    """Projection -> its module's name in each layer, as transformers' class for the base has it."""
    return {target: _module_names(model, ours) for target, ours in TARGETS.items()}


def _module_names(model: Decoder, target: str) -> list[str]:
    family, config = family_of(model.config), model.config
    stored, _ = family.HF_NAMES[f"layers.{target}"]
    plain, nested = family.NESTED_PREFIX if config.is_nested else ("", "")
    name = nested + stored.removeprefix(plain).removesuffix(".weight")
    return [name.format(index) for index in range(config.num_hidden_layers)]


def _target_modules(model: Decoder, lora: Lora) -> str | list[str]:
    """What PEFT finds the modules by: their last words; in a larger model, whose other parts have such too, a pattern."""
    words = sorted(lora.args.targets)
    if not model.config.is_nested:
        return words
    _, nested = family_of(model.config).NESTED_PREFIX
    return rf"{re.escape(nested)}layers\.\d+\.\w+\.({'|'.join(words)})"


def _stored_names(model: Decoder, name: str) -> list[str]:
    """PEFT's name of "q.a" in each layer."""
    target, part = name.split(".")
    letter = {"a": "A", "b": "B"}[part]
    return [f"{PEFT_PREFIX}{module}.lora_{letter}.weight" for module in _module_names(model, target)]


def _prefixes(model: Decoder) -> dict[str, str]:
    """Prefixes of modules -> this base's: adapters of another nesting of the same text part fit it as well."""
    family = family_of(model.config)
    plain, nested = getattr(family, "NESTED_PREFIX", ("model.", "model."))
    own = nested if model.config.is_nested else plain
    return dict.fromkeys((*getattr(family, "KEY_PREFIXES", {}), nested, plain), own)


def _own_name(stored: str, prefixes: Mapping[str, str]) -> str:
    """PEFT's name by this base's nesting."""
    return (
        PEFT_PREFIX + common_name(stored.removeprefix(PEFT_PREFIX), prefixes)
        if stored.startswith(PEFT_PREFIX)
        else stored
    )


def _stored(model: Decoder, lora: Lora) -> Iterator[tuple[str, np.ndarray]]:
    """(PEFT's name, [out, in] f32) of every adapter of every layer."""
    for name, array in lora.weights().items():
        host = np.asarray(array, np.float32)
        for stored, matrix in zip(_stored_names(model, name), host, strict=True):
            yield stored, np.ascontiguousarray(matrix.T)


def _refuse_other_base(folder: Path, model: Decoder, base: Mapping[str, object]) -> None:
    """Raises M605 where the adapter's base is known and is not this one."""
    path = file_in(folder, BASE_FILE, "M602")
    if path is not None:
        made_for, present = read_json(path), {**base, "config_sha256": _config_digest(model)}
        keys = ("config_sha256", "weights")
    else:  # written by PEFT: it records a name, and perhaps a revision
        config = read_json(folder / ADAPTER_CONFIG)
        made_for = {"id": config.get("base_model_name_or_path"), "revision": config.get("revision")}
        present, keys = dict(base), ("id", "revision")
        if not all(HUB_NAME.fullmatch(str(source["id"])) for source in (made_for, present)):
            return  # one of them is a local folder, whose name proves nothing
    differing = [key for key in keys if made_for.get(key) is not None and made_for[key] != present.get(key)]
    if differing:
        raise InputInvalid.of(
            Diagnostic(
                "M605",
                f"the adapter was made for another base: {key} was {made_for[key]}, here it is {present.get(key)}",
                Where(file=str(folder)),
                "name the model and the revision that the adapter was trained on",
            )
            for key in differing
        )


def _config_digest(model: Decoder) -> str:
    """Of what the base computes; not of the dtype it is stored in."""
    mapping = model.config.to_hf()
    return digest_json({key: value for key, value in mapping.items() if key != "dtype"})


def _tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    try:
        with path.open("rb") as stream:
            stands_for = stand_in(stream.read(HEAD_BYTES))
        if stands_for is not None:
            raise InputInvalid("M602", stands_for[0], where=Where(file=str(path)), hint=stands_for[1])
        with safetensors.safe_open(path, "np") as opened:
            for name in sorted(opened.keys()):
                yield name, opened.get_tensor(name)
    except FileNotFoundError as error:
        raise InputInvalid("M602", f"there is no {path.name}", where=Where(file=str(path.parent))) from error
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise InputInvalid(
            "M602", f"the adapter's weights are damaged or truncated: {error}", where=Where(file=str(path))
        ) from error
