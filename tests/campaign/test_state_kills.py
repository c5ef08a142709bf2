"""SIGKILL at random moments of every command that writes: the same command again gives what was due, and no litter.

The moments are calls that change files, of which the process kills itself at a random one (the temporary file is there and has
not its name yet, the artifact is visible and its work is not removed yet, …), and instants of the clock.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.pipeline.plan import differences
from tests.campaign.light_project import RUN, SECONDS, LightProject

EVIDENCE, PACKAGES = "submission_runs/light_v1", "submission"
BUILD = ("dataset", "build", "quickstart-reasoning", "--out", "data/built")
INIT = ("init", "quickstart", "--dir", "made")
COMMIT = (*RUN, "--commit")


def files_of(root: Path) -> dict[str, bytes]:
    """Every file below, but for git's own."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*"))
            if path.is_file() and ".git" not in path.parts}  # fmt: skip


class Campaign:
    """What each command is killed in, what it is started from, and what is due afterwards."""

    def __init__(self, folder: Path, evidence_of: Callable[[Path], Any]) -> None:
        self.folder, self.evidence_of = folder, evidence_of
        self.fresh = LightProject.fresh(folder / "fresh")
        self.whole = self.fresh.copy(folder / "whole")
        self.calls = {"run": self.whole.calls(*RUN)}
        self.evidence = evidence_of(self.whole.root)
        self.before: dict[str, LightProject] = {}
        self.due: dict[str, dict[str, bytes]] = {}
        self.made = 0

    def project(self, of: LightProject) -> LightProject:
        self.made += 1
        return of.copy(self.folder / f"killed-{self.made}")

    def kill(self, name: str, draw: random.Random) -> bool:
        """One kill of this command, resumed and compared; False where it had ended before."""
        if name not in self.before:
            self.before[name] = getattr(self, f"before_{name}")()
        words = {"run": RUN, "package": ("package", RUN[1]), "verify": ("verify", EVIDENCE), "build": BUILD, "init": INIT,
                 "commit": COMMIT}[name]  # fmt: skip
        if name not in self.calls:
            self.calls[name] = self.project(self.before[name]).calls(*words)
        project = self.project(self.before[name])
        was_hit = project.hit(draw, self.calls[name], 1.0, *words)
        if was_hit:
            getattr(self, f"after_{name}")(project, words)
            assert project.litter() == []
        shutil.rmtree(project.root)
        return was_hit

    def before_run(self) -> LightProject:
        return self.fresh

    def after_run(self, project: LightProject, words: tuple[str, ...]) -> None:
        done = project.do(*words)
        assert done.code == 0, done.err
        assert differences(self.evidence, self.evidence_of(project.root)) == []
        assert project.do("verify", EVIDENCE).code == 0

    def before_package(self) -> LightProject:
        bare = self.project(self.whole)
        shutil.rmtree(bare.root / PACKAGES)
        return bare

    def after_package(self, project: LightProject, words: tuple[str, ...]) -> None:
        assert project.do(*words).code == 0
        assert files_of(project.root / PACKAGES) == files_of(self.whole.root / PACKAGES)

    def before_verify(self) -> LightProject:
        return self.whole

    def after_verify(self, project: LightProject, words: tuple[str, ...]) -> None:
        assert project.do(*words).code == 0
        assert files_of(project.root / EVIDENCE) == files_of(self.whole.root / EVIDENCE)

    def before_build(self) -> LightProject:
        return self.fresh

    def after_build(self, project: LightProject, words: tuple[str, ...]) -> None:
        self._made_again(project, words, "data/built")

    def before_init(self) -> LightProject:
        return self.fresh

    def after_init(self, project: LightProject, words: tuple[str, ...]) -> None:
        self._made_again(project, words, "made")

    def _made_again(self, project: LightProject, words: tuple[str, ...], folder: str) -> None:
        assert project.do(*words).code == 0
        if folder not in self.due:
            whole = self.project(self.fresh)
            assert whole.do(*words).code == 0
            self.due[folder] = files_of(whole.root / folder)
        assert files_of(project.root / folder) == self.due[folder]

    def before_commit(self) -> LightProject:
        root = self.folder / "repository"
        if not root.exists():
            project = self.fresh.copy(root)
            (root / ".gitignore").write_text("/.runspec/\n/submission/\n")
            for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "begin"]):
                subprocess.run(["git", *words], cwd=root, check=True)
            assert project.do(*RUN).code == 0
        return LightProject(root)

    def after_commit(self, project: LightProject, words: tuple[str, ...]) -> None:
        """git itself is not killed: it ends its commit alone, and the next attempt waits for that."""
        until = time.monotonic() + SECONDS
        while (project.root / ".git" / "index.lock").exists() and time.monotonic() < until:
            time.sleep(0.02)
        done = project.do(*words)
        assert done.code == 0, done.err
        git = ["git", "-C", str(project.root)]
        assert subprocess.run([*git, "status", "--porcelain"], capture_output=True, check=True).stdout == b""
        log = subprocess.run([*git, "log", "--format=%s"], capture_output=True, text=True, check=True).stdout
        assert log == "Add evidence of run light_v1\nbegin\n"
        listed = subprocess.run([*git, "ls-files", EVIDENCE], capture_output=True, text=True, check=True).stdout.split()
        assert listed == sorted(f"{EVIDENCE}/{name}" for name in files_of(project.root / EVIDENCE))


COMMANDS = {"run": 8, "package": 3, "verify": 1, "build": 3, "init": 3, "commit": 2}  # of 20 kills
TRIES = 20  # a command may end before it is killed


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory, evidence_of: Callable[[Path], Any]) -> Campaign:
    os.environ.setdefault("GIT_CONFIG_GLOBAL", os.devnull)
    return Campaign(tmp_path_factory.mktemp("kills"), evidence_of)


def check(campaign: Campaign, kills: int, draw: random.Random) -> dict[str, int]:
    """So many kills that hit, in the shares of COMMANDS; returns how many of each command."""
    hits = dict.fromkeys(COMMANDS, 0)
    names = [name for name, share in COMMANDS.items() for _ in range(share)]
    for number in range(kills):
        name = names[number % len(names)]
        if not any(campaign.kill(name, draw) for _ in range(TRIES)):
            raise AssertionError(f"{name} always ended before it was killed, after {hits}")
        hits[name] += 1
    return hits


@pytest.mark.timeout(300)
def test_a_killed_run_and_a_killed_package_are_resumed_without_litter(campaign: Campaign) -> None:
    """The short version: a kill of each."""
    draw = random.Random(20261129)
    for name in ("run", "package"):
        while not campaign.kill(name, draw):
            pass


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_two_hundred_kills_leave_equal_evidence_and_no_litter(campaign: Campaign) -> None:
    """The long campaign."""
    hits = check(campaign, 200, random.Random(20261130))
    print(hits)  # noqa: T201 - for whoever runs it with -s
    assert hits == {name: 10 * share for name, share in COMMANDS.items()}
