"""Facts about the machine and the checkout that somebody else needs to judge a run: gathered once, when it starts.

Out: the ``environment`` of the run record: engine, engine_files, python, platform, processor, libraries, commit_sha,
commit_dirty, diff_sha256 (with commit_unknown where git could not say), kaggle. Never the environment variables themselves:
some hold secrets.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import engine
from engine.pipeline.checkout import read_checkout
from engine.pipeline.engine_files import engine_files
from engine.pipeline.git import NOT_A_CHECKOUT
from engine.steps import installed_version

CPUINFO = Path("/proc/cpuinfo")
VECTORS = ("amx_bf16", "avx512f", "avx2", "avx", "sve", "asimd")  # widest first: XLA compiles for what is there
CORE_LIBRARIES = ("ruamel.yaml", "jsonschema", "jinja2", "structlog")


def environment(
    root: Path, libraries: Iterable[str], generated: Sequence[str], note: Callable[[str], None]
) -> dict[str, Any]:
    """The facts. ``generated`` are project paths that runs write: changes in them do not make a checkout dirty.

    ``note`` hears what git could not say, and the cure: it is too late for it once the evidence is written.
    """
    checkout = read_checkout(root, generated)
    if checkout.unknown and checkout.unknown != NOT_A_CHECKOUT:
        what = "whether files were changed since the commit" if checkout.commit else "the commit"
        cure = f"\nthe cure: {checkout.cure}" if checkout.cure else ""
        note(f"warning: the evidence will call {what} unknown: {checkout.unknown}{cure}")
    names = sorted({*CORE_LIBRARIES, *libraries})
    return {
        "engine": engine.__version__,
        "engine_files": engine_files(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        **machine_facts(),
        "libraries": {name: installed_version(name) for name in names},
        **checkout.facts(),
        "kaggle": kaggle_facts(),
    }


def machine_facts() -> dict[str, Any]:
    """System and processor: on a CPU they decide how a sum is rounded."""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
    }


def _processor() -> str | None:
    """The processor's name and the widest vectors that it has; None where the system does not say."""
    with contextlib.suppress(OSError):
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
        values = dict(re.findall(r"^(model name|CPU part|flags|Features)\s*:\s*(.*)$", text, re.MULTILINE))
        name = values.get("model name") or values.get("CPU part")
        flags = (values.get("flags") or values.get("Features") or "").split()
        vectors = next((flag for flag in VECTORS if flag in flags), None)
        if name:
            return f"{name} ({vectors})" if vectors else name
    return platform.processor() or None


def kaggle_facts() -> dict[str, Any] | None:
    """What a Kaggle kernel can say of itself; None elsewhere.

    It cannot learn its own address or version: `runspec kaggle fetch` names them afterwards (engine.evidence.completed), or a person
    sets them in the notebook before the run, as RUNSPEC_KAGGLE_NOTEBOOK_URL, RUNSPEC_KAGGLE_NOTEBOOK_VERSION and
    RUNSPEC_KAGGLE_RUN_ID. ``nonce``: a number that was drawn before the run, by whoever started it (RUNSPEC_KAGGLE_NONCE).
    """
    run_type = os.environ.get("KAGGLE_KERNEL_RUN_TYPE")
    if not run_type:
        return None
    return {
        "run_type": run_type,
        "nonce": os.environ.get("RUNSPEC_KAGGLE_NONCE") or None,
        "notebook_url": os.environ.get("RUNSPEC_KAGGLE_NOTEBOOK_URL") or None,
        "notebook_version": os.environ.get("RUNSPEC_KAGGLE_NOTEBOOK_VERSION") or None,
        "run_id": os.environ.get("RUNSPEC_KAGGLE_RUN_ID") or None,
    }
