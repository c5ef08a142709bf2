"""The commit of a run and whether its files are that commit's: by the project's own repository, whoever asks and however git is set."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.pipeline.checkout import OVERLOOKED, Checkout, read_checkout
from engine.pipeline.git import FOREIGN, NO_COMMIT, NOT_A_CHECKOUT, NOT_INSTALLED
from tests.fixtures import version_1

OWN = ("submission_runs/toy_v1", "submission")


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def _repository(folder: Path, **files: str) -> str:
    folder.mkdir(exist_ok=True)
    _git(folder, "init", "-q")
    for name, text in files.items():
        (folder / name).write_text(text)
    _git(folder, "add", ".")
    _git(folder, "commit", "-qm", "first", "--allow-empty")
    return _git(folder, "rev-parse", "HEAD")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A clean checkout of two files."""
    folder = tmp_path / "project"
    _repository(folder, code="one\n", notes="x\n")
    return folder


def test_a_clean_checkout_is_its_commit(root: Path) -> None:
    """No change: the commit, and nothing else. A new time of a file is no change."""
    os.utime(root / "code", (1, 1))
    assert read_checkout(root, OWN) == Checkout(_git(root, "rev-parse", "HEAD"), dirty=False)


def test_a_hooks_environment_is_not_asked(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GIT_DIR and the like of another repository, as a hook of a linked worktree sets them: the project's own commit."""
    expected = read_checkout(root, OWN)
    other = _repository(tmp_path / "other", code="of somebody else\n")
    assert expected.commit != other
    for name, value in {
        "GIT_DIR": str(tmp_path / "other" / ".git"), "GIT_WORK_TREE": str(tmp_path / "other"),
        "GIT_INDEX_FILE": str(tmp_path / "other" / ".git" / "index"), "GIT_COMMON_DIR": str(tmp_path / "other" / ".git"),
        "GIT_OBJECT_DIRECTORY": str(tmp_path / "other" / ".git" / "objects"), "GIT_PREFIX": "deep/",
        "GIT_LITERAL_PATHSPECS": "1", "GIT_TRACE": "1", "GIT_CONFIG_PARAMETERS": "'core.worktree=/'",
        "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.worktree", "GIT_CONFIG_VALUE_0": "/",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert read_checkout(root, OWN) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"color.ui": "always", "color.diff": "always"}, {"diff.noprefix": "true"}, {"diff.external": "/not/installed"},
        {"core.fsmonitor": "/not/installed"}, {"status.showUntrackedFiles": "no"}, {"diff.ignoreSubmodules": "all"},
        {"core.excludesFile": "IGNORES"}, {"core.quotePath": "true"}, {"status.relativePaths": "false"},
    ],
    ids=lambda settings: next(iter(settings)),
)  # fmt: skip
def test_a_persons_settings_change_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    """Neither whether there is a change nor its digest depends on what a person has set for themselves."""
    (root / "code").write_text("two\n")
    (root / "new é").write_text("3\n")
    expected = read_checkout(root, OWN)
    assert (expected.dirty, expected.unknown) == (True, None)
    (tmp_path / "ignores").write_text("*\n")
    config = tmp_path / "gitconfig"
    for name, value in settings.items():
        _git(root, "config", "--file", str(config), name, value.replace("IGNORES", str(tmp_path / "ignores")))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "/not/installed")
    assert read_checkout(root, OWN) == expected
    _git(root, "checkout", "code")
    (root / "new é").unlink()
    assert read_checkout(root, OWN) == Checkout(expected.commit, dirty=False)


def test_each_change_has_its_digest(root: Path) -> None:
    """Content, name, kind and right to run count; what .gitignore of the checkout names does not."""
    seen = set()

    def now() -> str | None:
        checkout = read_checkout(root, OWN)
        assert checkout.dirty
        assert checkout.digest not in seen
        seen.add(checkout.digest)
        return checkout.digest

    (root / "code").write_text("two\n")
    first = now()
    (root / "code").chmod(0o755)
    now()
    (root / "code").unlink()
    now()
    (root / "code").symlink_to("notes")
    now()
    (root / "code").unlink()
    (root / "code").write_text("two\n")
    assert read_checkout(root, OWN).digest == first
    (root / "more").write_text("1")
    now()
    (root / "more").rename(root / "other")
    now()
    (root / ".gitignore").write_text("other\n")
    now()
    _git(root, "add", ".gitignore")
    _git(root, "commit", "-qm", "ignore")
    assert read_checkout(root, OWN).digest == first


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_a_change_that_git_was_told_to_overlook_is_found(root: Path, flag: str) -> None:
    """The file on the disk is what ran; an unchanged one, or one left out of a sparse checkout, is no change."""
    _git(root, "update-index", flag, "code")
    assert read_checkout(root, OWN).dirty is False
    (root / "code").write_text("hidden\n")
    assert read_checkout(root, OWN).dirty is True


def test_entries_that_are_no_plain_files(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links to a folder, to nothing, to themselves, a repository, a pipe in a tracked file's place: all are digested."""
    (tmp_path / "gemma").mkdir()
    (tmp_path / "gemma" / "weights").write_bytes(b"\0" * 9)
    (root / "models").mkdir()
    (root / "models" / "gemma").symlink_to(tmp_path / "gemma")
    (root / "nothing").symlink_to("/not/there")
    (root / "self").symlink_to("self")
    _repository(root / "inner", data="1")
    (root / "empty_inner").mkdir()
    _git(root / "empty_inner", "init", "-q")
    (root / "empty_inner" / "data").write_text("1")
    os.mkfifo(root / "inner" / "pipe")
    (root / os.fsdecode(b"odd\n\xff")).write_text("1")
    (root / "code").unlink()
    os.mkfifo(root / "code")
    monkeypatch.chdir(root)  # the address of a socket is a path of at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        checkout = read_checkout(root, OWN)
    assert (checkout.dirty, checkout.unknown) == (True, None)
    for change in (lambda: (root / "inner" / "data").write_text("2"), (root / "nothing").unlink):
        before = read_checkout(root, OWN).digest
        change()
        assert read_checkout(root, OWN).digest != before


def test_a_changed_submodule_is_a_change(root: Path, tmp_path: Path) -> None:
    """A changed file in it, which `git diff` of the project shows without its content."""
    _repository(tmp_path / "library", data="1\n")
    _git(root, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(tmp_path / "library"), "library")
    _git(root, "commit", "-qm", "library")
    assert read_checkout(root, OWN).dirty is False
    (root / "library" / "data").write_text("2\n")
    first = read_checkout(root, OWN)
    (root / "library" / "data").write_text("3\n")
    assert (first.dirty, read_checkout(root, OWN).digest != first.digest) == (True, True)


def test_evidence_of_any_run_is_no_change(root: Path) -> None:
    """Not committed yet, this run's or another's, and rendered again over a committed one; what else lies there is a change."""
    shipped = version_1.EVIDENCE
    for name in ("toy_v1", "quickstart_v1"):
        shutil.copytree(shipped, root / "submission_runs" / name)
    (root / ".runspec").mkdir()
    (root / ".runspec" / "x").write_text("1")
    assert read_checkout(root, OWN).dirty is False
    _git(root, "add", "submission_runs")
    _git(root, "commit", "-qm", "evidence")
    (root / "submission_runs" / "quickstart_v1" / "train_report.json").write_text("{}")
    assert read_checkout(root, OWN).dirty is False
    (root / "submission_runs" / "quickstart_v1" / "code.py").write_text("1")
    assert read_checkout(root, OWN).dirty is True


def test_a_project_below_the_top_is_judged_by_its_own_files(root: Path) -> None:
    """A change elsewhere in the repository is not one of the project; a path that a run writes may lie outside the project."""
    (root / "below").mkdir()
    (root / "below" / "spec").write_text("1")
    _git(root, "add", ".")
    _git(root, "commit", "-qm", "below")
    (root / "code").write_text("two\n")
    generated = ("submission_runs/v1", "../elsewhere", "/somewhere", "odd [*] name")
    assert read_checkout(root / "below", generated).dirty is False
    (root / "below" / "odd [*] name").mkdir()
    (root / "below" / "odd [*] name" / "x").write_text("1")
    assert read_checkout(root / "below", generated).dirty is False
    (root / "below" / "spec").write_text("2")
    assert read_checkout(root / "below", generated).dirty is True


def test_a_repository_around_that_ignores_the_project_is_not_its_checkout(root: Path) -> None:
    """A home folder kept in git, say: the commit there says nothing about the project. A tracked file makes it one."""
    (root / ".gitignore").write_text("*\n")
    _git(root, "add", "-f", ".gitignore")
    _git(root, "commit", "-qm", "dotfiles")
    project = root / "project"
    project.mkdir()
    (project / "spec").write_text("1")
    checkout = read_checkout(project, OWN)
    assert (checkout.commit, checkout.dirty, checkout.unknown) == (None, None, OVERLOOKED)
    _git(root, "add", "-f", "project/spec")
    _git(root, "commit", "-qm", "project")
    assert read_checkout(project, OWN) == Checkout(_git(root, "rev-parse", "HEAD"), dirty=False)


def _fake_git(folder: Path, script: str) -> None:
    folder.mkdir()
    (folder / "git").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "git").chmod(0o755)


def test_each_reason_is_the_true_one(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkout, no commit yet, git absent, git that fails at the second question: never clean, and what to type."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "plain").mkdir()
    assert read_checkout(tmp_path / "plain", OWN) == Checkout(unknown=NOT_A_CHECKOUT, cure="git init")
    _git(tmp_path / "plain", "init", "-q")
    young = read_checkout(tmp_path / "plain", OWN)
    assert (young.commit, young.dirty, young.unknown) == (None, None, NO_COMMIT)
    assert "git commit" in str(young.cure)
    commit = _git(root, "rev-parse", "HEAD")
    real = shutil.which("git")
    _fake_git(
        tmp_path / "bin",
        f'case "$*" in *status*) echo "fatal: index file corrupt" >&2; exit 128;; esac\nexec {real} "$@"',
    )
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{path}")
    failing = read_checkout(root, OWN)
    assert (failing.commit, failing.dirty, failing.digest) == (commit, None, None)
    assert failing.unknown == "git failed: index file corrupt"
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert read_checkout(root, OWN) == Checkout(unknown=NOT_INSTALLED, cure="install git")


def test_a_folder_that_git_could_not_open_is_not_clean(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git only warns of it and ends with 0: the answer is incomplete."""
    real = shutil.which("git")
    warning = "warning: could not open directory 'locked/': Permission denied"
    _fake_git(tmp_path / "bin", f'case "$*" in *--others*) echo "{warning}" >&2;; esac\nexec {real} "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    checkout = read_checkout(root, OWN)
    assert (checkout.dirty, "locked/" in str(checkout.unknown)) == (None, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder to another user needs root")
def test_a_checkout_of_another_user_is_unknown_with_the_cure(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a mounted checkout; and the cure, given for one command only, is heard."""
    for path in (root, root / ".git"):
        os.chown(path, 12345, 12345)
    checkout = read_checkout(root, OWN)
    assert (checkout.commit, checkout.unknown) == (None, FOREIGN)
    assert checkout.cure == f"git config --global --add safe.directory {root}"
    for name, value in (("COUNT", "1"), ("KEY_0", "safe.directory"), ("VALUE_0", str(root))):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    assert read_checkout(root, OWN).dirty is False


def test_a_damaged_link_to_the_repository_is_not_no_checkout(root: Path) -> None:
    """A linked worktree whose repository was moved away: unknown, and not `no checkout`."""
    shutil.rmtree(root / ".git")
    (root / ".git").write_text("gitdir: /moved/away\n")
    checkout = read_checkout(root, OWN)
    assert checkout.commit is None
    assert checkout.unknown == "git cannot use .git: it is a file that names a repository which is not there (any more)"


def _truncated(file: str) -> Callable[[Path], object]:
    return lambda home: (home / file).write_text("")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda home: (home / "HEAD").write_text("foo\n"), "its HEAD is damaged"),
        (_truncated("HEAD"), "its HEAD is empty"),
        (lambda home: (home / "HEAD").unlink(), "it has no HEAD"),
        (lambda home: shutil.rmtree(home / "objects"), "it has no objects"),
        (lambda home: (shutil.rmtree(home), home.mkdir()), "it has no HEAD and no objects and no refs"),
        (lambda home: (shutil.rmtree(home), home.symlink_to("/gone/away")), "it is a link that leads nowhere"),
        (_truncated("refs/heads/trunk"), "the branch that its HEAD names is empty or damaged"),
    ],
)
@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_damaged_repository_is_not_no_checkout(
    root: Path, damage: Callable[[Path], object], reason: str, below: str
) -> None:
    """What a power cut leaves: unknown with its true reason, which names no path of this machine, and a warning on the screen."""
    from engine.pipeline.provenance import environment

    _git(root, "branch", "-qM", "trunk")
    damage(root / ".git")
    (root / below).mkdir(exist_ok=True)
    said: list[str] = []
    facts = environment(root / below, [], OWN, said.append)
    which = ".git" if not below or reason.startswith("the branch") else f"the .git of {root.name}/ above it"
    assert (facts["commit_sha"], facts["commit_unknown"]) == (None, f"git cannot use {which}: {reason}")
    assert facts["commit_unknown"] in said[0]


def test_a_repository_of_sha256_names(tmp_path: Path) -> None:
    """Its commits have 64 digits."""
    folder = tmp_path / "project"
    folder.mkdir()
    _git(folder, "init", "-q", "--object-format=sha256")
    _git(folder, "commit", "-qm", "first", "--allow-empty")
    checkout = read_checkout(folder, OWN)
    assert (len(str(checkout.commit)), checkout.dirty) == (64, False)


def test_the_screen_has_the_reason_and_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the run starts, not in the evidence alone; a project that is no checkout at all is nothing to warn of."""
    from engine.pipeline.provenance import environment

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    said: list[str] = []
    facts = environment(tmp_path, [], OWN, said.append)
    assert (facts["commit_sha"], facts["commit_unknown"], said) == (None, NOT_A_CHECKOUT, [])
    _git(tmp_path, "init", "-q")
    assert environment(tmp_path, [], OWN, said.append)["commit_unknown"] == NO_COMMIT
    assert said == [
        "warning: the evidence will call the commit unknown: the git checkout has no commit yet\n"
        "the cure: git add . && git commit -m 'first commit'"
    ]
