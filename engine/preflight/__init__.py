"""The price of a run before it starts: memory, time and disk on a given machine.

In: the Spec, the handlers, the name of a target. Out: the ``target``, ``memory``, ``time`` and
``disk`` parts of ``plan --json``. ``source`` of the memory is ``tpu-compiler``, ``gpu-compiler`` or ``cpu-compiler``
where the target's compiler compiled the train step, now (``exact``) or before; else ``analytic``: an estimate from the
shapes. What cannot be known is null with a reason; nothing is invented.

    cost = price(spec, handlers, "kaggle-t4x2")
    cost["memory"]["fits"]
    price(spec, handlers, "kaggle-v5e-8", exact=print)      # runs the compiler; print is called with what takes the time
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.errors import InputInvalid
from engine.model_config import CONFIG_FILE, read_folder
from engine.model_config.folder_files import orbax_folders
from engine.model_config.shapes import (
    FAMILY_NORMS,
    KNOWN_CONFIGS,
    NEEDED,
    TOKENIZER_VOCABULARY,
    known_id,
    param_count,
)
from engine.preflight.disks import disk_part, phases_of, unknown_disk
from engine.preflight.estimate import Estimate, estimate
from engine.preflight.exact import ask, cached_answer, compilers_folder, device_bytes, job_for, limit_bytes
from engine.preflight.hours import time_part, unknown_time
from engine.preflight.shardings import ask_shardings
from engine.preflight.targets import TARGETS, PlanTarget, target_named
from engine.protocol.device_memory import Allocator, fits, memory_fraction
from engine.protocol.kaggle_models import found_model, parse_kaggle_model
from engine.runspec.model import Spec
from engine.steps import Handler

__all__ = ["TARGETS", "price", "shardings", "target_named"]

ON_KAGGLE = "kaggle-"  # how the names of its machines begin
ASSUMES_FULL_ROWS = "every row is full and every token but its first is trained: the most memory a step can take"


def price(
    spec: Spec,
    handlers: Mapping[str, Handler],
    target: str | None = None,
    *,
    exact: Callable[[str], None] | None = None,
    staged: Iterable[Path] = (),
) -> dict[str, Any]:
    """``{"target": …, "memory": …, "time": …, "disk": …}``: memory of the most expensive training step, disk of the run.

    Raises InputInvalid U116 for an unknown target, U134 for a mesh that does not match the devices of a named one.
    With ``exact`` the target's compiler compiles the train step, unless its answer is cached; ``exact`` is called with a
    line for the person meanwhile. Without it a cached answer is used, else the estimate. ``staged``: where an interrupted
    attempt has left its checkpoints.
    """
    machine = target_named(target)
    about = {"target": target_row(machine)}
    config, reason = _config(spec)
    declared = {step.id: dict(step.args) for step in spec.steps if handlers[step.uses].makes == "checkpoint"}
    known = {name: args for name, args in declared.items() if _is_priceable(args)}
    allocator = Allocator(**spec.allocator) if spec.allocator else None
    base = _memory(machine, allocator)
    if not known:
        reason = "no step trains a model" if not declared else "the training step is not one of the built-in kind"
    if config is None or not known:
        return {
            **about,
            "memory": {**base, "reason": reason},
            "time": unknown_time(reason, machine),
            "disk": unknown_disk(spec, machine, reason),
        }
    if target is not None:
        for args in known.values():
            _check_mesh(args.get("mesh") or {}, machine)
    memory = base | {"params": param_count(config)}
    full = {"model_type": "gemma", **config}
    answers = [_answer(spec.root, machine, full, args, allocator, exact) for args in known.values()]
    if all(answers):
        worst = max((answer for answer in answers if answer), key=lambda answer: answer["needed_bytes"])
        memory |= _compiled(worst, memory["limit_bytes_per_device"])
    else:
        limit = memory["limit_bytes_per_device"]
        found = [estimate(full, args, machine.machine, limit) for args in known.values()]
        memory |= _estimated(max(found, key=lambda entry: entry.needed_bytes), limit)
    smoke = _smoke_args(spec, known)
    time_ = time_part(spec, config, known, smoke, machine)
    phases = phases_of(spec, config, known, smoke, is_mounted=_is_mounted(spec, machine))
    disk = disk_part(spec, phases, machine, staged)
    return {**about, "memory": memory, "time": time_, "disk": disk}


def _is_mounted(spec: Spec, machine: PlanTarget) -> bool:
    """Whether the model is mounted there: on Kaggle a model of Kaggle always is."""
    if spec.model.kaggle is None:
        return False
    found = found_model(parse_kaggle_model(spec.model.kaggle), os.environ) if machine.is_here else None
    return machine.name.startswith(ON_KAGGLE) or (found is not None and found.place == "mount")


def target_row(target: PlanTarget) -> dict[str, Any]:
    """The target as ``plan --json`` describes it: each fact of the outside world with its source and date."""
    facts = [asdict(fact) for fact in (*target.machine.facts, *target.facts)]
    retired = target.retired and {"instead": target.retired.instead, **asdict(target.retired.fact)}
    return {"name": target.name, "about": target.about, "retired": retired, "facts": facts}


def _smoke_args(spec: Spec, known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The job of the smoke run, as engine.steps.smoke_proof makes it; None without one, or without a step it proves."""
    smoke = next((step for step in spec.steps if step.uses == "smoke_run"), None)
    if smoke is None:
        return None
    later = [step.id for step in spec.steps[spec.steps.index(smoke) :] if step.id in known]
    if not later:
        return None
    reduced = {name: value for name, value in dict(smoke.args.get("reduce") or {}).items() if name != "device"}
    return {**known[later[0]], **reduced, "save_every_steps": 1, "num_train_steps": smoke.args["num_train_steps"]}


def _check_mesh(mesh: Mapping[str, Any], machine: PlanTarget) -> None:
    """Raises InputInvalid U134, where the trainer would raise T164 on the target. This machine's devices are not checked: that needs JAX."""
    tp, fsdp = mesh.get("tp") or 1, mesh.get("fsdp")
    size = tp if fsdp is None else fsdp * tp
    if machine.devices % size == 0 if fsdp is None else machine.devices == size:
        return
    needs = f"a multiple of {tp}" if fsdp is None else str(size)
    declared = ", ".join(f"{axis}: {size}" for axis, size in (("fsdp", fsdp), ("tp", tp)) if size is not None)
    has = f"{machine.devices} device{'s' * (machine.devices != 1)}"
    hint = f"tp: a divisor of {machine.devices}; without fsdp it is all that tp leaves"
    raise InputInvalid(
        "U134", f"the mesh {{{declared}}} needs {needs} devices, and {machine.name} has {has}", hint=hint
    )


def shardings(spec: Spec, handlers: Mapping[str, Handler], target: str | None = None) -> dict[str, dict[str, Any]]:
    """Id of each training step -> how its weights are sharded over the target's devices (see engine.preflight.shardings).

    Raises InputInvalid T164 to T166 where mesh or batch do not match the devices, U132 where the shapes are not known.
    """
    machine, (config, reason) = target_named(target), _config(spec)
    declared = {step.id: dict(step.args) for step in spec.steps if handlers[step.uses].makes == "checkpoint"}
    known = {name: args for name, args in declared.items() if _is_priceable(args)}
    if config is None or not known:
        raise InputInvalid("U132", f"there are no shardings to show: {reason or 'no step trains a model'}")
    full = {"model_type": "gemma", **config}
    return {name: ask_shardings(spec.root, full, args, devices=machine.devices) for name, args in known.items()}


_ARGUMENTS = (
    "dtype",
    "optimizer",
    "per_device_batch_size",
    "grad_accum_steps",
    "seq_len",
    "keep_checkpoints",
)


def _answer(
    root: Path,
    target: PlanTarget,
    config: Mapping[str, Any],
    args: Mapping[str, Any],
    allocator: Allocator | None,
    exact: Callable[[str], None] | None,
) -> dict[str, Any] | None:
    """The compiler's report: cached, or made now if ``exact`` is given."""
    try:
        job = job_for(target.machine.name, config, args, compilers_folder(root), allocator)
    except InputInvalid:  # a training step of another package, with arguments of its own: the estimate still works
        if exact is None:
            return None
        raise
    cached = cached_answer(root, job)
    if cached is not None or exact is None:
        return cached
    exact(f"compiling the train step for {target.name}: up to a minute or two; the answer is cached")
    return ask(root, job)


def _compiled(report: Mapping[str, Any], limit: int | None) -> dict[str, Any]:
    """What the compiler's report changes in the ``memory`` part."""
    names = ("state_bytes", "argument_bytes", "output_bytes", "alias_bytes", "temp_bytes", "code_bytes")
    compiles = report["peak_bytes"] is not None
    return {
        "peak_bytes_per_device": report["needed_bytes"],
        "fits": fits(report["peak_bytes"], limit) if compiles and limit is not None else report["fits"],
        "remat": report["how"]["remat"],
        "source": report["source"],
        "terms": {name: report[name] for name in names} if compiles else None,
        "assumes": ASSUMES_FULL_ROWS,
    }


def _estimated(found: Estimate, limit: int | None) -> dict[str, Any]:
    """The estimate's part of ``memory``."""
    return {
        "peak_bytes_per_device": found.needed_bytes,
        "fits": None if limit is None else fits(found.needed_bytes, limit),
        "remat": found.remat,
        "terms": dict(found.terms),
    }


def _is_priceable(args: Mapping[str, Any]) -> bool:
    return all(key in args for key in _ARGUMENTS)


def _config(spec: Spec) -> tuple[Mapping[str, Any] | None, str | None]:
    """The model's configuration and None, or None and why it is unknown without the network."""
    model = spec.model
    if model.config is not None:
        # The tokenizer decides the vocabulary, and the engine builds the tokenizer (tests/trainer compares the two).
        config: Mapping[str, Any] | None = {
            "vocab_size": TOKENIZER_VOCABULARY[model.tokenizer or "chars"],
            **model.config,
        }
    elif model.path is not None:
        folder = spec.resolve(model.path)
        config = _read_config(folder) or (KNOWN_CONFIGS.get(model.id) if _is_flax_variation(folder) else None)
    else:
        found = found_model(parse_kaggle_model(model.kaggle), os.environ) if model.kaggle else None
        config = _read_config(found.folder) if found is not None else None
        config = config or KNOWN_CONFIGS.get(known_id(model.id, model.kaggle))
    if config is None:
        return None, f"the shapes of {model.id} are not known here"
    if config.get("model_type", "gemma") not in FAMILY_NORMS:
        return None, f"the shapes of a {config['model_type']} model are not known here"
    missing = [key for key in NEEDED if not isinstance(config.get(key), int)]
    if missing:
        return None, f"the configuration of {model.id} does not give {', '.join(missing)}"
    return config, None


def _is_flax_variation(folder: Path) -> bool:
    """Whether its shapes stand in a checkpoint that only the trainer opens."""
    return not (folder / CONFIG_FILE).exists() and bool(
        orbax_folders(f"{one.parent.name}/{one.name}" for one in folder.glob("*/*"))
    )


def _read_config(folder: Path) -> Mapping[str, Any] | None:
    """As the trainer reads it; None where it would refuse it (reading the spec has said so)."""
    try:
        return read_folder(folder).config.to_hf()
    except InputInvalid:
        return None


def _memory(target: PlanTarget, allocator: Allocator | None) -> dict[str, Any]:
    """The ``memory`` part before anything is known of the train step: the target, and what a run may take of it."""
    machine = target.machine
    return {
        "target": target.name,
        "devices": target.devices,
        "peak_bytes_per_device": None,
        "limit_bytes_per_device": limit_bytes(machine, allocator),
        "device_bytes": device_bytes(machine),
        "memory_fraction": memory_fraction(machine.platform, allocator),
        "fits": None,
        "remat": None,
        "source": "analytic",
        "params": None,
        "terms": None,
        "assumes": ASSUMES_FULL_ROWS,
    }
