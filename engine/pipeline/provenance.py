"""Facts about the machine and the checkout that somebody else needs to judge a run: gathered once, when it starts.

Out: the ``environment`` of the run record: engine, python, platform, libraries, commit_sha,
commit_dirty, diff_sha256, kaggle. Never the environment variables themselves: some hold secrets.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import engine
from engine.canonical import digest_file
from engine.steps import installed_version

CORE_LIBRARIES = ("ruamel.yaml", "jsonschema", "jinja2", "structlog")
GIT_SECONDS = 30


def environment(root: Path, libraries: Iterable[str], generated: Sequence[str]) -> dict[str, Any]:
    """The facts. ``generated`` are project paths that runs write: changes in them do not make a checkout dirty."""
    names = sorted({*CORE_LIBRARIES, *libraries})
    return {
        "engine": engine.__version__,
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
        "libraries": {name: installed_version(name) for name in names},
        **commit_facts(root, generated),
        "kaggle": kaggle_facts(),
    }


def commit_facts(root: Path, generated: Sequence[str]) -> dict[str, Any]:
    """commit_sha, commit_dirty and diff_sha256; all None where the project is not a git checkout."""
    nothing = {"commit_sha": None, "commit_dirty": None, "diff_sha256": None}
    sha = _git(root, "rev-parse", "--verify", "HEAD")
    if sha is None:
        return nothing
    # Relative to the repository's top, where the project may be a folder below it.
    scope = ["--", ".", *(f":(exclude){path}" for path in (".runspec", *generated))]
    diff = _git(root, "diff", "--binary", "HEAD", *scope) or ""
    untracked = (_git(root, "ls-files", "--others", "--exclude-standard", "-z", *scope) or "").split("\0")
    hasher = hashlib.sha256(diff.encode(errors="surrogateescape"))
    for name in sorted(filter(None, untracked)):
        hasher.update(f"\0{name}\0{digest_file(root / name)}".encode(errors="surrogateescape"))
    dirty = bool(diff) or any(untracked)
    return {
        "commit_sha": sha.strip(),
        "commit_dirty": dirty,
        "diff_sha256": hasher.hexdigest() if dirty else None,
    }


def kaggle_facts() -> dict[str, Any] | None:
    """What Kaggle's kernel and our notebook report of themselves; None elsewhere.

    A kernel cannot learn its own address or version: the pushed notebook sets them as
    RUNSPEC_KAGGLE_NOTEBOOK_URL, RUNSPEC_KAGGLE_NOTEBOOK_VERSION and RUNSPEC_KAGGLE_RUN_ID.
    """
    run_type = os.environ.get("KAGGLE_KERNEL_RUN_TYPE")
    if not run_type:
        return None
    return {
        "run_type": run_type,
        "notebook_url": os.environ.get("RUNSPEC_KAGGLE_NOTEBOOK_URL"),
        "notebook_version": os.environ.get("RUNSPEC_KAGGLE_NOTEBOOK_VERSION"),
        "run_id": os.environ.get("RUNSPEC_KAGGLE_RUN_ID"),
    }


def _git(root: Path, *arguments: str) -> str | None:
    """Standard output of a git command, or None where git or the checkout is absent."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, timeout=GIT_SECONDS, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="surrogateescape") if done.returncode == 0 else None
