"""What this machine has, what is missing, and what to type: ``runspec doctor``.

Comes out as a list of :class:`Finding` rows. Nothing here fails: an absent thing is a finding. Secrets are
reported as set or not set, never shown. Devices are asked for in a child process: importing JAX in this one
would cost a second and might take hold of an accelerator.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine import __version__
from engine.errors import RunspecError
from engine.extras import EXTRAS, install_words, missing_modules, versions
from engine.preflight.exact import compiler_versions, compilers_folder
from engine.preflight.targets import machine_memory_bytes
from engine.protocol.jobs import ProbeJob
from engine.trainer_process.process import Host, run_trainer

PROBE_SECONDS = 60.0
LOW_DISK_BYTES = 2 << 30

State = Literal["ok", "missing", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One row: ``what`` is a stable name, ``says`` a sentence, ``fix`` what to type."""

    what: str
    state: State
    says: str
    fix: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The row of ``--json``."""
        return {"what": self.what, "state": self.state, "says": self.says, "fix": self.fix, **self.facts}


def examine(root: Path, *, devices: bool = True) -> list[Finding]:
    """Every finding, in the order in which they are shown."""
    found = [_python(), _machine(), _memory(), _disk(root), _git(), _token()]
    tools = [
        name for name in EXTRAS if name != "train" and not missing_modules(name)
    ]  # of report_to: nobody needs them
    found += [_extra(name) for name in ("train", *tools)]
    found.append(_compilers(root))
    if devices and not missing_modules("train"):
        found.append(_devices())
    return found


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
        return Finding("memory", "warning", "the size of the memory cannot be read here", facts={"bytes": None})
    return Finding("memory", "ok", f"{total / (1 << 30):.1f} GiB of memory", facts={"bytes": total})


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free
    says = f"{free / (1 << 30):.1f} GiB free at {root}"
    if free < LOW_DISK_BYTES:
        return Finding("disk", "warning", says, "free some room before training", {"free_bytes": free})
    return Finding("disk", "ok", says, facts={"free_bytes": free})


def _git() -> Finding:
    if shutil.which("git") is None:
        return Finding("git", "missing", "git is not installed: the evidence cannot name a commit",
                       "install git")  # fmt: skip
    return Finding("git", "ok", "git is installed")


def _token() -> Finding:
    """Whether the hub's client will find a token: in the environment, or where ``hf auth login`` keeps it."""
    if os.environ.get("HF_TOKEN", "").strip():
        return Finding("hf_token", "ok", "HF_TOKEN is set (its value is never shown)")
    if _token_file().is_file():
        return Finding("hf_token", "ok", "HF_TOKEN is not set; the token that hf auth login has kept serves")
    return Finding("hf_token", "warning", "HF_TOKEN is not set: gated models such as google/gemma-2b need it",
                   "export HF_TOKEN=…   (on Kaggle: a secret named HF_TOKEN; quickstart works without)")  # fmt: skip


def _token_file() -> Path:
    """Where huggingface_hub looks: its documented variables, in its order."""
    if named := os.environ.get("HF_TOKEN_PATH"):
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{cache}/huggingface").expanduser() / "token"


def _extra(name: str) -> Finding:
    found = versions(name)
    missing = missing_modules(name)
    facts = {"versions": found}
    if missing:
        says = f'extra "{name}" is not installed (missing: {", ".join(missing)})'
        return Finding(f"extra.{name}", "missing", says, install_words(name), facts)
    listed = ", ".join(f"{distribution} {version}" for distribution, version in found.items())
    return Finding(f"extra.{name}", "ok", f'extra "{name}": {listed}', facts=facts)


def _compilers(root: Path) -> Finding:
    """The plug-ins with which `plan --exact` prices a run for machines that are not here."""
    folder = compilers_folder(root)
    names = compiler_versions(folder)
    if not names:
        says = "no compilers of TPUs and GPUs: plan --exact answers for this machine's CPU only"
        return Finding("compilers", "missing", says, "make compilers   (1.3 GB; training works without)")
    return Finding("compilers", "ok", f"compilers in {folder}: {', '.join(names)}", facts={"versions": names})


def _devices() -> Finding:
    """Ask the trainer's probe; whatever it says or fails to say is one row."""
    try:
        found = _probe()
    except (OSError, RunspecError) as error:
        return Finding("devices", "warning", f"the devices cannot be asked for ({_why(error)})",
                       "python -m engine.trainer probe JOB.json shows why")  # fmt: skip
    names = [str(name) for name in found["devices"]]
    says = f"{found['platform']}: {', '.join(names) or 'none'} ({found['device_kind']})"
    return Finding("devices", "ok", says, facts={"platform": found["platform"], "devices": names})


def _probe() -> Mapping[str, Any]:
    """What the trainer says of the devices. Raises RunspecError where it fails or takes too long."""
    until = time.monotonic() + PROBE_SECONDS
    with tempfile.TemporaryDirectory(prefix="runspec-probe-") as folder:
        host = Host(Path(folder), Path.cwd(), stopping=lambda: time.monotonic() > until, grace_seconds=1.0)
        return run_trainer(ProbeJob("auto"), host)


def _why(error: Exception) -> str:
    return error.diagnostics[0].code if isinstance(error, RunspecError) else type(error).__name__
