"""The git commands that commit the evidence: printed at the end of a run, or executed with ``--commit``.

Only the evidence folder is committed, whatever else is staged or changed. The zip is not: it can be
made from the folder again.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InputInvalid, RunFailed

if TYPE_CHECKING:
    from engine.runspec.model import Spec

GIT_SECONDS = 300  # a commit hook may run a test suite


def _message(spec: Spec) -> str:
    return f"Add evidence of run {spec.run_version}"


def git_commands(spec: Spec) -> list[str]:
    """What a person types, from the project folder."""
    folder = f"{spec.evidence.dir}/"
    return [
        shlex.join(["git", "add", "--", folder]),
        shlex.join(["git", "commit", "-m", _message(spec), "--", folder]),
    ]


def commit_evidence(spec: Spec) -> str:
    """Commit the evidence folder and nothing else; returns the new commit's SHA.

    Raises InputInvalid: U121 no git, U122 no checkout, U123 ignored, U124 nothing to commit; RunFailed U125
    where git (a hook, a missing identity) refuses.
    """
    root, folder = spec.root, spec.evidence.dir
    if _git(root, "rev-parse", "--is-inside-work-tree").returncode != 0:
        raise InputInvalid("U122", "--commit: this project is not a git checkout",
                           hint="git init, or run without --commit")  # fmt: skip
    if _git(root, "check-ignore", "-q", "--", folder).returncode == 0:
        raise InputInvalid("U123", f"--commit: git ignores {folder}/",
                           hint="remove it from .gitignore: evidence is meant to be committed")  # fmt: skip
    _require(_git(root, "add", "--", folder), "git add")
    # 0: what is staged equals HEAD. 1: it differs. 128: there is no HEAD yet, so this is the first commit.
    if _git(root, "diff", "--cached", "--quiet", "HEAD", "--", folder).returncode == 0:
        raise InputInvalid("U124", f"--commit: nothing to commit: {folder}/ is committed already")
    _require(_git(root, "commit", "-m", _message(spec), "--", folder), "git commit")
    return _git(root, "rev-parse", "HEAD").stdout.strip()


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["git", *arguments], cwd=root, check=False, capture_output=True, text=True, errors="replace",
            timeout=GIT_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError:
        raise InputInvalid("U121", "--commit: git is not installed here") from None
    except subprocess.TimeoutExpired:
        raise RunFailed("U125", f"git {arguments[0]} took longer than {GIT_SECONDS} s",
                        hint="is a hook waiting for input?") from None  # fmt: skip


def _require(done: subprocess.CompletedProcess[str], what: str) -> None:
    if done.returncode != 0:
        output = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise RunFailed("U125", f"{what} refused (exit status {done.returncode})",
                        hint=f"the evidence is complete and unchanged; the output of git:\n{output}")  # fmt: skip
