"""The page that travels with the evidence: made from the other files alone, true where it is, and checked byte for byte."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.assets import asset
from engine.canonical import digest_bytes, pretty_json
from engine.evidence import package, verify
from engine.evidence.about import ABOUT_NAMES
from engine.evidence.checklist import CHECKS, RERUN_CHECKS, WEIGHTS_CHECKS
from engine.evidence.levels import SCALE
from engine.evidence.report import packaged_page
from tests.evidence.report.parsed import Page

REPOSITORY = Path(__file__).resolve().parents[3]
ABOUT = {*ABOUT_NAMES, "manifest-sha256.txt", "verify.py"}


def page_of(folder: Path) -> bytes:
    return (folder / "report.html").read_bytes()


def made_again(folder: Path) -> bytes:
    return packaged_page({path.name: path.read_bytes() for path in folder.iterdir() if path.name not in ABOUT})


def test_folder_and_zip_have_the_page(folder: Path, tmp_path: Path) -> None:
    """The same bytes in both, which follow from the other files."""
    with zipfile.ZipFile(package(folder, tmp_path / "submission", "toy")) as members:
        assert members.read("toy_v1/report.html") == page_of(folder) == made_again(folder)


def test_the_page_says_nothing_that_it_cannot_know(folder: Path) -> None:
    """No trust level, no outcome of a check, no signature: how to find these out, with the whole scale."""
    shown = Page(page_of(folder)).shown()
    assert "80.0 % answer_correctness@v1 over 5 items: 1 wrong" in shown
    assert "model toy/model trained on toy, 4 train steps, last loss 0.2500 asked items.jsonl" in shown
    assert "A page cannot vouch for itself." in shown
    assert (
        shown.index("python verify.py") < shown.index("runspec verify PATH") < shown.index("L0 it agrees with itself")
    )
    for claim in ("verified", "Trust level", "shown Proves", "unsigned", " pass ", "n/a"):
        assert claim not in shown


def test_the_page_has_the_whole_scale(folder: Path) -> None:
    """In the words of ``verify``: the template's are compared with the scale that there is."""
    shown = Page(page_of(folder)).shown()
    for rung in SCALE:
        assert f"{rung.name} {rung.title} Proves: {rung.proves}. Takes: {rung.takes}.".replace("`", "") in shown


def test_the_page_names_every_check(folder: Path) -> None:
    """In the order of ``verify`` and by its titles: the template's words are compared with the checks that there are."""
    page = page_of(folder).decode()
    rows = re.findall(r'<tr><th scope="row">(V\d\d)</th><td>(.*?)</td><td>(.*?)</td></tr>', page)
    *checks, level = verify(folder).checks
    expected = [(id_, title) for id_, title, _ in (*CHECKS, *RERUN_CHECKS, *WEIGHTS_CHECKS)] + [(level.id, level.title)]
    assert [check.id for check in checks] == [id_ for id_, _, _ in CHECKS]
    assert [(id_, title.replace("&#39;", "'")) for id_, title, _ in rows] == expected
    assert all(len(proves) > 20 for _, _, proves in rows)


@pytest.mark.parametrize(
    ("old", "new"), [(b"80.0 %", b"100.0 %"), (b"</html>\n", b"</html>\n<script></script>\n"), (b"1 wrong", b"0 wrong")]
)
def test_a_changed_page_is_found(folder: Path, reseal: Callable[[Path], None], old: bytes, new: bytes) -> None:
    """With the list of digests written again, V25 names the page and the line."""
    page = page_of(folder)
    assert old in page
    (folder / "report.html").write_bytes(page.replace(old, new))
    reseal(folder)
    assert [(check.id, check.detail[:17]) for check in verify(folder).failed] == [("V25", "report.html, line")]


def test_a_page_of_another_template_is_found(folder: Path, edit: Any, reseal: Callable[[Path], None]) -> None:
    """A stranger's template is not even looked for among the files: the page is the engine's own, by digest."""
    own = b"<!doctype html><title>100 %</title>\n"
    (folder / "report.html").write_bytes(own)
    (folder / "report.html.j2").write_bytes(own)
    edit(
        folder / "run_record.json",
        lambda record: record["templates"].update({"report.html": {"report.html.j2": digest_bytes(own)}}),
    )
    reseal(folder)
    failed = {check.id: check.detail for check in verify(folder).failed}
    assert failed["V25"] == "report.html is not made by a template of this engine, as run_record.json lists it"
    assert "report.html.j2" in failed["V28"]


def test_the_page_does_not_depend_on_the_process(folder: Path, tmp_path: Path) -> None:
    """Another hash seed, time zone, locale and folder give the same bytes."""
    out = tmp_path / "page.html"
    code = (
        "import sys; from pathlib import Path; from engine.evidence.report import packaged_page\n"
        f"folder, about = Path({str(folder)!r}), {sorted(ABOUT)!r}\n"
        "files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in about}\n"
        f"Path({str(out)!r}).write_bytes(packaged_page(files))\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Kolkata", "LC_ALL": "C", "PYTHONUTF8": "0",
                   "PYTHONPATH": str(REPOSITORY)}  # fmt: skip
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert out.read_bytes() == page_of(folder)


def test_a_project_cannot_word_the_page(record: Any, render: Any, tmp_path: Path) -> None:
    """A template of this name in the project is refused before anything is written."""
    own = tmp_path / "templates"
    own.mkdir()
    (own / "report.html.j2").write_text("<!doctype html>{{ primary_score }}\n")
    with pytest.raises(Exception, match="E127"):
        render(record, templates=own)
    (own / "report.html.j2").write_bytes(asset("templates", "report.html.j2").read_bytes())
    assert "A page cannot vouch for itself." in Page(page_of(render(record, templates=own))).shown()


def test_the_record_names_the_pages_template(folder: Path) -> None:
    """By digest, as that of every other file that a template made."""
    digest = digest_bytes(asset("templates", "report.html.j2").read_bytes())
    assert pretty_json({"report.html.j2": digest}).strip()[1:-1].strip() in (folder / "run_record.json").read_text()
