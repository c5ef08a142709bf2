"""A project's own templates travel with the evidence, and what they render is checked like everything else."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord
from engine.assets import asset
from engine.canonical import digest_text
from engine.errors import InputInvalid
from engine.evidence import package, verify
from engine.evidence.about import ABOUT_NAMES
from engine.evidence.standalone.outcome import verification_json, verification_text
from tests.evidence.conftest import FILES


def _detail(path: Path, id_: str) -> str:
    [check] = [check for check in verify(path).checks if check.id == id_]
    return f"{check.status}: {check.detail}"


@pytest.fixture
def own(record: RunRecord, render: Any, tmp_path: Path) -> Callable[[str, str], Path]:
    """``own(file, text)`` -> evidence for which the project has one template of its own."""

    def call(file: str, text: str) -> Path:
        templates = tmp_path / "templates"
        templates.mkdir()
        (templates / f"{file}.j2").parent.mkdir(exist_ok=True)
        (templates / f"{file}.j2").write_text(text)
        folder: Path = render(record, files=tuple(dict.fromkeys((*FILES, file))), templates=templates)
        return folder

    return call


def test_a_template_travels_with_its_digest(own: Any, tmp_path: Path) -> None:
    """The package has it, the record names it, and the file is rendered again with it."""
    folder = own("card.md", "{{ model_id }}: {{ primary_score }}\n")
    templates = json.loads((folder / "run_record.json").read_text())["templates"]
    assert templates["card.md"] == {"card.md.j2": digest_text("{{ model_id }}: {{ primary_score }}\n")}
    assert sorted(templates) == sorted(["card.md", *FILES, *ABOUT_NAMES])
    with zipfile.ZipFile(package(folder, tmp_path / "out", "toy")) as archive:
        assert "toy_v1/card.md.j2" in archive.namelist()
    assert verify(folder).ok


@pytest.mark.parametrize("file", ["card.md", "card.md.j2"])
def test_a_changed_file_or_template_of_the_project_is_found(own: Any, reseal: Any, file: str) -> None:
    """Each without the other."""
    folder = own("card.md", "{{ model_id }}: {{ primary_score }}\n")
    (folder / file).write_text("toy/model: 1.0\n")
    reseal(folder)
    assert _detail(folder, "V25").startswith("fail: ")


def test_a_template_cannot_state_another_score(own: Any) -> None:
    """Of the named files the values are compared too, whatever rendered them."""
    text = asset("templates", "eval_summary.json.j2").read_text().replace("{{ primary_score | tojson }}", "0.99")
    assert (
        _detail(own("eval_summary.json", text), "V25")
        == "fail: primary_score is 0.99 in eval_summary.json, and follows as 0.8"
    )


def test_a_log_of_the_projects_own_needs_the_summary_and_the_losses(own: Any) -> None:
    """Neither may be left out."""
    detail = _detail(own("kaggle_output_log.txt", "all went well\n"), "V25")
    assert detail.startswith(
        "fail: the RESULT SUMMARY in the log differs from eval_summary.json; the log has 0 of 3 loss"
    )


def test_a_template_that_cannot_travel_is_refused(record: RunRecord, render: Any, tmp_path: Path) -> None:
    """E126, before anything is written."""
    parts = tmp_path / "templates" / "parts"
    parts.mkdir(parents=True)
    (parts / "head.j2").write_text("x")
    (tmp_path / "templates" / "card.md.j2").write_text("{% include 'parts/head.j2' %}")
    with pytest.raises(InputInvalid) as caught:
        render(record, files=(*FILES, "card.md"), templates=tmp_path / "templates")
    assert str(caught.value) == (
        "error[E126]: the template parts/head.j2 cannot be among the evidence files: it is in a folder below templates/\n"
        "   = help: rename it, and keep it in templates/ itself"
    )
    assert not (tmp_path / "submission_runs").exists()


@pytest.mark.parametrize("text", ["{{ 1 | round(1, 'x') }}", "{{ 1 / 0 }}", "{{ range(1, 2, 0) }}"])
def test_a_strangers_template_that_fails_is_a_finding(own: Any, reseal: Any, edit: Any, text: str) -> None:
    """V25 says why, whatever exception of Jinja it is; nothing crashes."""
    folder = own("card.md", "{{ model_id }}\n")
    (folder / "card.md.j2").write_text(text)
    edit(
        folder / "run_record.json",
        lambda record: record["templates"]["card.md"].update({"card.md.j2": digest_text(text)}),
    )
    reseal(folder)
    assert _detail(folder, "V25").startswith("fail: the template cannot be rendered: ")


def test_everything_says_which_sentences_are_the_authors(own: Any) -> None:
    """V25, README.txt, report.html and --explain name the files; where there are none, none does."""
    text = (
        asset("templates", "kaggle_output_log.txt.j2")
        .read_text()
        .replace("[setup]", "witnessed by a platform\n[setup]")
    )
    folder = own("kaggle_output_log.txt", text)
    verification = verify(folder)
    assert verification.ok
    assert _detail(folder, "V25").endswith(
        "; the sentences of kaggle_output_log.txt are those of the author's own template"
    )
    assert "Worded by the author\n  kaggle_output_log.txt\n" in (folder / "README.txt").read_text()
    assert "Worded by the author&#39;s own template: kaggle_output_log.txt." in (
        (folder / "report.html").read_text().replace("author's", "author&#39;s")
    )
    said = "kaggle_output_log.txt: its sentences, which the author's own template words"
    assert said in verification_text("x", verification, explain=True)
    assert said in verification_json(verification)["stated"]


def test_nothing_says_so_where_the_engine_words_all(folder: Path) -> None:
    """No file is named."""
    assert "own template" not in _detail(folder, "V25")
    assert "Worded by" not in (folder / "README.txt").read_text() + (folder / "report.html").read_text()
    assert "own template" not in verification_text("x", verify(folder), explain=True)
