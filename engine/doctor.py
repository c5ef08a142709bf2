"""What this machine has, what is missing, and what to type: ``runspec doctor``.

Out: a list of :class:`Finding` rows. Nothing here fails: what is absent is a finding. Secrets are
reported as set or not set, never printed. A child process lists the devices: importing JAX in this one
would cost a second and could occupy an accelerator.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from engine import __version__
from engine.canonical import JsonObject
from engine.errors import RunspecError
from engine.extras import EXTRAS, compilers_command, install_command, missing_modules, versions
from engine.kaggle.session.platform import name_of
from engine.kaggle.session.secrets import find_token
from engine.pipeline import git
from engine.preflight.exact import compiler_versions, compilers_folder
from engine.protocol.device_memory import FRACTION, JAX_FRACTION, declared_fraction, machine_memory_bytes
from engine.protocol.hub_token import LABEL, ON_KAGGLE, token_file
from engine.protocol.jobs import ProbeJob
from engine.temporary import working_folder
from engine.trainer_process.host import Host
from engine.trainer_process.process import run_trainer, trainer_environment

PROBE_SECONDS = 60.0
# Tried for real, in this order: that a package is on the path says nothing about whether it can be imported.
IMPORTED = ("jax", "flax.nnx", "optax", "orbax.checkpoint", "safetensors", "tokenizers", "transformers")
TRY_IMPORTS = """
import importlib, json, sys
broken = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        broken[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
print(json.dumps(broken))
"""
LOW_DISK_BYTES = 2 << 30

State = Literal["ok", "missing", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: ``what`` is a stable name, ``says`` a sentence, ``fix`` what to type."""

    what: str
    state: State
    says: str
    fix: str | None = None
    facts: JsonObject = field(default_factory=dict)

    def as_json(self) -> JsonObject:
        """The row of ``--json``."""
        return {"what": self.what, "state": self.state, "says": self.says, "fix": self.fix, **self.facts}


def examine(root: Path, *, devices: bool = True) -> list[Finding]:
    """Every finding, in the order in which they are printed."""
    findings = [_python(), _machine(), _memory(), _disk(root), _git(root), _token()]
    tools = [
        name for name in EXTRAS if name != "train" and not missing_modules(name)
    ]  # those of report_to and sign are optional: only installed ones are listed
    findings += [_extra(name) for name in ("train", *tools)]
    findings += [_gpu_memory(), _compilers(root)]
    if devices and not missing_modules("train"):
        findings += [_imports(), _devices()]
    return findings


def _python() -> Finding:
    says = f"runspec {__version__} on Python {platform.python_version()} ({sys.executable})"
    return Finding("python", "ok", says, facts={"runspec": __version__, "python": platform.python_version()})


def _machine() -> Finding:
    cores = _usable_cores()
    says = f"{platform.system()} {platform.machine()}, {cores} core{'s' * (cores != 1)}"
    return Finding("machine", "ok", says, facts={"cores": cores})


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # a container or taskset may give us fewer than the machine has
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> Finding:
    total = machine_memory_bytes()
    if total is None:
        return Finding(
            "memory", "warning", "the size of the memory cannot be read on this system", facts={"bytes": None}
        )
    return Finding("memory", "ok", f"{total / (1 << 30):.1f} GiB of memory", facts={"bytes": total})


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    says = f"{free / (1 << 30):.1f} GiB free at {root}"
    if free < LOW_DISK_BYTES:
        return Finding("disk", "warning", says, "free some disk space before training", {"free_bytes": free})
    return Finding("disk", "ok", says, facts={"free_bytes": free})


def _git(root: Path) -> Finding:
    """Whether the evidence of a run here can name a commit."""
    try:
        commit = git.commit_of(root)
    except git.NoAnswer as error:
        if error.reason == git.NOT_INSTALLED:
            return Finding("git", "missing", "git is not installed: the evidence cannot name a commit", error.cure)
        if error.reason == git.NOT_A_CHECKOUT:
            return Finding(
                "git", "ok", "git is installed; this project is not a checkout, so evidence will name no commit"
            )
        return Finding("git", "warning", f"the evidence cannot name a commit: {error.reason}", error.cure)
    return Finding("git", "ok", f"git is installed; this checkout is at commit {commit[:12]}")


def _token() -> Finding:
    """Whether a run will find the hub's token: in the environment, in the file of ``hf auth login``, on Kaggle as a secret."""
    if os.environ.get(LABEL, "").strip():
        return Finding("hf_token", "ok", "HF_TOKEN is set (its value is never printed)")
    if token_file(os.environ).is_file():
        return Finding("hf_token", "ok", "HF_TOKEN is not set; the token saved by hf auth login is used")
    if name_of(os.environ) == "kaggle":
        return _kaggle_token()
    return Finding("hf_token", "warning", "HF_TOKEN is not set: gated models such as google/gemma-2b need it",
                   f"export HF_TOKEN=…   ({ON_KAGGLE}; quickstart works without)")  # fmt: skip


def _kaggle_token() -> Finding:
    """What Kaggle's secret service answers; each of its failures says what to do."""
    problem = find_token(os.environ, in_kernel=False).problem
    if problem is None:
        return Finding(
            "hf_token", "ok", "HF_TOKEN is a secret of Kaggle's, attached to this notebook (its value is never printed)"
        )
    return Finding("hf_token", "warning", problem.message, problem.hint, {"code": problem.code})


def _extra(name: str) -> Finding:
    installed = versions(name)
    missing = missing_modules(name)
    facts = {"versions": installed}
    if missing:
        says = f'extra "{name}" is not installed (missing: {", ".join(missing)})'
        return Finding(f"extra.{name}", "missing", says, install_command(name), facts)
    listed = ", ".join(f"{distribution} {version}" for distribution, version in installed.items())
    return Finding(f"extra.{name}", "ok", f'extra "{name}": {listed}', facts=facts)


def _gpu_memory() -> Finding:
    """The share of a GPU's memory that a run takes where its run-spec does not say."""
    declared = declared_fraction(os.environ)
    facts: JsonObject = {"fraction": FRACTION, "jax_fraction": JAX_FRACTION, "variable": None}
    if declared is None:
        says = f"a run takes {FRACTION:.0%} of a GPU's memory (JAX alone would take {JAX_FRACTION:.0%})"
        return Finding(
            "gpu_memory", "ok", f"{says}; allocator: {{fraction: …}} in the run-spec changes it", facts=facts
        )
    name, value = declared
    says = (
        f"{name} is {value}: a run whose run-spec has no allocator takes that share of a GPU's memory, not {FRACTION}"
    )
    fix = f"unset {name}, or write allocator: {{fraction: {value}}} so that plan counts with it"
    return Finding("gpu_memory", "warning", says, fix, facts | {"variable": name})


def _compilers(root: Path) -> Finding:
    """The compilers with which `plan --exact` estimates memory for other machines."""
    folder = compilers_folder(root)
    names = compiler_versions(folder)
    if not names:
        says = "no compilers for TPUs and GPUs: plan --exact works for this machine's CPU only"
        return Finding("compilers", "missing", says, f"{compilers_command(root)}   (1.3 GB; training works without)")
    return Finding("compilers", "ok", f"compilers in {folder}: {', '.join(names)}", facts={"versions": names})


def _imports() -> Finding:
    """Whether the libraries of training can be imported: releases of flax and jax fit each other only in pairs."""
    try:
        broken = _failing_imports()
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return Finding("imports", "warning", f"the libraries cannot be tried ({type(error).__name__})")
    if not broken:
        return Finding("imports", "ok", f"importable: {', '.join(IMPORTED)}", facts={"failing": {}})
    says = "; ".join(f"{name} cannot be imported ({reason})" for name, reason in broken.items())
    return Finding("imports", "missing", says, f"{install_command('train')} --upgrade", {"failing": broken})


def _failing_imports() -> dict[str, str]:
    """Library -> its error, tried in a child: importing them here would take seconds and could occupy an accelerator."""
    environment = {**trainer_environment(), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", TRY_IMPORTS, *IMPORTED],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        timeout=PROBE_SECONDS, check=True,
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _devices() -> Finding:
    """Run the trainer's probe; its answer or its failure is one row."""
    try:
        devices = _probe()
    except (OSError, RunspecError) as error:
        return Finding("devices", "warning", f"the devices cannot be listed ({_reason(error)})",
                       "python -m engine.trainer probe JOB.json shows why")  # fmt: skip
    names = [str(name) for name in devices["devices"]]
    says = f"{devices['platform']}: {', '.join(names) or 'none'} ({devices['device_kind']})"
    return Finding("devices", "ok", says, facts={"platform": devices["platform"], "devices": names})


def _probe() -> JsonObject:
    """The trainer's report of the devices. Raises RunspecError where it fails or takes too long."""
    until = time.monotonic() + PROBE_SECONDS
    with working_folder("runspec-probe-") as folder:
        host = Host(folder, folder, stopping=lambda: time.monotonic() > until, grace_seconds=1.0)
        return dict(run_trainer(ProbeJob("auto"), host))


def _reason(error: Exception) -> str:
    return error.diagnostics[0].code if isinstance(error, RunspecError) else type(error).__name__
