"""--commit commits the evidence folder, that alone, and explains every refusal."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.commands.commit import check_commit, commit_evidence, git_commands
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


@pytest.mark.parametrize("where", [".gitignore", ".git/info/exclude", "core.excludesFile"])
def test_one_ignored_file_stops_the_commit(spec, checkout, where, tmp_path_factory):
    """A rule for *.jsonl anywhere would leave one file out, and the clone would not verify: U123 names file and rule, nothing is
    committed; the hinted and printed `git add -f` lets the same commit through, complete."""
    (checkout / "submission_runs" / "v1" / "metrics.jsonl").write_text("{}\n")
    rules = tmp_path_factory.mktemp("rules") / "ignore" if where == "core.excludesFile" else checkout / where
    rules.write_text("*.log\n*.jsonl\n!run.jsonl\n")
    _git(checkout, "config", "core.excludesFile", str(rules))
    diagnostic = _refused(spec, InputInvalid)
    assert (diagnostic.code, diagnostic.message) == ("U123", "--commit: git ignores submission_runs/v1/metrics.jsonl")
    assert ":2: *.jsonl" in diagnostic.hint
    assert _git(checkout, "rev-list", "--all") == ""
    add = "git add -f -- submission_runs/v1/"
    assert add in diagnostic.hint
    assert git_commands(spec)[0] == add
    subprocess.run(shlex.split(add), cwd=checkout, check=True)
    assert git_commands(spec)[0] == "git add -- submission_runs/v1/"
    names = _git(checkout, "show", "--name-only", "--format=", commit_evidence(spec)).split()
    assert names == ["submission_runs/v1/metrics.jsonl", "submission_runs/v1/run_manifest.json"]


def test_an_ignored_folder_can_be_added_in_spite_of_it(spec, checkout):
    """The hint of U123 works for a rule that ignores the whole folder, too."""
    (checkout / ".gitignore").write_text("submission_runs/\n")
    subprocess.run(
        shlex.split(_refused(spec, InputInvalid).hint.splitlines()[-1].partition(": ")[2]), cwd=checkout, check=True
    )
    assert "run_manifest.json" in _git(checkout, "show", "--name-only", commit_evidence(spec))


def test_a_later_rule_that_takes_the_evidence_in_again(spec, checkout):
    """`!/submission_runs/**` after `*.json`: nothing is ignored."""
    (checkout / ".gitignore").write_text("*.json\n!/submission_runs/**\n")
    assert commit_evidence(spec)


def _hook(checkout: Path, *lines: str) -> None:
    hook = checkout / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    hook.chmod(0o755)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["f=submission_runs/v1/run_manifest.json", "echo >> $f", "git add $f"], "other bytes: submission_runs/v1/run_manifest.json"),
        (["git add -A"], "added: stray.py"),
        (["echo > submission_runs/v1/more", "git add -A submission_runs"], "added: submission_runs/v1/more"),
        (["git rm -q --cached submission_runs/v1/run_manifest.json", "git add stray.py"],
         "missing: submission_runs/v1/run_manifest.json; added: stray.py"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("has_a_commit", [False, True])
def test_a_hook_that_changes_the_commit(spec, checkout, lines, found, has_a_commit):
    """What a hook makes of the evidence is not called committed: U126 says what differs, and the hint takes the commit back."""
    if has_a_commit:
        _git(checkout, "commit", "--allow-empty", "-qm", "first")
    (checkout / "stray.py").write_text("1")
    _hook(checkout, *lines)
    diagnostic = _refused(spec, RunFailed)
    assert diagnostic.code == "U126"
    assert diagnostic.message.endswith(f"is not the evidence and nothing else ({found})")
    back = diagnostic.hint.split("`")[1]
    subprocess.run(shlex.split(back), cwd=checkout, check=True)
    (checkout / ".git" / "hooks" / "pre-commit").unlink()
    assert len(_git(checkout, "rev-list", "--all").split()) == has_a_commit


def test_files_that_git_was_told_to_overlook(spec, checkout):
    """`git add` passes them over without a word: U126 and the command that helps, not the commit that has the earlier bytes."""
    commit_evidence(spec)
    file = checkout / "submission_runs" / "v1" / "run_manifest.json"
    _git(checkout, "update-index", "--assume-unchanged", "submission_runs/v1/run_manifest.json")
    file.write_text('{"run_version": "v1"}\n')
    diagnostic = _refused(spec, RunFailed)
    assert diagnostic.code == "U126"
    assert "(other bytes: submission_runs/v1/run_manifest.json)" in diagnostic.message
    subprocess.run(shlex.split(diagnostic.hint.partition(": ")[2].partition(", then")[0]), cwd=checkout, check=True)
    assert _git(checkout, "show", f"{commit_evidence(spec)}:submission_runs/v1/run_manifest.json") == file.read_text()


def test_a_filter_is_called_a_filter(spec, checkout):
    """Git LFS's attributes (as the Hugging Face hub writes them) would store a pointer: X313 says so, and its hint is enough."""
    (checkout / "submission_runs" / "v1" / "metrics.jsonl").write_text("{}\n")
    (checkout / ".gitattributes").write_text("*.jsonl filter=lfs diff=lfs merge=lfs -text\n")
    _git(checkout, "config", "filter.lfs.clean", "sed s/^/pointer/")
    diagnostic = _refused(spec, InputInvalid)
    assert diagnostic.code == "X313"
    assert diagnostic.message == (
        "--commit: git would store other bytes than those of submission_runs/v1/metrics.jsonl (filter=lfs in its attributes)"
    )
    _follow(checkout, diagnostic.hint)
    assert _git(checkout, "show", f"{commit_evidence(spec)}:submission_runs/v1/metrics.jsonl") == "{}\n"


def test_a_filter_that_is_required_and_missing(spec, checkout):
    """X313, too, with the same cure; not git's words about a program."""
    (checkout / ".gitattributes").write_text("*.json filter=lfs\n")
    _git(checkout, "config", "filter.lfs.clean", "no-such-program")
    _git(checkout, "config", "filter.lfs.required", "true")
    diagnostic = _refused(spec, InputInvalid)
    assert diagnostic.code == "X313"
    _follow(checkout, diagnostic.hint)
    assert commit_evidence(spec)


@pytest.mark.parametrize("attributes", ["ident", "working-tree-encoding=UTF-16LE text"])
def test_other_attributes_that_change_bytes(spec, checkout, attributes):
    """The hint of X313 is enough for each of them, also where a deeper .gitattributes decides."""
    file = checkout / "submission_runs" / "v1" / "run_manifest.json"
    file.write_bytes("{$Id: 1$}\n".encode("utf-16-le" if "UTF-16" in attributes else "utf-8"))
    (checkout / "submission_runs" / ".gitattributes").write_text(f"*.json {attributes}\n")
    diagnostic = _refused(spec, InputInvalid)
    assert diagnostic.code == "X313"
    assert "into submission_runs/.gitattributes" in diagnostic.hint
    _follow(checkout, diagnostic.hint)
    sha = commit_evidence(spec)
    shown = subprocess.run(["git", "cat-file", "blob", f"{sha}:submission_runs/v1/run_manifest.json"], cwd=checkout, check=True,
                           capture_output=True)  # fmt: skip
    assert shown.stdout == file.read_bytes()


def _follow(checkout: Path, hint: str) -> None:
    """Write the line of the hint into the file of the hint."""
    _, line, rest = hint.split("`")
    with (checkout / rest.split()[1].rstrip(",")).open("a") as stream:
        stream.write(f"{line}\n")


def test_what_would_refuse_the_commit_is_said_before_the_first_step(spec, checkout):
    """The names of the files to come are enough for git to say that it ignores one."""
    spec.steps = [SimpleNamespace(uses="train_sft")]
    spec.evidence.files = ["run_manifest.json"]
    spec.evidence.dir = "submission_runs/v2"
    check_commit(spec)
    (checkout / ".gitignore").write_text("metrics.*\nscorecard.*\n")
    with pytest.raises(InputInvalid) as caught:
        check_commit(spec)
    assert (caught.value.code, "metrics.jsonl" in str(caught.value)) == ("U123", True)
    assert "scorecard" not in str(caught.value)
