"""The exact price of a train step, from the target's own compiler in a child process; its answers are cached.

    job = job_for(target.machine, config, args, compilers_folder(root))
    cached_answer(root, job)            # the report of engine.trainer.cost.price, or None: costs a millisecond
    ask(root, job)                      # compiles (seconds to a minute) and caches the answer

The cache key is everything that can change an answer: the model's configuration, the arguments, the machine, the
trainer's code, and the versions of the libraries and of the compiler. No JAX here: only the child imports it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.canonical import digest_json, digest_tree, pretty_json, sealed, unsealed, write_atomic
from engine.protocol.device_memory import Allocator, machine_memory_bytes, run_bytes
from engine.protocol.jobs import PriceJob, job_json, train_args
from engine.protocol.machines import MACHINES, Machine
from engine.protocol.train_args import names_affecting
from engine.steps import installed_version
from engine.temporary import working_folder
from engine.trainer_process.host import Host
from engine.trainer_process.process import run_trainer

VARIABLE, FOLDER = "RUNSPEC_COMPILERS", ".compilers"
SEAL = "answer_sha256"
LIBRARIES = ("jax", "jaxlib", "flax", "optax")


def compilers_folder(root: Path) -> Path | None:
    """The folder of plug-ins that the environment names, or the project's own; None without either."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).absolute()
    own = root / FOLDER
    return own if own.is_dir() else None


def job_for(
    machine: str,
    config: Mapping[str, Any],
    args: Mapping[str, Any],
    compilers: Path | None,
    allocator: Allocator | None = None,
) -> PriceJob:
    """The job of pricing on a machine of engine.protocol.machines, of whose memory ``allocator`` takes its share."""
    folder = None if compilers is None else str(compilers)
    limit = limit_bytes(MACHINES[machine], allocator) if machine in MACHINES else None  # the trainer names it in T150
    return PriceJob(machine, dict(config), train_args(args), limit_bytes=limit, compilers=folder)


def limit_bytes(machine: Machine, allocator: Allocator | None) -> int | None:
    """What a run may take of one device; None where this machine's own memory is not known."""
    whole = device_bytes(machine)
    return None if whole is None else run_bytes(whole, machine.platform, allocator)


def device_bytes(machine: Machine) -> int | None:
    """The memory of one device: the machine's, or this computer's."""
    return machine_memory_bytes() if machine.device_bytes is None else machine.device_bytes


def cached_answer(root: Path, job: PriceJob) -> dict[str, Any] | None:
    """What the compiler answered for this very job before, or None."""
    try:
        return unsealed(_cache_path(root, job).read_bytes(), SEAL)
    except OSError:  # never compiled, or not readable: it can be compiled again, as it can where it is damaged
        return None


def ask(root: Path, job: PriceJob) -> dict[str, Any]:
    """Compile in a child process and cache the answer. Raises what the child reports (T150, T151, T115, M codes)."""
    with working_folder("runspec-price-") as work:
        report = dict(run_trainer(job, Host(work, root)))
    with suppress(OSError):  # read-only, full: it is compiled again next time
        write_atomic(_cache_path(root, job), pretty_json(sealed(report, SEAL)))
    return report


def _cache_path(root: Path, job: PriceJob) -> Path:
    return root / ".runspec" / "cache" / "price" / f"{_key(job)}.json"


def _key(job: PriceJob) -> str:
    parts = [Path(__file__).resolve().parents[1] / part for part in ("trainer", "model_config")]
    code = [{name: digest for name, digest in digest_tree(part).items() if name.endswith(".py")} for part in parts]
    values = job_json(job)
    args = {name: values["args"][name] for name in names_affecting("program")}
    others = {name: value for name, value in values.items() if name not in ("args", "compilers")}
    folder = None if job.compilers is None else Path(job.compilers)
    versions = {name: installed_version(name) for name in LIBRARIES}
    return digest_json([others, args, code, versions, compiler_versions(folder)])


def compiler_versions(folder: Path | None) -> list[str]:
    """``libtpu-0.0.42.1`` and the like: what pip wrote down beside the plug-ins."""
    if folder is None:
        return []
    return sorted(path.name.removesuffix(".dist-info") for path in folder.glob("*.dist-info"))
