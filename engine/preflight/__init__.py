"""The price of a run before it starts: memory, time and disk on a given machine.

In: the Spec, the handlers, the name of a target. Out: the ``memory``, ``time`` and
``disk`` parts of ``plan --json``. ``source`` of the memory is ``tpu-compiler``, ``gpu-compiler`` or ``cpu-compiler``
where the target's compiler compiled the train step, now (``exact``) or before; else ``analytic``: an estimate from the
shapes. What cannot be known is null with a reason; nothing is invented.

    cost = price(spec, handlers, "kaggle-t4x2")
    cost["memory"]["fits"]
    price(spec, handlers, "kaggle-v5e-8", exact=print)      # runs the compiler; print is called with what takes the time
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.errors import InputInvalid, did_you_mean
from engine.model_config import read_folder
from engine.preflight.analytic import (
    FAMILY_NORMS,
    KNOWN_CONFIGS,
    NEEDED,
    TOKENIZER_VOCABULARY,
    disk_bytes,
    param_count,
    training_bytes,
)
from engine.preflight.exact import ask, cached_answer, compilers_folder, job_for
from engine.preflight.shardings import ask_shardings
from engine.preflight.targets import TARGETS, PlanTarget, machine_memory_bytes
from engine.runspec.model import Spec
from engine.steps import Handler

__all__ = ["TARGETS", "price", "shardings", "target_named"]

TIME_UNKNOWN = "not estimated: the speed of the target has not been measured"
ASSUMES_FULL_ROWS = "every row is full and every token but its first is trained: the most memory a step can take"
ASSUMES = (
    "weights, gradients and statistics are sharded over the devices, each device along fsdp has per_device_batch_size rows, "
    "and layers are recomputed in the backward pass"
)


def target_named(name: str | None) -> PlanTarget:
    """The target; None is this machine. Raises InputInvalid (U116)."""
    if name is None:
        return TARGETS["cpu"]
    if name in TARGETS:
        return TARGETS[name]
    near = did_you_mean(name, TARGETS)
    hint = f'did you mean "{near}"?' if near else f"there are: {', '.join(TARGETS)}"
    raise InputInvalid("U116", f'there is no target "{name}"', hint=hint)


def price(
    spec: Spec,
    handlers: Mapping[str, Handler],
    target: str | None = None,
    *,
    exact: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """``{"memory": …, "time": …, "disk": …}`` of the most expensive training step of the spec.

    Raises InputInvalid U116 for an unknown target, U134 for a mesh that does not match the devices of a named one.
    With ``exact`` the target's compiler compiles the train step, unless its answer is cached; ``exact`` is called with a
    line for the person meanwhile. Without it a cached answer is used, else the estimate.
    """
    machine = target_named(target)
    config, reason = _config(spec)
    declared = [dict(step.args) for step in spec.steps if handlers[step.uses].makes == "checkpoint"]
    known = [args for args in declared if _is_priceable(args)]
    if not known:
        reason = "no step trains a model" if not declared else "the training step is not one of the built-in kind"
    if config is None or not known:
        return {
            "memory": _memory(machine, None, None, reason),
            "time": {"seconds": None, "reason": TIME_UNKNOWN},
            "disk": _disk(spec.root, machine, None, reason),
        }
    if target is not None:
        for args in known:
            _check_mesh(args.get("mesh") or {}, machine)
    terms = max(
        (training_bytes(config, args, machine.devices) for args in known), key=lambda terms: sum(terms.values())
    )
    on_disk = [disk_bytes(config, args) for args in known]
    needed = {name: sum(entry[name] for entry in on_disk) for name in on_disk[0]}
    memory = _memory(machine, terms, param_count(config), None)
    answers = [_answer(spec.root, machine, {"model_type": "gemma", **config}, args, exact) for args in known]
    if all(answers):
        worst = max((answer for answer in answers if answer), key=lambda answer: answer["needed_bytes"])
        memory |= _compiled(worst, memory["limit_bytes_per_device"])
    return {
        "memory": memory,
        "time": {"seconds": None, "reason": TIME_UNKNOWN},
        "disk": _disk(spec.root, machine, needed, None),
    }


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
    machine: PlanTarget,
    config: Mapping[str, Any],
    args: Mapping[str, Any],
    exact: Callable[[str], None] | None,
) -> dict[str, Any] | None:
    """The compiler's report: cached, or made now if ``exact`` is given."""
    try:
        job = job_for(machine.machine, config, args, compilers_folder(root))
    except InputInvalid:  # a training step of another package, with arguments of its own: the estimate still works
        if exact is None:
            return None
        raise
    cached = cached_answer(root, job)
    if cached is not None or exact is None:
        return cached
    exact(f"compiling the train step for {machine.name}: up to a minute or two; the answer is cached")
    return ask(root, job)


def _compiled(report: Mapping[str, Any], limit: int | None) -> dict[str, Any]:
    """What the compiler's report changes in the ``memory`` part."""
    names = ("state_bytes", "argument_bytes", "output_bytes", "alias_bytes", "temp_bytes", "code_bytes")
    fits = report["fits"] if limit is None or report["peak_bytes"] is None else report["peak_bytes"] <= limit
    return {
        "peak_bytes_per_device": report["needed_bytes"],
        "fits": fits,
        "source": report["source"],
        "terms": {name: report[name] for name in names} if report["peak_bytes"] is not None else None,
        "assumes": ASSUMES_FULL_ROWS,
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
        config = _read_config(spec.resolve(model.path))
    else:
        config = KNOWN_CONFIGS.get(model.id)
    if config is None:
        return None, f"the shapes of {model.id} are not known here"
    if config.get("model_type", "gemma") not in FAMILY_NORMS:
        return None, f"the shapes of a {config['model_type']} model are not known here"
    missing = [key for key in NEEDED if not isinstance(config.get(key), int)]
    if missing:
        return None, f"the configuration of {model.id} does not give {', '.join(missing)}"
    return config, None


def _read_config(folder: Path) -> Mapping[str, Any] | None:
    """As the trainer reads it; None where it would refuse it (reading the spec has said so)."""
    try:
        return read_folder(folder).config.to_hf()
    except InputInvalid:
        return None


def _memory(
    machine: PlanTarget, terms: Mapping[str, int] | None, params: int | None, reason: str | None
) -> dict[str, Any]:
    limit = machine.limit_bytes_per_device or machine_memory_bytes()
    peak = sum(terms.values()) if terms is not None else None
    fits = None if peak is None or limit is None else peak <= limit
    row: dict[str, Any] = {
        "target": machine.name,
        "devices": machine.devices,
        "peak_bytes_per_device": peak,
        "limit_bytes_per_device": limit,
        "fits": fits,
        "source": "analytic",
        "params": params,
        "terms": dict(terms) if terms is not None else None,
        "assumes": ASSUMES,
    }
    return row if peak is not None else {**row, "reason": reason}


def _disk(root: Path, machine: PlanTarget, needed: Mapping[str, int] | None, reason: str | None) -> dict[str, Any]:
    limit = machine.disk_bytes
    if limit is None:
        limit = shutil.disk_usage(root).free
    total = sum(needed.values()) if needed is not None else None
    row = {
        "needed_bytes": total,
        "limit_bytes": limit,
        "fits": None if total is None else total <= limit,
        "source": "analytic",
        "terms": dict(needed) if needed is not None else None,
    }
    return row if total is not None else {**row, "reason": reason}
