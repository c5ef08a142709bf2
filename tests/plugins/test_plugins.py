"""A step of somebody else's package runs like a built-in one; a broken package breaks nobody else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_an_installed_plugin_validates_plans_runs_and_is_then_skipped(
    installed: dict[str, Path], runspec: Any, project: Path
) -> None:
    see = (installed["sample"],)
    assert runspec("validate", "runspecs/words.yaml", see=see).returncode == 0
    done = runspec("run", "runspecs/words.yaml", "--to", "words", see=see)
    assert done.returncode == 0, done.stderr
    words = json.loads(next((project / ".runspec/store/word_count").rglob("words.json")).read_text())
    assert len(words) == 2
    plan = json.loads(runspec("plan", "runspecs/words.yaml", "--json", see=see).stdout)
    assert [step["action"] for step in plan["steps"]] == ["skip", "skip"]


def test_the_arguments_of_a_plugin_are_checked_by_its_own_schema(
    installed: dict[str, Path], runspec: Any, project: Path
) -> None:
    path = project / "runspecs" / "words.yaml"
    path.write_text(path.read_text().replace("most: 2", "mots: 2"))
    done = runspec("validate", "runspecs/words.yaml", see=(installed["sample"],))
    assert done.returncode == 2
    assert 'did you mean "most"?' in done.stderr + done.stdout


def test_without_the_package_its_kind_is_unknown(runspec: Any) -> None:
    done = runspec("validate", "runspecs/words.yaml")
    assert done.returncode == 2
    assert "count_words" in done.stderr + done.stdout


def test_a_broken_package_cannot_break_the_validation_of_others(installed: dict[str, Path], runspec: Any) -> None:
    see = (installed["broken"], installed["sample"])
    for spec in ("plain", "words"):
        done = runspec("validate", f"runspecs/{spec}.yaml", see=see)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr


def test_a_broken_package_is_named_by_the_list_of_steps(installed: dict[str, Path], runspec: Any) -> None:
    done = runspec("steps", see=(installed["broken"],))
    said = done.stdout + done.stderr
    assert done.returncode == 0
    for name in ("raises_on_import", "does_not_exist", "is_no_handler", "score"):
        assert f'step plug-in "{name}" of runspec-broken-steps' in said
    assert "this plug-in was built for another age" in said


def test_a_plugin_cannot_take_the_name_of_a_builtin_kind(installed: dict[str, Path], runspec: Any) -> None:
    done = runspec("steps", "--json", see=(installed["broken"],))
    kinds = {row["uses"]: row for row in json.loads(done.stdout)["steps"]}
    assert kinds["score"]["title"] != "not the real one"
