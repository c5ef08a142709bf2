"""Adapters in PEFT's format: written and read.

In: a model with adapters, or a folder with ``adapter_config.json`` and ``adapter_model.safetensors``. Out: such a folder, which ``peft`` loads over the same base with equal logits, byte-identical for equal
adapters; or the model with the folder's adapters. ``runspec_base.json`` beside them identifies the base they were made
for: its configuration and the origin of its weights; PEFT does not read it.

    save_adapter(folder, model, base={"id": "google/gemma-2b", "revision": commit, "weights": origin})
    model = load_adapter(folder, model, base=...)
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
from engine.trainer import lfs
from engine.trainer.lora.adapter_config import ADAPTER_CONFIG, peft_config, read_args, read_json
from engine.trainer.lora.adapters import Lora, adapter_shapes, with_adapters
from engine.trainer.models import family_of
from engine.trainer.models.decoder import Decoder

ADAPTER_WEIGHTS = "adapter_model.safetensors"
BASE_FILE = "runspec_base.json"
HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


def save_adapter(folder: str | Path, model: Decoder, *, base: Mapping[str, object]) -> None:
    """Write the three files. ``base``: "id" and "revision" as PEFT names them, "weights": what identifies the base."""
    folder = Path(folder)
    lora = model.lora
    assert isinstance(lora, Lora)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(_stored(model, lora))
    write_atomic(folder / ADAPTER_WEIGHTS, safetensors.numpy.save(tensors, metadata={"format": "pt"}))
    write_atomic(folder / BASE_FILE, pretty_json({**base, "config_sha256": _config_digest(model)}))
    write_atomic(folder / ADAPTER_CONFIG, pretty_json(peft_config(lora.args, base)))


def load_adapter(folder: str | Path, model: Decoder, *, base: Mapping[str, object] | None = None) -> Decoder:
    """The model with the folder's adapters.

    Raises InputInvalid: M602 (a file is missing or damaged), M603 (asks for another kind of LoRA), M604 (names or
    shapes that do not fit this base), M605 (made for another base), M204 (NaN).
    """
    folder = Path(folder)
    args = read_args(folder / ADAPTER_CONFIG)
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
    for stored, tensor in _tensors(folder / ADAPTER_WEIGHTS):
        slot = missing.pop(stored, None)
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
    return (Path(folder) / ADAPTER_CONFIG).is_file()


def read_base(folder: str | Path) -> dict[str, Any]:
    """The base of the folder's adapters. Raises InputInvalid M602."""
    path = Path(folder) / BASE_FILE
    base = read_json(path)
    lacking = [key for key in ("revision", "dtype", "seed") if key not in base]
    if lacking:
        raise InputInvalid("M602", f"{BASE_FILE} lacks {', '.join(lacking)}", where=Where(file=str(path)))
    return base


def _stored_names(model: Decoder, name: str) -> list[str]:
    """PEFT's name of "q.a" in each layer."""
    target, part = name.split(".")
    stored, _ = family_of(model.config).HF_NAMES[f"layers.{target}"]
    module = f"base_model.model.{stored.removesuffix('.weight')}"
    letter = {"a": "A", "b": "B"}[part]
    return [f"{module.format(index)}.lora_{letter}.weight" for index in range(model.config.num_hidden_layers)]


def _stored(model: Decoder, lora: Lora) -> Iterator[tuple[str, np.ndarray]]:
    """(PEFT's name, [out, in] f32) of every adapter of every layer."""
    for name, array in lora.weights().items():
        host = np.asarray(array, np.float32)
        for stored, matrix in zip(_stored_names(model, name), host, strict=True):
            yield stored, np.ascontiguousarray(matrix.T)


def _refuse_other_base(folder: Path, model: Decoder, base: Mapping[str, object]) -> None:
    """Raises M605 where the adapter's base is known and is not this one."""
    path = folder / BASE_FILE
    if path.is_file():
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
            if lfs.is_pointer(stream.read(lfs.HEAD_BYTES)):
                raise InputInvalid("M602", lfs.NOT_HERE, where=Where(file=str(path)), hint=lfs.GET_IT)
        with safetensors.safe_open(path, "np") as opened:
            for name in sorted(opened.keys()):
                yield name, opened.get_tensor(name)
    except FileNotFoundError as error:
        raise InputInvalid("M602", f"there is no {path.name}", where=Where(file=str(path.parent))) from error
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise InputInvalid(
            "M602", f"the adapter's weights are damaged or truncated: {error}", where=Where(file=str(path))
        ) from error
