"""Damaged and unreadable state: every command says which file it is and what helps, or does without it; none believes it.

A state file is one that the engine wrote and reads again: artifact.json, the journal, the lock, the log, the remembered
digests and prices, the evidence, the package.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.lines import parse_lines
from engine.artifacts.store import Artifact, Store
from engine.canonical import digest_file
from engine.cli import main
from engine.evidence.bundle import Bundle, read_bundle
from engine.evidence.verify import verify_bundle
from engine.pipeline import digest_cache
from engine.pipeline.digest_cache import remembered_digest
from engine.pipeline.plan import differences
from tests.campaign.light_project import RUN, LightProject

pytestmark = pytest.mark.usefixtures("light_steps")

EVIDENCE = "submission_runs/light_v1"
# Name -> where it is, in a project with a finished run.
STATE = {
    "artifact": ".runspec/store/checkpoint/*/artifact.json",
    "last artifact": ".runspec/store/summary/*/artifact.json",
    "published file": ".runspec/store/checkpoint/*/metrics.jsonl",
    "published summary": ".runspec/store/summary/*/summary.json",
    "journal": ".runspec/runs/light_v1/journal.jsonl",
    "lock": ".runspec/locks/run-light_v1.lock",
    "log": ".runspec/logs/light_v1.jsonl",
    "digests": ".runspec/cache/digests.json",
    "evidence manifest": f"{EVIDENCE}/run_manifest.json",
    "evidence record": f"{EVIDENCE}/run_record.json",
    "evidence list": f"{EVIDENCE}/manifest-sha256.txt",
    "evidence attachment": f"{EVIDENCE}/metrics.jsonl",
    "package": "submission/*.zip",
}
SHAPES = {"empty": b"", "list": b"[]\n", "null": b"null\n", "object": b"{}\n", "number": b'{"seq": 1, "event": 7, "files": 3}\n',
          "text": b"\xff\xfe no text\n"}  # fmt: skip
# In this order, since one may mend what the next one reads; each is tried on a project of its own.
COMMANDS = (("plan", RUN[1]), ("status",), ("status", "light_v1"), ("show", "light_v1"), ("explain", RUN[1]), ("logs", "light_v1"),
            ("verify", EVIDENCE), ("package", RUN[1]), ("evidence", RUN[1]), RUN, (*RUN, "--force", "summary"))  # fmt: skip
CODES = {0, 1, 2, 4, 5}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> LightProject:
    """A finished run, whose eval set is so large that its digest is remembered."""
    project = LightProject.fresh(tmp_path_factory.mktemp("damage") / "whole")
    assert project.do(*RUN).code == 0
    return project


@pytest.fixture
def copy(whole: LightProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], LightProject]:
    """``copy()``: the finished project anew, and this process in it."""
    count = iter(range(10**6))

    def call() -> LightProject:
        project = whole.copy(tmp_path / str(next(count)))
        (project.root / ".runspec" / "cache" / "digests.json").write_text("{}")
        monkeypatch.chdir(project.root)
        return project

    return call


def the(name: str, root: Path) -> Path:
    (path,) = root.glob(STATE[name])
    return path


def spoil(path: Path, how: str) -> None:
    """Put something else in the file's place."""
    if how == "denied":
        path.chmod(0)
        return
    if how in SHAPES:
        path.write_bytes(SHAPES[how])
        return
    if how == "flip":
        path.write_bytes(flipped(path.read_bytes(), random.Random(7)))
        return
    path.unlink()
    if how == "fault":
        path.symlink_to("/proc/self/mem")  # opens, and every read is an input/output error
    elif how == "folder":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)


def changed_evidence(whole: LightProject, project: LightProject, evidence_of: Any) -> list[str]:
    """What differs from the evidence of the undamaged run, apart from the words that were typed."""
    one, other = (
        evidence_of(whole.root),
        json.loads(json.dumps(evidence_of(project.root)).replace(" --force summary", "")),
    )
    return differences(one, other)


def check_answer(code: int, err: str, path: Path, words: tuple[str, ...]) -> None:
    """A documented end, and where it is an error: the file's name, a code, and what helps."""
    assert code in CODES, (words, code, err)
    assert "X301" not in err
    assert "Traceback" not in err
    if code not in (0, 5):  # 5: verify prints its checks
        assert path.name in err or path.parent.name in err, (words, err)
        assert "= help:" in err, (words, err)


def try_all(
    copy: Callable[[], LightProject], whole: LightProject, evidence_of: Any, name: str, how: str, capsys: Any
) -> None:
    """Every command over this damage, in this process."""
    for words in COMMANDS:
        project = copy()
        path = the(name, project.root)
        spoil(path, how)
        capsys.readouterr()
        code = main(list(words))
        check_answer(code, capsys.readouterr().err, path, words)
        if code == 0 and words[0] in ("run", "evidence"):
            assert changed_evidence(whole, project, evidence_of) == [], (name, how, words)
            assert main(["verify", EVIDENCE]) == 0
        shutil.rmtree(project.root)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", ["fault", "folder", "pipe", *SHAPES])
@pytest.mark.parametrize("name", STATE)
def test_every_command_over_every_damage(
    copy: Any, whole: LightProject, evidence_of: Any, name: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real files: an input/output error, a folder, a pipe, another shape."""
    try_all(copy, whole, evidence_of, name, how, capsys)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="permissions do not bind root here")
@pytest.mark.parametrize("name", STATE)
def test_every_command_without_the_right_to_read(copy: Any, whole: LightProject, evidence_of: Any, name: str) -> None:
    """Permission denied, for real."""
    for words in COMMANDS:
        project = copy()
        path = the(name, project.root)
        spoil(path, "denied")
        done = project.do_without_rights(*words)
        check_answer(done.code, done.err, path, words)
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        if done.code == 0 and words[0] in ("run", "evidence"):
            assert changed_evidence(whole, project, evidence_of) == []
        shutil.rmtree(project.root)


# -- random bit flips ----------------------------------------------------------------------------------------------------


def flipped(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data) * 8)
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def believed_artifacts(whole: LightProject, flips: int, draw: random.Random) -> list[str]:
    """Flips of each artifact.json that the store takes for what was published."""
    store, believed = Store(whole.root), []
    for path in sorted((whole.root / ".runspec" / "store").glob("*/*/artifact.json")):
        data = path.read_bytes()
        known = {found.fingerprint: found for found in published(whole)}
        artifact = next(found for found in known.values() if found.path == path.parent)
        for _ in range(flips):
            path.write_bytes(flipped(data, draw))
            if store.find(artifact.type, artifact.fingerprint) is not None:
                believed.append(f"{path}: {path.read_bytes()!r}")
            assert store.flaw(artifact.type, artifact.fingerprint) == "artifact.json is not what was written"
        path.write_bytes(data)
    return believed


def published(project: LightProject) -> list[Artifact]:
    """All artifacts of the project, by its journal."""
    events = parse_lines(the("journal", project.root).read_bytes()).events
    found = [
        Store(project.root).find(row["type"], row["fingerprint"]) for row in events if row["event"] == "step_finished"
    ]
    return [artifact for artifact in found if artifact is not None]


def believed_lines(whole: LightProject, flips: int, draw: random.Random) -> list[bytes]:
    """Flips of the journal that are read as other events. (The last newline's leaves the same events.)"""
    data = the("journal", whole.root).read_bytes()
    events, believed = parse_lines(data).events, []
    for _ in range(flips):
        changed = flipped(data, draw)
        lines = parse_lines(changed)
        if not lines.damaged and (lines.events != events or changed[:-1] != data[:-1]):
            believed.append(changed)
    return believed


def believed_digests(cache: Path, file: Path, flips: int, draw: random.Random) -> int:
    """Flips of the remembered digests after which another digest is given."""
    digest, path = digest_file(file), cache / digest_cache.CACHE_FILE
    assert remembered_digest(file, cache) == digest
    data, wrong = path.read_bytes(), 0
    for _ in range(flips):
        path.write_bytes(flipped(data, draw))
        wrong += remembered_digest(file, cache) != digest
    return wrong


def believed_evidence(whole: LightProject, flips: int, draw: random.Random) -> list[str]:
    """Flips of any evidence file that verify accepts."""
    bundle = read_bundle(whole.root / EVIDENCE)
    names, believed = sorted(bundle.files), []
    for _ in range(flips):
        name = draw.choice(names)
        files: Mapping[str, bytes] = {**bundle.files, name: flipped(bundle.files[name], draw)}
        if verify_bundle(Bundle("folder", files)).ok:
            believed.append(name)
    return believed


@pytest.fixture
def small_files_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests of small files are remembered too, at once."""
    monkeypatch.setattr(digest_cache, "CACHE_FROM_BYTES", 1)
    monkeypatch.setattr(digest_cache, "SETTLED_SECONDS", -1.0)


def check_flips(whole: LightProject, cache: Path, flips: int, evidence_flips: int) -> None:
    draw = random.Random(20261129)
    assert believed_artifacts(whole, flips, draw) == []
    assert believed_lines(whole, flips, draw) == []
    assert believed_digests(cache, whole.root / "evalsets" / "items.jsonl", flips, draw) == 0
    assert believed_evidence(whole, evidence_flips, draw) == []


@pytest.mark.usefixtures("small_files_too")
def test_no_flipped_bit_is_believed(whole: LightProject, tmp_path: Path) -> None:
    """The short version."""
    check_flips(whole, tmp_path, flips=100, evidence_flips=20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("small_files_too")
def test_of_four_thousand_flipped_bits_of_each_file_none_is_believed(whole: LightProject, tmp_path: Path) -> None:
    """The long campaign."""
    check_flips(whole, tmp_path, flips=4000, evidence_flips=4000)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [name for name in STATE if name != "digests"])
def test_every_command_over_flipped_bits(
    copy: Any, whole: LightProject, evidence_of: Any, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten flips of each file: no fault of the engine, and a run that ends well has the evidence of the undamaged one."""
    draw = random.Random(name)
    for _ in range(10):
        for words in COMMANDS:
            project = copy()
            path = the(name, project.root)
            path.write_bytes(flipped(path.read_bytes(), draw))
            capsys.readouterr()
            code = main(list(words))
            check_answer(code, capsys.readouterr().err, path, words)
            if code == 0 and words[0] in ("run", "evidence"):
                assert changed_evidence(whole, project, evidence_of) == [], (name, words)
            shutil.rmtree(project.root)


# -- the short version of the tables above -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "how", "words", "code", "said"),
    [
        ("artifact", "fault", ("plan", RUN[1]), 1, "R112"),
        ("artifact", "folder", RUN, 1, "R112"),
        ("last artifact", "list", RUN, 0, "is damaged: artifact.json is not what was written"),
        ("journal", "fault", ("status", "light_v1"), 1, "R112"),
        ("journal", "folder", RUN, 1, "R112"),
        ("journal", "list", RUN, 1, "R111"),
        ("journal", "object", ("status",), 1, "R111"),
        ("log", "folder", ("logs", "light_v1"), 1, "R112"),
        ("digests", "list", ("plan", RUN[1]), 0, ""),
        ("published file", "flip", ("evidence", RUN[1]), 1, "R105"),
        (
            "published file",
            "fault",
            ("evidence", RUN[1]),
            4,
            "train (what is stored of it is damaged: metrics.jsonl is missing",
        ),
        ("published summary", "pipe", RUN, 0, "missing or has another size"),
        ("evidence record", "fault", RUN, 1, "R112"),
        ("evidence manifest", "list", RUN, 0, ""),
        ("evidence attachment", "folder", RUN, 1, "E110"),
        ("package", "folder", ("package", RUN[1]), 1, "P103"),
        ("package", "fault", RUN, 1, "R112"),
    ],
)
def test_what_is_said_of_a_damaged_file(
    copy: Any, name: str, how: str, words: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its code and its name, or that it is made again."""
    project = copy()
    path = the(name, project.root)
    spoil(path, how)
    assert main(list(words)) == code
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
    check_answer(code, captured.err, path, words)


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="permissions do not bind root here")
def test_a_journal_without_the_right_to_read_it(copy: Any) -> None:
    """The file, the reason, and the cure that the person can type."""
    project = copy()
    spoil(the("journal", project.root), "denied")
    done = project.do_without_rights("status", "light_v1")
    assert done.code == 1
    path = the("journal", project.root)
    assert f"error[R112]: cannot read {path}: Permission denied" in done.err
    assert f"sudo chown -R $USER {project.root / '.runspec'}" in done.err
