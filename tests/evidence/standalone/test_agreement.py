"""`runspec verify` and verify.py say the same of good evidence, of forgeries and of hostile inputs, check by check."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.canonical import digest_text
from engine.evidence import package
from engine.evidence.bundle import read_bundle
from engine.evidence.contents import Reader
from engine.evidence.signing.private_keys import read_signing_key
from engine.evidence.signing.sign import sign
from engine.evidence.signing.trust import trusted_keys
from engine.evidence.unfinished import write_unfinished
from tests.evidence import forger
from tests.evidence.conftest import CHAT_TEMPLATE, build
from tests.evidence.hostile_inputs import CASES
from tests.evidence.standalone.conftest import Said, disagreements, python_of
from tests.evidence.test_fields import IMPOSSIBLE, NOTE, UNKNOWN
from tests.evidence.test_sessions import CHAIN, ROWS
from tests.fixtures import version_1

Alone = Callable[..., list[Said]]
COMMITTED = version_1.EVIDENCE


def _written(good: Path, variants: Iterable[tuple[str, dict[str, bytes]]], target: Path) -> list[Path]:
    """Each variant as a folder; files that did not change are hard links."""
    paths = []
    for number, (_, files) in enumerate(variants):
        path = target / f"{number}"
        path.mkdir(parents=True)
        for name, data in files.items():
            if (good / name).is_file() and (good / name).read_bytes() == data:
                os.link(good / name, path / name)
            else:
                (path / name).write_bytes(data)
        paths.append(path)
    return paths


def test_good_evidence_as_folder_and_as_zip_and_of_version_1(folder: Path, alone: Alone, tmp_path: Path) -> None:
    """All pass, word for word the same document."""
    paths = [folder, package(folder, tmp_path / "out", "toy"), COMMITTED]
    said = alone(paths)
    assert [one.code for one in said] == [0] * len(paths)
    assert disagreements(paths, said) == []


def test_evidence_of_several_sessions_and_of_an_unfinished_run(render: Any, alone: Alone, tmp_path: Path) -> None:
    """V17 passes and fails alike, and so does the refusal of what is not finished."""
    good = replace(build(tmp_path / "store", sessions=CHAIN), sessions=ROWS)
    folders = [tmp_path / name for name in ("good", "hole", "unfinished")]
    shutil.copytree(render(good), folders[0])
    shutil.copytree(render(replace(good, sessions=(ROWS[0], ROWS[2]))), folders[1])
    write_unfinished(folders[2], "toy_v1", {"left": [{"id": "train", "state": "not begun"}]}, {})
    said = alone(folders)
    assert [one.code for one in said] == [0, 5, 4]
    assert disagreements(folders, said) == []


def test_evidence_of_other_runs(render: Any, alone: Alone, tmp_path: Path) -> None:
    """A chat template, overrides, a repeated item, a changed checkout: every shipped template is filled in verify.py."""
    facts = {"chat_template": CHAT_TEMPLATE, "chat_template_sha256": digest_text(CHAT_TEMPLATE)}
    places = [tmp_path / f"store {number}" for number in range(3)]
    for place in places:
        place.mkdir()
    records = [
        build(places[0], frame="<u>{}</u><a>", template=facts),
        build(places[1], args={"train": {"num_train_steps": 4, "log_every_steps": 1}}, on_duplicate="drop"),
        build(places[2], changed_rows={2: {"eval_loss": 0.7}, 4: {"eval_loss": 0.5}}),
    ]
    environment = records[2].environment
    records[2] = replace(records[2], environment={**environment, "commit_dirty": True, "diff_sha256": "ab" * 32})
    paths = []
    for number, record in enumerate(records):
        render(record).rename(tmp_path / str(number))
        paths.append(tmp_path / str(number))
    said = alone(paths)
    assert {one.statuses["V25"] for one in said} == {"pass"}
    assert disagreements(paths, said) == []


def test_unknown_keys_and_impossible_values(folder: Path, alone: Alone, tmp_path: Path) -> None:
    """Some of each kind, word for word."""
    files = forger.files_of(folder)
    cases = [*[(file, path, NOTE) for file, path in UNKNOWN[::7]], *[case[:3] for case in IMPOSSIBLE[::9]]]
    variants = [(path, forger.put(files, file, path, value)) for file, path, value in cases]
    paths = _written(folder, variants, tmp_path / "variants")
    said = alone(paths)
    assert {one.code for one in said} == {5}
    assert disagreements(paths, said) == []


def test_some_forgeries_of_each_kind(folder: Path, alone: Alone, tmp_path: Path) -> None:
    """Every sixty-seventh value; the whole campaign is slow."""
    files = forger.files_of(folder)
    some = itertools.chain(itertools.islice(forger.alone(files), 3, None, 67), forger.together(files, every=67))
    paths = _written(folder, some, tmp_path / "forged")
    assert len(paths) > 15
    assert disagreements(paths, alone(paths)) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)  # each of 500 is verified twice
@pytest.mark.parametrize("forge", [forger.alone, forger.together])
def test_every_forgery(folder: Path, alone: Alone, tmp_path: Path, forge: Any) -> None:
    """More than 400 variants of each kind."""
    paths = _written(folder, forge(forger.files_of(folder)), tmp_path / "forged")
    assert len(paths) > 400
    assert disagreements(paths, alone(paths)) == []


def _without(names: Iterable[str], files: dict[str, bytes]) -> dict[str, bytes]:
    return forger.sealed({name: data for name, data in files.items() if name not in names})


def test_missing_files_damaged_bytes_and_added_ones(folder: Path, alone: Alone, tmp_path: Path) -> None:
    """Each file left out, each cut in the middle, each emptied, one that nobody named."""
    files = forger.files_of(folder)
    variants = [(name, _without([name], files)) for name in files]
    variants += [(name, forger.sealed({**files, name: data[: len(data) // 2]})) for name, data in files.items()]
    variants += [(name, forger.sealed({**files, name: b"{}\n"})) for name in files]
    variants.append(("more", forger.sealed({**files, "more.py": b"print(1)\n"})))
    variants.append(("line ends", {name: data.replace(b"\n", b"\r\n") for name, data in files.items()}))
    variants = variants[::3]  # each file once
    paths = _written(folder, variants, tmp_path / "damaged")
    for part in (True, False):  # of damaged YAML the parser's own words may differ
        chosen = [path for path, (name, _) in zip(paths, variants, strict=True) if (name != "runspec.yaml") is part]
        assert disagreements(chosen, alone(chosen), details=part) == []


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 8))])
def test_hostile_inputs(folder: Path, alone: Alone, tmp_path: Path, part: int) -> None:
    """Every eighth of those that are not large is refused with the same finding; the others are slow."""
    files = {name: data for name, data in forger.files_of(folder).items() if name != "verify.py"}
    paths = []
    for number, case in enumerate([case for case in CASES if not case.is_large][part::8]):
        (tmp_path / str(number)).mkdir()
        paths.append(case.make(files, tmp_path / str(number)))
    said = alone(paths)
    assert 0 not in {one.code for one in said}
    assert disagreements(paths, said) == []


RUN_SPECS = {
    "no YAML": "a: [1", "a tag": "a: !!str x", "two documents": "a: 1\n---\nb: 2", "an alias of nothing": "a: *b", "a list": "[1]",
    "comments": "# nothing\n", "text": "text", "merge": "<<: {a: 1}\n", "twice": "a: 1\na: 2\n", "a tab": "a:\n\tb: 1\n",
}  # fmt: skip


def test_run_specs_that_are_none(folder: Path, alone: Alone, tmp_path: Path) -> None:
    """The same check fails; the parser's own words may differ."""
    files = forger.files_of(folder)
    variants = [(name, forger.sealed({**files, "runspec.yaml": text.encode()})) for name, text in RUN_SPECS.items()]
    paths = _written(folder, variants, tmp_path / "specs")
    said = alone(paths)
    assert {one.statuses["V06"] for one in said} == {"fail"}
    assert disagreements(paths, said, details=False) == []


@pytest.mark.parametrize("version", [pytest.param("", marks=pytest.mark.slow), "3.9"])
def test_signatures(folder: Path, alone: Alone, tmp_path: Path, version: str) -> None:
    """By a trusted key, by another one, over other bytes: level L1 or not, word for word, without a library."""
    pytest.importorskip("cryptography")
    python = python_of(version) if version else sys.executable
    keys = [tmp_path / "ann", tmp_path / "bob"]
    for key in keys:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    plain = package(folder, tmp_path / "unsigned", "toy")
    sign(folder, read_signing_key(keys[0]))
    signed = package(folder, tmp_path / "signed", "toy")
    forged = tmp_path / "forged"
    shutil.copytree(folder, forged)
    envelope = (forged / "provenance.dsse.json").read_text().replace('"sig": "', '"sig": "A', 1)
    (forged / "provenance.dsse.json").write_text(envelope)
    paths, levels = [plain, folder, signed, forged], []
    for key in keys:
        line = f"someone@example.org {key.with_suffix('.pub').read_text()}"
        (tmp_path / "trusted").write_text(line)
        said = alone(paths, python, options=["--trust", str(tmp_path / "trusted")])
        reader = Reader(trusted_keys(line, str(tmp_path / "trusted")))
        assert disagreements(paths, said, details=not version, reader=reader) == []
        levels.append([one.document["trust_level"] for one in said])
    assert levels == [[None, "L1", "L1", None], [None] * 4]  # a key that the reader trusts must have signed


def test_a_bundle_is_what_is_compared(folder: Path) -> None:
    """The evidence has verify.py, so that the cases above are about evidence as a stranger gets it."""
    assert "verify.py" in read_bundle(folder).files
