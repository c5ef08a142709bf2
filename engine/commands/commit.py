"""The git commands that commit the evidence: printed at the end of a run, or executed with ``--commit``.

Only the evidence folder is committed, whatever else is staged or changed, and only into the repository that the project is in,
whatever a hook's environment says. The commit is then compared with the evidence: a clone of it verifies, or the command says
why not. The zip is not committed: it can be made from the folder again.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import InputInvalid, RunFailed, listed
from engine.evidence import evidence_names, names_to_come
from engine.pipeline import git
from engine.pipeline.git_storage import (
    answer,
    attribute_line,
    blobs,
    changed_elsewhere,
    committed_blobs,
    ignored,
    stored_otherwise,
)

if TYPE_CHECKING:
    from engine.runspec.model import Spec


def _message(spec: Spec) -> str:
    return f"Add evidence of run {spec.run_version}"


def git_commands(spec: Spec) -> list[str]:
    """What a person types, from the project folder. ``-f`` only where git would leave a file of the evidence out without a word."""
    folder = f"{spec.evidence.dir}/"
    return [
        shlex.join(["git", "add", *["-f"] * _leaves_out(spec), "--", folder]),
        shlex.join(["git", "commit", "-m", _message(spec), "--", folder]),
    ]


def check_commit(spec: Spec) -> None:
    """Before the first step: what would refuse the commit of the evidence after the last one. Raises U121, U122, U123, U125."""
    uses = [step.uses for step in spec.steps]
    names = [f"{spec.evidence.dir}/{name}" for name in names_to_come(spec.evidence.files, uses)]
    try:
        _require_checkout(spec.root)
        _refuse_ignored(spec, names)
    except git.NoAnswer as error:
        raise RunFailed("U125", f"--commit: {error.reason}", hint=error.cure) from None


def commit_evidence(spec: Spec) -> str:
    """Commit the evidence folder and nothing else; returns the SHA of the commit that has it.

    A run that was killed after its commit, and one that changed nothing, find it committed: that commit is the answer.
    Raises InputInvalid: U121 no git, U122 no checkout, U123 ignored, X313 stored otherwise; RunFailed U125
    where git (a hook, a missing identity) refuses, U126 where the commit is not the evidence.
    """
    root, folder = spec.root, spec.evidence.dir
    exactly = ("--", f":(literal){folder}")  # `v[1]` is a name, not a pattern
    names = _files_of(root, folder)
    try:
        _require_checkout(root)
        _refuse_ignored(spec, names)
        _refuse_other_bytes(root, folder, names)
        before, present = blobs(root, names), _everything_in(root, folder)
        # Of a folder that a rule ignores, `git add` takes nothing, not even what is tracked by now (see _refuse_ignored).
        is_ignored = git.run(root, "check-ignore", "-q", "--no-index", "--", f"./{folder}").returncode == 0
        answer(git.run(root, "add", *["-u"] * is_ignored, *exactly), "git add")
        # 0: what is staged equals HEAD. 1: it differs. 128: there is no HEAD yet, so this is the first commit.
        staged = git.run(root, "diff", "--cached", "--quiet", "--no-ext-diff", "HEAD", *exactly)
        if staged.returncode == 0:
            sha = git.ask(root, "rev-list", "-1", "HEAD", *exactly).decode().strip()
            _require_evidence(spec, sha, before, present, is_new=False)
            return sha
        answer(git.run(root, "commit", "-m", _message(spec), *exactly), "git commit")
        sha = git.commit_of(root)
        _require_evidence(spec, sha, before, present, changed_elsewhere(root, sha, folder))
        return sha
    except git.NoAnswer as error:
        hint = "\n".join(filter(None, ["the evidence is complete and unchanged", error.cure]))
        raise RunFailed("U125", f"--commit: {error.reason}", hint=hint) from None


def _files_of(root: Path, folder: str) -> list[str]:
    """The files of the evidence, by their path in the project; what else a person has put there is left to git's own rules."""
    present = sorted(path.name for path in (root / folder).iterdir() if path.is_file())
    evidence = evidence_names(root / folder) or present
    return [f"{folder}/{name}" for name in present if name in evidence]


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


def _leaves_out(spec: Spec) -> bool:
    """Whether `git add` would leave out files of the evidence; False where git cannot say."""
    try:
        return bool(ignored(spec.root, _files_of(spec.root, spec.evidence.dir)))
    except git.NoAnswer:
        return False


def _refuse_ignored(spec: Spec, names: Sequence[str]) -> None:
    """U123: evidence without a file of it does not verify, so that nothing is committed rather than a part."""
    left_out = ignored(spec.root, names)
    if not left_out:
        return
    folder = spec.evidence.dir
    what = f"{folder}/" if len(left_out) == len(names) else listed([*left_out])
    rules = listed([*dict.fromkeys(left_out.values())])
    raise InputInvalid(
        "U123",
        f"--commit: git ignores {what}",
        hint=f"evidence is meant to be committed, all of it; take out the rule that ignores it: {rules}\n"
        f"or leave the rule and, once the evidence is there, add it in spite of it: {shlex.join(['git', 'add', '-f', '--', f'{folder}/'])}",
    )


def _refuse_other_bytes(root: Path, folder: str, names: Sequence[str]) -> None:
    """X313: git would store other bytes than the evidence has (core.autocrlf, an attribute), so that no clone could verify it."""
    changed = stored_otherwise(root, names)
    if not changed:
        return
    line, file = attribute_line(root, folder, [*changed.values()])
    some = listed([*changed])
    reasons = [f"{name}={value}" for attributes in changed.values() for name, value in attributes.items()]
    what = f"store other bytes than those of {some} ({', '.join(dict.fromkeys(reasons))} in its attributes)"
    raise InputInvalid(
        "X313",
        f"--commit: git would {what if reasons else f'change the line ends of {some}'}",
        hint=f"write `{line}` into {file}, as its last line, then add and commit it",
    )


def _everything_in(root: Path, folder: str) -> frozenset[str]:
    return frozenset(path.relative_to(root).as_posix() for path in (root / folder).rglob("*"))


def _require_evidence(
    spec: Spec,
    sha: str,
    before: Mapping[str, str],
    present: Collection[str],
    elsewhere: Sequence[str] = (),
    *,
    is_new: bool = True,
) -> None:
    """U126: the commit is not the evidence that was verified, or has more. A hook can add and rewrite files while git commits.

    ``before`` and ``present``: the evidence's bytes, and every name in the folder, before git was told to commit.
    """
    committed = committed_blobs(spec.root, sha, spec.evidence.dir)
    found = {
        "other bytes": [name for name, blob in before.items() if committed.get(name, blob) != blob],
        "missing": [name for name in before if name not in committed],
        "added": [*(name for name in committed if name not in present), *elsewhere],
    }
    if not any(found.values()):
        return
    parts = [f"{what}: {listed(names)}" for what, names in found.items() if names]
    hint = (
        _hook_hint(spec, sha)
        if is_new
        else (
            "git was told to overlook changes in these files (`git ls-files -v` marks them): "
            f"git update-index --no-assume-unchanged --no-skip-worktree {shlex.join(before)}, then run the same command again"
        )
    )
    raise RunFailed(
        "U126",
        f"--commit: commit {sha[:12]} is not the evidence and nothing else ({'; '.join(parts)})",
        hint=hint,
    )


def _hook_hint(spec: Spec, sha: str) -> str:
    back = "git reset --soft HEAD~1" if git.has_parent(spec.root, sha) else "git update-ref -d HEAD"
    return (
        "a hook of this repository (.git/hooks, core.hooksPath) changes what is committed: let it leave "
        f"{spec.evidence.dir}/ alone and add nothing\n"
        f"take this commit back with `{back}`, then run the same command again: it writes the evidence anew"
    )
