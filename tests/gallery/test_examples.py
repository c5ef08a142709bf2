"""Every example is sound: begun with `init`, it validates and plans as it is, and what its comments say is so."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.assets import asset
from engine.commands.parsing import parse
from engine.commands.table import COMMANDS
from engine.gallery import Shipped, project_files, shipped

EXAMPLES = {name: spec for name, spec in shipped().items() if spec.group == "examples"}
# What a gallery has to show; an example of each is there, whatever else is.
SHOWS = {
    "full", "lora", "chat", "local-folder", "hub", "several-devices", "tiny-smoke", "two-training-runs", "own-template",
    "own-step", "own-data", "trackers", "cluster",
}  # fmt: skip
MOST_CHARACTERS_OF_AN_ABOUT = 120
by_name = pytest.mark.parametrize("name", sorted(EXAMPLES))


def _comments(spec: Shipped) -> list[str]:
    """The comments of a run-spec, each without its ``#``; the editor's modeline is none."""
    lines = spec.path.read_text(encoding="utf-8").split("\n")[1:]
    return [line.partition("#")[2].strip() for line in lines if "#" in line]


def _commands(spec: Shipped) -> Iterator[str]:
    """Every ``runspec …`` that its comments tell a person to type: in backquotes, or between two spaces and an end."""
    text = "\n".join(_comments(spec))
    yield from re.findall(r"`(runspec [^`]*)`", text)
    yield from re.findall(r"^(?:.*  )?(runspec \w.*?)(?:  .*)?$", re.sub(r"`[^`]*`", "", text), re.MULTILINE)


def test_the_gallery_shows_what_people_ask_for() -> None:
    """At least ten examples; full training, adapters, chat, a local folder, the hub and the rest are among them."""
    assert set(EXAMPLES) >= SHOWS


def test_no_two_run_specs_have_one_name() -> None:
    """`init NAME` means one file, and two of them begun in one project never share an evidence folder."""
    files = [*asset("runspecs").glob("*.yaml"), *asset("runspecs", "examples").glob("*.yaml")]
    assert len(shipped()) == len(files)
    versions = [re.search(r"^run_version: (\S+)", file.read_text(encoding="utf-8"), re.MULTILINE) for file in files]
    assert len({found[1] for found in versions if found}) == len(files)


@by_name
def test_an_example_says_what_it_is_for_and_why(name: str) -> None:
    """Its first comment fits into a line of `runspec presets`, and its settings have comments of their own."""
    assert 20 < len(EXAMPLES[name].about) <= MOST_CHARACTERS_OF_AN_ABOUT
    body = EXAMPLES[name].path.read_text(encoding="utf-8").partition("\nversion: 1\n")[2]
    assert "#" in body


@by_name
def test_an_example_begun_with_init_validates_without_a_warning(
    runspec: Any, begin: Callable[[str], str], name: str
) -> None:
    """`init NAME` in an empty folder, then what it says to do first, then `validate`: nothing to say."""
    done = runspec("validate", begin(name), "--json")
    assert (done.code, done.document) == (0, {"ok": True, "diagnostics": []})


@by_name
def test_an_example_is_planned_without_network(runspec: Any, begin: Callable[[str], str], name: str) -> None:
    """Every step would run, and the memory is known: of models on the hub, too."""
    done = runspec("plan", begin(name), "--json")
    assert done.code == 0, done.out
    assert {step["action"] for step in done.document["steps"]} == {"run"}
    assert done.document["memory"]["peak_bytes_per_device"] > 0


@by_name
def test_the_modeline_of_a_begun_example_leads_to_its_schema(
    runspec: Any, begin: Callable[[str], str], tmp_path: Path, name: str
) -> None:
    """An example lies one folder deeper in the checkout than in a project; the editor finds the schema in both."""
    spec = tmp_path / begin(name)
    modeline = spec.read_text(encoding="utf-8").split("\n")[0]
    assert json.loads((spec.parent / modeline.partition("$schema=")[2]).read_text(encoding="utf-8"))["properties"]
    begun, source = spec.read_bytes().split(b"\n")[1:], EXAMPLES[name].path.read_bytes().split(b"\n")[1:]
    assert begun == source


@by_name
def test_what_the_comments_tell_to_type_can_be_typed(begin: Callable[[str], str], tmp_path: Path, name: str) -> None:
    """Every `runspec …` command in a comment parses, and names the run-spec that `init` has written."""
    spec, mentioned = begin(name), {f"runspec {command.name}" for command in COMMANDS}
    for command in set(_commands(EXAMPLES[name])) - mentioned:
        words = shlex.split(re.split(r" [>|] ", command)[0])
        parse(words[1:], COMMANDS)  # raises what the person would see
        named = [word for word in words if word.endswith(".yaml")]
        assert named in ([], [spec])


def test_the_examples_do_tell_people_what_to_type() -> None:
    """The search for commands in comments finds those that are there."""
    found = {name: list(_commands(spec)) for name, spec in EXAMPLES.items()}
    assert found["several-devices"] == ["runspec plan runspecs/several-devices.yaml --target kaggle-v5e-8 --shardings"]
    assert found["own-step"] == ["runspec show own_step_v1 wrong", "runspec schema > schemas/runspec.schema.json"]


def test_every_file_beside_the_examples_belongs_to_one() -> None:
    """Data, eval sets, templates and plug-ins are each written by the `init` of some example."""
    root = asset("runspecs", "examples")
    beside = {path.relative_to(root).as_posix() for path in root.rglob("*.*") if path.is_file() and path.parent != root}
    beside = {path for path in beside if "__pycache__" not in path}
    written = {path for spec in EXAMPLES.values() for path in project_files(spec.path)}
    assert beside - written == set()


@pytest.mark.parametrize("name", ["chat", "own-data", "local-folder"])
def test_the_rows_of_an_example_are_sound(runspec: Any, begin: Callable[[str], str], name: str) -> None:
    """`dataset check` finds no bad row, no repeated prompt, and none that the eval set asks."""
    done = runspec("dataset", "check", begin(name), "--json")
    assert done.code == 0, done.out
    report = done.document
    assert (report["ok"], report["n_duplicates"], report["n_overlap"]) == (True, 0, 0)
    assert report["n_rows"] >= 12


def test_the_mesh_of_several_devices_fits_the_target_that_it_names(runspec: Any, begin: Callable[[str], str]) -> None:
    """The command of its comment prints how the weights lie, and memory and disk suffice."""
    done = runspec("plan", begin("several-devices"), "--target", "kaggle-v5e-8", "--shardings", "--json")
    assert done.document["shardings"]["train"]["mesh"] == {"fsdp": 4, "tp": 2}
    assert (done.document["memory"]["fits"], done.document["disk"]["fits"]) == (True, True)


@pytest.mark.parametrize("name", ["small-gpu", "lora", "full", "hub"])
def test_what_is_said_to_fit_a_small_gpu_fits_it(runspec: Any, begin: Callable[[str], str], name: str) -> None:
    """A T4 with 16 GB has the memory."""
    assert runspec("plan", begin(name), "--target", "t4", "--json").document["memory"]["fits"] is True


# Name of a preset or an example -> the targets that its first comments name.
NAMED_TARGETS = [
    (name, target)
    for name, spec in sorted(shipped().items())
    for target in dict.fromkeys(
        re.findall(
            r"(?:--target |\(or )([a-z][\w-]*\d)", spec.path.read_text(encoding="utf-8").partition("\nversion: ")[0]
        )
    )
]


def test_the_presets_name_targets() -> None:
    """The next test has something to look at: the runbook's run-spec names both machines of Kaggle."""
    assert [target for name, target in NAMED_TARGETS if name == "m36"] == ["kaggle-t4x2", "kaggle-v5e-8"]
    assert {name for name, _ in NAMED_TARGETS} >= {"full", "lora", "m36", "several-devices", "small-gpu"}


@pytest.mark.parametrize(("name", "target"), NAMED_TARGETS)
def test_every_preset_fits_the_targets_that_it_names(
    runspec: Any, begin: Callable[[str], str], name: str, target: str
) -> None:
    """Memory and every disk whose size is known; nobody is sent to a machine that is gone."""
    cost = runspec("plan", begin(name), "--target", target, "--json").document
    assert cost["target"]["retired"] is None
    assert cost["memory"]["fits"] is True
    assert all(row["fits"] is not False for row in cost["disk"]["disks"])
    if target.startswith("kaggle-"):  # its disk's size is known
        assert cost["disk"]["fits"] is True
        assert cost["time"]["fits"] is True


def test_the_cluster_example_makes_a_job_file(runspec: Any, begin: Callable[[str], str]) -> None:
    """`launch --print` writes the job for the machines it declares."""
    done = runspec("launch", begin("cluster"), "--print")
    assert done.code == 0, done.err
    assert "#SBATCH --nodes=2" in done.out


def test_without_its_plugin_or_model_an_example_says_what_is_missing(runspec: Any, tmp_path: Path) -> None:
    """`init` names the commands that come first, and the error of the model's folder says them again."""
    first = {name: runspec("init", name, "--json").document["next"][0] for name in ("own-step", "local-folder")}
    assert first == {
        "own-step": "pip install ./plugins/wrong_answers",
        "local-folder": "mkdir -p models && ln -s YOUR_MODEL_FOLDER models/mine",
    }
    assert (tmp_path / "plugins" / "wrong_answers" / "pyproject.toml").is_file()
    done = runspec("validate", "runspecs/local-folder.yaml", "--json")
    assert [row["code"] for row in done.document["diagnostics"]] == ["S303"]
    assert "ln -s FOLDER models/mine" in done.document["diagnostics"][0]["hint"]
