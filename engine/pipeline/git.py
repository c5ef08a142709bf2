"""git, asked in one place: what a caller's environment or a person's settings say never changes its answer.

In: a folder and the words after ``git``. Out: the answer in bytes; or :class:`NoAnswer` with the true reason and what to type.
Of the caller's variables only those pass that say where git itself and its configuration are: a hook sets ``GIT_DIR`` and
``GIT_INDEX_FILE``, and git would answer about that other repository.

    ask(root, "rev-parse", "--verify", "HEAD")      # plumbing, without the person's settings
    run(root, "commit", "-m", "…")                  # the person's own command: their identity, hooks and signature hold
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

ASK_SECONDS = 60
RUN_SECONDS = 300  # a commit hook may run a test suite

# Where git and its configuration are, and how far up it may look for a repository. Every other GIT_… variable is removed: those
# of `git rev-parse --local-env-vars`, and those that change an answer (GIT_EXTERNAL_DIFF, GIT_LITERAL_PATHSPECS, GIT_TRACE, …).
_PASS = (
    "GIT_EXEC_PATH", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM",
    "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_GLOBAL",
)  # fmt: skip
_PASS_FOR_A_COMMIT = ("GIT_AUTHOR_", "GIT_COMMITTER_")
# Of the configuration in GIT_CONFIG_COUNT: which owners are trusted, and who commits. `core.worktree` there would be another checkout.
_PASS_SETTINGS = ("safe.", "user.", "author.", "committer.", "gpg.", "commit.")
_QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_ATTR_NOSYSTEM": "1", "LC_ALL": "C"}
# What a person may have set for themselves and what changes which files count as changed.
_SETTINGS = (
    "core.fsmonitor=false", "core.ignoreStat=false", "core.trustctime=true", "core.checkStat=default",
    "core.excludesFile=", "core.attributesFile=", "color.ui=false", "core.quotePath=false",
)  # fmt: skip

NOT_A_CHECKOUT = "the project is not a git checkout"
NOT_INSTALLED = "git is not installed"
NO_COMMIT = "the git checkout has no commit yet"
RESTORE = (
    "give this user the right to read .git; damaged, restore it (from a clone, a backup), or move it away and git init"
)
FOREIGN = "git does not trust this checkout, whose folder belongs to another user (dubious ownership)"


class NoAnswer(Exception):
    """git could not say. ``reason`` goes into the evidence (no path of this machine), ``cure`` is what to type."""

    def __init__(self, reason: str, cure: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.cure = reason, cure


def ask(root: Path, *words: str, data: bytes = b"") -> bytes:
    """Standard output of a plumbing command. Raises NoAnswer where git, or the repository, cannot give it."""
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    done = _started(root, ["git", *settings, *words], {**_environment(), **_QUIET}, ASK_SECONDS, data)
    if (
        done.returncode != 0 or b"could not open directory" in done.stderr
    ):  # that is a warning, and an incomplete answer
        raise _explained(root, done)
    return done.stdout


def run(root: Path, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A command in the person's name, to be judged by its exit status. Raises NoAnswer where git is not installed or hangs."""
    return _started(root, ["git", *words], _environment(_PASS_FOR_A_COMMIT), RUN_SECONDS, data)


def commit_of(root: Path) -> str:
    """The commit of the checkout that ``root`` is in. Raises NoAnswer: not installed, not a checkout, not trusted, no commit yet."""
    ask(root, "rev-parse", "--git-dir")
    try:
        return ask(root, "rev-parse", "--verify", "HEAD").decode("ascii").strip()
    except NoAnswer as error:
        if "Needed a single revision" not in error.reason:
            raise
    try:
        ask(root, "symbolic-ref", "HEAD")
    except NoAnswer:  # a power cut leaves a branch's file empty
        raise NoAnswer("git cannot use .git: the branch that its HEAD names is empty or damaged", RESTORE) from None
    raise NoAnswer(NO_COMMIT, "git add . && git commit -m 'first commit'")


def has_parent(root: Path, sha: str) -> bool:
    """False for the first commit of a repository. Raises NoAnswer."""
    return len(ask(root, "rev-list", "-1", "--parents", sha).split()) > 1


def _environment(more: tuple[str, ...] = ()) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if _passes(name, more)}
    return kept | _settings_of(os.environ)


def _passes(name: str, more: tuple[str, ...]) -> bool:
    return not name.startswith("GIT_") or name in _PASS or name.startswith(more or ("\0",))


def _settings_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of GIT_CONFIG_COUNT that name trusted folders and the person who commits, numbered anew.

    >>> _settings_of({"GIT_CONFIG_COUNT": "2", "GIT_CONFIG_KEY_0": "core.worktree", "GIT_CONFIG_VALUE_0": "/x",
    ...               "GIT_CONFIG_KEY_1": "safe.directory", "GIT_CONFIG_VALUE_1": "*"})
    {'GIT_CONFIG_COUNT': '1', 'GIT_CONFIG_KEY_0': 'safe.directory', 'GIT_CONFIG_VALUE_0': '*'}
    """
    count = environment.get("GIT_CONFIG_COUNT", "")
    numbers = range(min(int(count), 1000)) if count.isascii() and count.isdigit() else range(0)
    pairs = [
        (environment.get(f"GIT_CONFIG_KEY_{n}", ""), environment.get(f"GIT_CONFIG_VALUE_{n}", "")) for n in numbers
    ]
    kept = [pair for pair in pairs if pair[0].lower().startswith(_PASS_SETTINGS)]
    passed = {"GIT_CONFIG_COUNT": str(len(kept))} if kept else {}
    for number, (key, value) in enumerate(kept):
        passed |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return passed


def _started(
    root: Path, command: list[str], environment: Mapping[str, str], seconds: int, data: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            command, cwd=root, env=environment, capture_output=True, input=data, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"git took longer than {seconds} s", "is a hook or a filter waiting for something?") from None
    except OSError as error:
        if isinstance(error, FileNotFoundError) and root.is_dir():
            raise NoAnswer(NOT_INSTALLED, "install git") from None
        raise NoAnswer(f"git cannot be started ({error.strerror or type(error).__name__})") from None


def _no_repository(root: Path) -> NoAnswer:
    """git says the same of a folder that is no checkout and of a checkout whose .git is damaged or may not be read."""
    home = next((parent / ".git" for parent in (root, *root.parents) if os.path.lexists(parent / ".git")), None)
    if home is None or _is_beyond_ceiling(home.parent, root):
        return NoAnswer(NOT_A_CHECKOUT, "git init")
    which = ".git" if home.parent == root else f"the .git of {home.parent.name}/ above it"
    return NoAnswer(f"git cannot use {which}: {_flaw(home)}", RESTORE)


def _is_beyond_ceiling(folder: Path, root: Path) -> bool:
    """Whether git does not look that far up (GIT_CEILING_DIRECTORIES); it always looks into ``root`` itself."""
    ceilings = [Path(name) for name in os.environ.get("GIT_CEILING_DIRECTORIES", "").split(os.pathsep) if name]
    return folder != root and any(root.is_relative_to(top) and top.is_relative_to(folder) for top in ceilings)


def _flaw(home: Path) -> str:
    """What is wrong with a .git, of the things that a power cut, a permission or a moved repository leave."""
    try:
        if not home.exists():
            return "it is a link that leads nowhere"
        if home.is_file():
            return "it is a file that names a repository which is not there (any more)"
        head = (home / "HEAD").read_bytes() if os.path.lexists(home / "HEAD") else None
        missing = [name for name in ("objects", "refs") if not (home / name).is_dir()]
    except OSError as error:
        return (error.strerror or type(error).__name__).lower()
    if head is None or missing:
        return f"it has no {' and no '.join([*['HEAD'] * (head is None), *missing])}"
    if not re.fullmatch(rb"ref: refs/.+\n?|[0-9a-f]{40}([0-9a-f]{24})?\n?", head):
        return "its HEAD is empty" if not head.strip() else "its HEAD is damaged"
    return "git does not take it for a repository"


def _explained(root: Path, done: subprocess.CompletedProcess[bytes]) -> NoAnswer:
    """The reason in a sentence, with the cure that git itself prints where it has one."""
    said = done.stderr.decode(errors="replace").strip()
    trust = re.search(r"git config --global --add safe\.directory .+", said)
    if trust or "unsafe repository" in said:
        return NoAnswer(FOREIGN, trust.group().strip() if trust else f"git config --global --add safe.directory {root}")
    if "not a git repository" in said:
        return _no_repository(root)
    first = (
        (said.splitlines() or [f"exit status {done.returncode}"])[0].removeprefix("fatal: ").removeprefix("warning: ")
    )
    return NoAnswer(f"git failed: {first.replace(str(root), '.')[:200]}", "git status  shows more")
