"""Code of the engine's own templates is kept beside its compiled modules; of a stranger's text nothing is."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import jinja2
import pytest

from engine.canonical import pretty_json
from engine.evidence import kept
from engine.evidence.bundle import Bundle
from engine.evidence.kept import code as kept_code
from engine.evidence.report.environment import JinjaPageEnvironment
from engine.evidence.shipped import shipped_template
from engine.evidence.templates import load_template
from engine.evidence.verify import verify_bundle

FILE = "eval_summary.json"
TEMPLATE = f"{FILE}.j2"


@pytest.fixture
def folder_of_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is kept, empty."""
    monkeypatch.setattr(kept, "_FOLDER", tmp_path)
    monkeypatch.setattr(kept_code, "_CODE", {})
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return tmp_path


def compiled_by_jinja(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    """How often Jinja itself compiles, when a process that has compiled nothing yet asks for the template."""
    calls: list[str] = []
    monkeypatch.setattr(kept_code, "_CODE", {})
    monkeypatch.setattr("engine.sandbox._COMPILED", {})
    of_jinja = jinja2.Environment._compile
    monkeypatch.setattr(
        jinja2.Environment, "_compile", lambda self, source, name: calls.append(name) or of_jinja(self, source, name)
    )
    load_template(FILE, [{TEMPLATE: text}])
    monkeypatch.undo()
    return len(calls)


def test_the_next_process_finds_the_code(folder_of_kept: Path) -> None:
    """Compiled once; again where a byte of it changed, and where another Python, Jinja or engine made it."""
    text = shipped_template(TEMPLATE) or ""

    def asked() -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kept, "_FOLDER", folder_of_kept)
            patch.setattr(sys, "dont_write_bytecode", False)
            return compiled_by_jinja(patch, text)

    assert [asked(), asked()] == [1, 0]
    [file] = folder_of_kept.iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert [asked(), asked()] == [1, 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jinja2, "__version__", "another")
        kept_code._versions.cache_clear()
        assert asked() == 1
    kept_code._versions.cache_clear()


def test_nothing_is_kept_of_a_strangers_text(folder_of_kept: Path) -> None:
    """Of a template by the name of a shipped one, and of a page's."""
    load_template(FILE, [{TEMPLATE: "{{ 1 }}"}])
    JinjaPageEnvironment(str).of_text("report.html.j2", "{{ 1 }}")
    assert list(folder_of_kept.iterdir()) == []


def test_the_page_is_the_same_from_kept_code(folder_of_kept: Path) -> None:
    """The second environment has the code that the first one kept."""
    text = shipped_template("README.txt.j2") or ""
    first, second = (JinjaPageEnvironment(str).of_text("README.txt.j2", text) for _ in range(2))
    assert len(list(folder_of_kept.iterdir())) == 1
    assert first.root_render_func.__code__ == second.root_render_func.__code__


def test_the_collector_runs_again_after_a_verification() -> None:
    """It rests while the checks run; where it was off, it stays off."""
    for is_on in (True, False):
        (gc.enable if is_on else gc.disable)()
        verify_bundle(Bundle("folder", {"run_record.json": pretty_json({}).encode()}))
        assert gc.isenabled() is is_on
    gc.enable()
