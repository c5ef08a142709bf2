"""The git commands that commit the evidence: printed at the end of a run, or executed with ``--commit``.

Only the evidence folder is committed, whatever else is staged or changed, and only into the repository that the project is in,
whatever a hook's environment says. The zip is not: it can be made from the folder again.
"""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InputInvalid, RunFailed
from engine.pipeline import git

if TYPE_CHECKING:
    from engine.runspec.model import Spec


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
    """Commit the evidence folder and nothing else; returns the SHA of the commit that has it.

    A run that was killed after its commit, and one that changed nothing, find it committed: that commit is the answer.
    Raises InputInvalid: U121 no git, U122 no checkout, U123 ignored; RunFailed U125
    where git (a hook, a missing identity) refuses.
    """
    root, folder = spec.root, spec.evidence.dir
    exactly = ("--", f":(literal){folder}")  # `v[1]` is a name, not a pattern
    try:
        _require_checkout(root)
        if git.run(root, "check-ignore", "-q", "--", folder).returncode == 0:
            raise InputInvalid("U123", f"--commit: git ignores {folder}/",
                               hint="remove it from .gitignore: evidence is meant to be committed")  # fmt: skip
        _refuse_other_bytes(root, folder)
        _require(git.run(root, "add", *exactly), "git add")
        # 0: what is staged equals HEAD. 1: it differs. 128: there is no HEAD yet, so this is the first commit.
        staged = git.run(root, "diff", "--cached", "--quiet", "--no-ext-diff", "HEAD", *exactly)
        if staged.returncode == 0:
            return git.ask(root, "rev-list", "-1", "HEAD", *exactly).decode().strip()
        _require(git.run(root, "commit", "-m", _message(spec), *exactly), "git commit")
        return git.commit_of(root)
    except git.NoAnswer as error:
        raise RunFailed("U125", f"--commit: {error.reason}", hint=error.cure) from None


def _require_checkout(root: Path) -> None:
    """Raises U121, U122, or NoAnswer for what else keeps git from using this checkout."""
    try:
        git.ask(root, "rev-parse", "--show-prefix")
    except git.NoAnswer as error:
        if error.reason == git.NOT_INSTALLED:
            raise InputInvalid("U121", "--commit: git is not installed here") from None
        if error.reason == git.NOT_A_CHECKOUT:
            raise InputInvalid("U122", "--commit: this project is not a git checkout",
                               hint="git init, or run without --commit") from None  # fmt: skip
        raise


def _refuse_other_bytes(root: Path, folder: str) -> None:
    """X313: git would store other bytes than the evidence has (core.autocrlf, an attribute), so that no clone could verify it."""
    names = sorted(f"{folder}/{path.name}" for path in (root / folder).iterdir() if path.is_file())
    as_stored, as_written = (
        _require(git.run(root, "hash-object", *options, "--", *names), "git hash-object").split()
        for options in ((), ("--no-filters",))
    )
    changed = [name for name, *blobs in zip(names, as_stored, as_written, strict=True) if len(set(blobs)) > 1]
    if changed:
        raise InputInvalid("X313", f"--commit: git would change the line ends of {', '.join(changed[:3])}",
                           hint=f"write `/{folder.split('/', maxsplit=1)[0]}/** -text` into .gitattributes, then add and commit it")  # fmt: skip


def _require(done: subprocess.CompletedProcess[bytes], what: str) -> bytes:
    """Its standard output. Raises U125 where it failed."""
    if done.returncode != 0:
        output = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace")[-2000:]
        raise RunFailed("U125", f"{what} refused (exit status {done.returncode})",
                        hint=f"the evidence is complete and unchanged; the output of git:\n{output}")  # fmt: skip
    return done.stdout
