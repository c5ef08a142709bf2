"""--commit commits the evidence folder, that alone, and explains every refusal."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.commands.commit import commit_evidence, git_commands
from engine.errors import InputInvalid, RunFailed


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def spec(tmp_path: Path) -> SimpleNamespace:
    folder = tmp_path / "submission_runs" / "v1"
    folder.mkdir(parents=True)
    (folder / "run_manifest.json").write_text("{}\n")
    return SimpleNamespace(root=tmp_path, run_version="v1", evidence=SimpleNamespace(dir="submission_runs/v1"))


@pytest.fixture
def checkout(spec: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Path:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "A Person")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "person@example.org")
    _git(spec.root, "init", "-q")
    return spec.root


def _refused(spec: SimpleNamespace, kind: type[Exception]) -> object:
    with pytest.raises(kind) as caught:
        commit_evidence(spec)
    return caught.value.diagnostics[0]


@pytest.mark.parametrize("has_a_commit", [False, True])
def test_only_the_evidence_is_committed(spec, checkout, has_a_commit):
    """Other files, staged or not, stay as they were; the first commit of a repository works too."""
    if has_a_commit:
        (checkout / "first").write_text("1")
        _git(checkout, "add", "first")
        _git(checkout, "commit", "-qm", "first")
    (checkout / "staged").write_text("1")
    _git(checkout, "add", "staged")
    (checkout / "loose").write_text("1")
    sha = commit_evidence(spec)
    assert sha == _git(checkout, "rev-parse", "HEAD").strip()
    assert _git(checkout, "show", "--name-only", "--format=%s", "HEAD").split("\n\n") == [
        "Add evidence of run v1", "submission_runs/v1/run_manifest.json\n",
    ]  # fmt: skip
    assert _git(checkout, "status", "--short").splitlines() == ["A  staged", "?? loose"]


def test_the_printed_commands_do_the_same(spec, checkout):
    """The printed commands work exactly as printed."""
    for command in git_commands(spec):
        subprocess.run(shlex.split(command), cwd=checkout, check=True, capture_output=True)
    assert "run_manifest.json" in _git(checkout, "show", "--name-only", "HEAD")


def test_no_checkout(spec, monkeypatch):
    """A folder that is not a git checkout is refused with U122."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(spec.root.parent))
    assert _refused(spec, InputInvalid).code == "U122"


def test_no_git(spec, monkeypatch, tmp_path):
    """Where git is not installed the answer is U121."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _refused(spec, InputInvalid).code == "U121"


def test_ignored_evidence(spec, checkout):
    """Evidence that .gitignore hides is refused with U123 and a fix."""
    (checkout / ".gitignore").write_text("submission_runs/\n")
    assert _refused(spec, InputInvalid).code == "U123"


def test_nothing_to_commit(spec, checkout):
    """A second --commit of the same evidence makes no commit: it names the one that has it, whatever came after."""
    before = commit_evidence(spec)
    assert commit_evidence(spec) == before
    assert _git(checkout, "rev-parse", "HEAD").strip() == before
    _git(checkout, "commit", "--allow-empty", "-m", "something else")
    assert commit_evidence(spec) == before


def test_a_hook_that_refuses(spec, checkout):
    """A failing hook is a failed run (exit 1) that quotes what the hook said."""
    hook = checkout / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho the hook says no >&2\nexit 1\n")
    hook.chmod(0o755)
    diagnostic = _refused(spec, RunFailed)
    assert diagnostic.code == "U125"
    assert "the hook says no" in diagnostic.hint


def test_a_hooks_environment_moves_the_commit_nowhere(spec, checkout, tmp_path_factory, monkeypatch):
    """GIT_DIR and GIT_INDEX_FILE of another repository, as its hooks set them: the project's own repository gets the commit."""
    other = tmp_path_factory.mktemp("other")
    _git(other, "init", "-q")
    _git(other, "commit", "-qm", "theirs", "--allow-empty")
    theirs = _git(other, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    sha = commit_evidence(spec)
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"):
        monkeypatch.delenv(name)
    assert _git(other, "rev-parse", "HEAD") == theirs
    assert _git(checkout, "show", "--name-only", "--format=%H", sha).split() == [
        sha,
        "submission_runs/v1/run_manifest.json",
    ]


def test_a_name_with_glob_characters_is_a_name(spec, checkout):
    """`v[1]` commits the folder `v[1]` and not the folder `v1`."""
    (checkout / "submission_runs" / "v[1]").mkdir()
    (checkout / "submission_runs" / "v[1]" / "run_manifest.json").write_text("{}\n")
    spec.evidence.dir = "submission_runs/v[1]"
    sha = commit_evidence(spec)
    assert _git(checkout, "show", "--name-only", "--format=", sha).split() == ["submission_runs/v[1]/run_manifest.json"]


def test_bytes_that_git_would_change_are_not_committed(spec, checkout):
    """core.autocrlf would store an evidence file with CRLF as another one (X313); with the attribute that `init` writes it is kept."""
    (checkout / "submission_runs" / "v1" / "runspec.yaml").write_bytes(b"version: 1\r\n")
    _git(checkout, "config", "core.autocrlf", "true")
    diagnostic = _refused(spec, InputInvalid)
    assert diagnostic.code == "X313"
    assert diagnostic.message == "--commit: git would change the line ends of submission_runs/v1/runspec.yaml"
    assert "/submission_runs/** -text" in diagnostic.hint
    (checkout / ".gitattributes").write_text("/submission_runs/** -text\n")
    sha = commit_evidence(spec)
    committed = subprocess.run(
        ["git", "show", f"{sha}:submission_runs/v1/runspec.yaml"], cwd=checkout, check=True, capture_output=True
    )
    assert committed.stdout == b"version: 1\r\n"
