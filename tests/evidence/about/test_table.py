"""The files about the evidence: in every folder and zip, worded by the engine alone."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from engine import assets
from engine.artifacts.journal import RunRecord
from engine.canonical import digest_text
from engine.errors import InputInvalid
from engine.evidence import check_templates, package, verify
from engine.evidence.about import ABOUT, ABOUT_NAMES
from engine.evidence.shipped import former_name, shipped_template
from tests.evidence.conftest import FILES


def test_folder_and_zip_have_them_always(record: RunRecord, render: Any, tmp_path: Path) -> None:
    """Whether the run-spec lists one of them or not, the bytes are the same."""
    folder = render(record)
    assert {path.name for path in folder.iterdir()} >= ABOUT_NAMES
    with zipfile.ZipFile(package(folder, tmp_path / "out", "toy")) as archive:
        assert sorted(name.split("/")[1] for name in archive.namelist()) == sorted(
            path.name for path in folder.iterdir()
        )
    before = (folder / "README.txt").read_bytes()
    assert (render(record, files=(*FILES, "README.txt")) / "README.txt").read_bytes() == before


@pytest.mark.parametrize("file", ABOUT, ids=lambda file: file.name)
def test_a_project_cannot_word_them(record: RunRecord, render: Any, tmp_path: Path, file: Any) -> None:
    """E127, before anything is written; a template with the engine's own text is no other one."""
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / file.source).write_bytes((assets.asset("templates") / file.source).read_bytes())
    check_templates(FILES, [templates, assets.asset("templates")])
    (templates / file.source).write_text("trust level L3")
    with pytest.raises(InputInvalid) as caught:
        render(record, templates=templates)
    assert caught.value.diagnostics[0].code == "E127"
    assert not (tmp_path / "submission_runs").exists()


@pytest.mark.parametrize("name", ["readme.txt", "README.TXT", "provenance.dsse.json"])
def test_a_file_that_looks_like_one_of_them_is_refused(name: str) -> None:
    """On some machines it would be the same file."""
    with pytest.raises(InputInvalid) as caught:
        check_templates([*FILES, name], [assets.asset("templates")])
    assert caught.value.diagnostics[0].code == "E127"


def test_a_template_that_travels_cannot_make_one_of_them(
    record: RunRecord, render: Any, reseal: Any, edit: Any
) -> None:
    """A forger brings his own README and its template, and lists both."""
    folder, text = render(record), "trust level L3\n"
    (folder / "README.txt").write_text(text)
    (folder / "README.txt.j2").write_text(text)
    edit(
        folder / "run_record.json",
        lambda record: record["templates"].update({"README.txt": {"README.txt.j2": digest_text(text)}}),
    )
    reseal(folder)
    found = {check.id: check.detail for check in verify(folder).failed}
    assert found["V25"] == "README.txt is not made by a template of this engine, as run_record.json lists it"
    assert found["V28"] == "'README.txt.j2' is not named by the record"


def test_evidence_of_an_earlier_text_is_made_by_that_text(
    record: RunRecord, render: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shipped template changes; what it made before still verifies, by the text in templates/former/."""
    folder, old = render(record), shipped_template("README.txt.j2") or ""
    root = tmp_path / "engine"
    for name in ("templates", "schemas"):
        (root / name).mkdir(parents=True)
        for path in assets.asset(name).rglob("*"):
            if path.is_file():
                target = root / name / path.relative_to(assets.asset(name))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    monkeypatch.setattr(assets, "_ROOT", root)
    (root / "templates" / "README.txt.j2").write_text(old + "\nOne line more.\n")
    assert not verify(folder).ok
    former = root / "templates" / "former" / former_name("README.txt.j2", digest_text(old))
    former.parent.mkdir()
    former.write_text(old)
    assert verify(folder).ok
    former.write_text(old + "not the same text")
    assert not verify(folder).ok
