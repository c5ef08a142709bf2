"""How verify.py is made: definitions are cut out whole, older grammar means the same, and what is kept is never stale."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.evidence import kept
from engine.evidence.standalone import verify_py
from engine.evidence.standalone.kept import kept_verify_py
from engine.evidence.standalone.older_python import for_python_3_9
from engine.evidence.standalone.slices import Slicer
from engine.redact import find_secrets

MODULES = {
    "engine": "",
    "engine.a": '"""A."""\n\nimport os\nimport math\n\nfrom engine.b import one, two\n\n# why\nLIMIT = 3\n\n\n'
                'def wanted() -> Unknown:\n    """Doc."""\n    return two() + LIMIT\n\n\ndef other():\n    return one(), os, math\n',
    "engine.b": '"""B."""\n\nimport math\n\n\ndef one():\n    return 1\n\n\ndef two():\n    return math.floor(2.5)\n',
}  # fmt: skip


def test_a_slice_has_what_is_needed_and_nothing_else() -> None:
    """Definitions with their comments and docstrings, imports cut down; names in annotations are not needed."""
    slicer = Slicer(MODULES.get, {})
    slicer.need("engine.a", "wanted")
    texts = slicer.texts()
    assert texts == {
        "engine": "",
        "engine.a": '"""A."""\n\nfrom __future__ import annotations\n\nfrom engine.b import two\n\n# why\nLIMIT = 3\n\n\n'
                    'def wanted() -> Unknown:\n    """Doc."""\n    return two() + LIMIT\n',
        "engine.b": '"""B."""\n\nfrom __future__ import annotations\n\nimport math\n\n\ndef two():\n    return math.floor(2.5)\n',
    }  # fmt: skip
    namespace: dict[str, Callable[[], int]] = {}
    exec(texts["engine.b"], namespace)
    assert namespace["two"]() == 2


def test_a_stand_in_takes_the_place_of_a_definition() -> None:
    """And what only the original needed is left out."""
    slicer = Slicer(MODULES.get, {("engine.a", "wanted"): "def wanted():\n    return 7\n"})
    slicer.need("engine.a", "wanted")
    assert "engine.b" not in slicer.texts()
    assert slicer.texts()["engine.a"].endswith("def wanted():\n    return 7\n")


def test_a_name_that_does_not_exist_stops_the_making() -> None:
    """Nothing is left out silently."""
    with pytest.raises(LookupError, match=r"engine\.b has no three"):
        Slicer(MODULES.get, {}).need("engine.b", "three")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("isinstance(a, int | str)", "isinstance(a, (int, str))"),
        ("isinstance(é, int | a.B | None)", "isinstance(é, (int, a.B, None))"),
        ("isinstance(a, int)", "isinstance(a, int)"),
        ("a | b", "a | b"),
        ("dt.datetime.now(dt.UTC)", "dt.datetime.now(dt.timezone.utc)"),
        ("@dataclass(slots=True)\nclass A: pass", "@dataclass()\nclass A: pass"),
        ("'isinstance(a, int | str)'", "'isinstance(a, int | str)'"),
    ],
)
def test_older_grammar_means_the_same(text: str, expected: str) -> None:
    """Only what Python 3.9 cannot run is written in another way."""
    assert for_python_3_9(text) == expected


def test_what_is_kept_is_never_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed byte of it, or another text that it was made from: it is made again; a folder that refuses is no fault."""
    monkeypatch.setattr(kept, "_FOLDER", tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    good, file = verify_py(), tmp_path / "verify.py.kept"
    for damage in (b"", b"nothing\n", None):
        if damage is not None:
            file.write_bytes(damage)
        assert kept_verify_py() == good
    file.write_bytes(file.read_bytes() + b"print(1)\n")
    assert kept_verify_py() == good
    monkeypatch.setattr("engine.evidence.standalone.kept.assets", lambda: {"another": "text"})
    made: list[int] = []
    monkeypatch.setattr("engine.evidence.standalone.kept._made", lambda: made.append(1) or (b"another", {}))
    assert (kept_verify_py(), made) == (b"another", [1])
    monkeypatch.setattr(kept, "_FOLDER", tmp_path / "verify.py.kept" / "no folder")
    assert kept_verify_py() == b"another"


def test_the_file_has_no_secret() -> None:
    """Which is why V21 does not search it again in every package."""
    assert find_secrets({"verify.py": verify_py()}) == []
