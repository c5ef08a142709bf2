"""A plug-in whose schema has keywords from before their renaming works, and is named with the new ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.cli import main
from engine.commands.loading import load
from engine.steps import FunctionHandler, StepResult, registry

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "most": {"type": "integer", "minimum": 1, "default": 3, "unit": "words", "alsoCalled": ["top"]},
        "verbose": {"type": "boolean", "default": False, "watches": True},
    },
}
HANDLER = FunctionHandler(
    kind="count_words", version=1, title="count words", takes=("dataset",), makes="word_count",
    schema=SCHEMA, function=lambda _: StepResult(), libraries=("pip",),
)  # fmt: skip


@pytest.fixture
def old_plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if a package with this handler were installed."""
    entry = SimpleNamespace(name="count_words", dist=SimpleNamespace(name="old-steps"), load=lambda: HANDLER)
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: [entry])
    registry._discover.cache_clear()
    yield
    registry._discover.cache_clear()


def test_its_old_keywords_are_read(old_plugin: None, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another tool's name for its key is answered with its own; the handler's other parts are untouched."""
    path = project / "runspecs" / "words.yaml"
    path.write_text(path.read_text().replace("most: 2", "top: 2"))
    assert main(["validate", str(path)]) == 2
    assert 'here it is called "most"' in capsys.readouterr().err
    handler = registry.handlers()["count_words"]
    assert handler.schema["properties"]["verbose"] == {"type": "boolean", "default": False, "x-affects": ["tracking"]}
    assert handler.environment() == HANDLER.environment()
    assert (handler.makes, handler.needs_extra) == ("word_count", None)


def test_a_warning_names_the_new_keywords(old_plugin: None, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`validate` stays green and says what to rename in which package."""
    path = project / "runspecs" / "words.yaml"
    assert main(["validate", str(path)]) == 0
    assert capsys.readouterr().err == (
        'warning[X204]: step plug-in "count_words" of old-steps has keywords in its schema that have new names: '
        "unit (now x-unit), alsoCalled (now x-aliases), watches (now x-affects)\n"
        "   = help: it works as before; whoever maintains that package can rename them\n"
    )


def test_the_spec_is_loaded_with_its_defaults(old_plugin: None, project: Path) -> None:
    """The translated schema fills in what the person left out."""
    spec, _ = load(str(project / "runspecs" / "words.yaml"))
    assert spec.step("words").args == {"most": 2, "verbose": False}
