"""init and presets: a project that validates as it is, and nothing of a person's is overwritten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.assets import asset
from engine.gallery import shipped


def _files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_init_in_an_empty_folder_gives_a_project_that_validates_and_plans(runspec, tmp_path, monkeypatch):
    """The five files are there, and validate and plan take them as they are."""
    monkeypatch.chdir(tmp_path)
    done = runspec("init", "quickstart")
    assert done.code == 0, done.err
    assert _files(tmp_path) == [
        ".gitattributes", ".gitignore", "evalsets/quickstart.jsonl", "runspecs/quickstart.yaml", "schemas/runspec.schema.json",
    ]  # fmt: skip
    assert (tmp_path / ".runspec").is_dir()
    validated = runspec("validate", "runspecs/quickstart.yaml")
    assert (validated.code, validated.out) == (0, "runspecs/quickstart.yaml: ok\n"), validated.err
    planned = runspec("plan", "runspecs/quickstart.yaml", "--json")
    assert planned.code == 0, planned.out
    assert all(step["action"] == "run" for step in planned.document["steps"])


@pytest.mark.parametrize("name", sorted(name for name, spec in shipped().items() if spec.group == "presets"))
def test_every_preset_can_be_begun_with(runspec, tmp_path, monkeypatch, name):
    """init PRESET --dir writes it, and validate accepts it there."""
    monkeypatch.chdir(tmp_path)
    done = runspec("init", name, "--dir", "sub/project", "--json")
    assert done.code == 0, done.out
    assert done.document["next"][0] == "cd sub/project"
    monkeypatch.chdir(tmp_path / "sub" / "project")
    assert runspec("validate", f"runspecs/{name}.yaml").code == 0


def test_init_m36_says_how_to_get_its_notebook(runspec, tmp_path, monkeypatch):
    """The runbook is a Kaggle runbook: the command that it names writes the notebook. The quickstart names none."""
    monkeypatch.chdir(tmp_path)
    command = runspec("init", "m36", "--json").document["notebook"]
    assert command in runspec("init", "m36").out
    assert runspec(*command.removeprefix("runspec ").split()).code == 0
    assert json.loads((tmp_path / "m36_v1.ipynb").read_text())["nbformat"] == 4
    assert runspec("init", "--dir", "other", "--json").document["notebook"] is None


def test_the_schema_beside_the_spec_is_the_one_its_modeline_names(runspec, tmp_path, monkeypatch):
    """The editor finds the schema, and it is what `runspec schema` prints."""
    monkeypatch.chdir(tmp_path)
    runspec("init")
    text = (tmp_path / "runspecs" / "quickstart.yaml").read_text()
    modeline = next(line for line in text.splitlines() if "yaml-language-server" in line)
    named = tmp_path / "runspecs" / modeline.split("$schema=")[1]
    assert json.loads(named.read_text()) == runspec("schema", "--json").document


def test_a_second_init_keeps_equal_files_and_refuses_to_overwrite_others(runspec, tmp_path, monkeypatch):
    """Equal files are kept; a changed one is an error and nothing is written; --force overwrites."""
    monkeypatch.chdir(tmp_path)
    runspec("init")
    assert runspec("init", "--json").document["written"] == []
    spec = tmp_path / "runspecs" / "quickstart.yaml"
    spec.write_text("mine\n")
    (tmp_path / "evalsets" / "quickstart.jsonl").unlink()
    done = runspec("init", "--json")
    assert done.code == 2
    assert [row["code"] for row in done.document["diagnostics"]] == ["U111"]
    assert "runspecs/quickstart.yaml" in done.document["diagnostics"][0]["message"]
    assert spec.read_text() == "mine\n"
    assert not (tmp_path / "evalsets" / "quickstart.jsonl").exists()
    assert runspec("init", "--force").code == 0
    assert spec.read_bytes() == asset("runspecs", "quickstart.yaml").read_bytes()


def test_own_git_files_are_extended_once(runspec, tmp_path, monkeypatch):
    """A person's bytes stay, line ends and encoding included; ours are added at most once."""
    monkeypatch.chdir(tmp_path)
    before = {".gitignore": b"mine", ".gitattributes": b"\xef\xbb\xbf*.txt text\r\n\xff\r\n"}
    for name, data in before.items():
        (tmp_path / name).write_bytes(data)
    runspec("init")
    once = {name: (tmp_path / name).read_bytes() for name in before}
    assert once[".gitignore"].startswith(b"mine\n# ")
    assert once[".gitignore"].endswith(b"\n/.runspec/\n/submission/\n")
    assert once[".gitattributes"].startswith(before[".gitattributes"] + b"# ")
    assert b"\n/submission_runs/** -text -filter\n" in once[".gitattributes"]
    runspec("init")
    assert {name: (tmp_path / name).read_bytes() for name in before} == once


def test_an_unknown_preset_is_suggested(runspec, tmp_path, monkeypatch):
    """A typo gives the near name, of a preset or of an example, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    for typed, meant in (("quickstrat", "quickstart"), ("locl-folder", "local-folder")):
        done = runspec("init", typed, "--json")
        assert done.code == 2
        assert done.document["diagnostics"][0]["hint"] == f'did you mean "{meant}"?'
    assert list(tmp_path.iterdir()) == []


def test_init_into_a_file_is_refused(runspec, tmp_path, monkeypatch):
    """--dir that names a file is exit 2."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    assert runspec("init", "--dir", "taken").code == 2


def test_presets_and_examples_are_listed_with_their_first_comment(runspec):
    """Each says in one line what it is, in its group; a person and a program are told the same."""
    done = runspec("presets", "--json")
    rows = done.document["presets"]
    assert {"quickstart", "m36"} == {row["name"] for row in rows if row["group"] == "presets"}
    assert all(row["about"] and not row["about"].startswith("yaml-language-server") for row in rows)
    text = runspec("presets").out
    presets, examples, last = text.split("\n\n")
    assert [line.split()[0] for line in presets.split("\n")] == ["presets", "m36", "quickstart"]
    assert [line.split()[0] for line in examples.split("\n")[1:]] == [
        row["name"] for row in rows if row["group"] == "examples"
    ]
    assert all(row["about"] in text for row in rows)
    assert last == "runspec init NAME writes one here, with the files that it names\n"


def test_steps_and_schemas(runspec):
    """steps lists every built-in kind; schema prints the whole schema or one step's."""
    kinds = [row["uses"] for row in runspec("steps", "--json").document["steps"]]
    assert kinds[:6] == ["build_dataset", "smoke_run", "train_sft", "generate", "score", "result_summary"]
    assert "train_sft" in runspec("steps").out
    assert "num_train_steps" in json.loads(runspec("schema", "train_sft").out)["properties"]
    done = runspec("schema", "train_sfd", "--json")
    assert (done.code, done.document["diagnostics"][0]["hint"]) == (2, 'did you mean "train_sft"?')


def test_validate_reports_all_files_in_one_go(runspec, tmp_path, monkeypatch):
    """Several specs, one document, exit 2 when any is wrong; a missing file is one of the findings."""
    monkeypatch.chdir(tmp_path)
    runspec("init")
    (tmp_path / "bad.yaml").write_text("version: 1\nmodle: {}\n")
    done = runspec("validate", "runspecs/quickstart.yaml", "bad.yaml", "none.yaml", "--json")
    assert done.code == 2
    assert done.document["ok"] is False
    files = {row["file"] for row in done.document["diagnostics"]}
    assert len(files) == 2
    text = runspec("validate", "runspecs/quickstart.yaml", "bad.yaml")
    assert text.code == 2
    assert text.out.startswith("runspecs/quickstart.yaml: ok\nbad.yaml: ")
    assert "error[" in text.err


def test_validate_says_that_a_secret_is_in_a_run_spec(runspec, tmp_path, monkeypatch):
    """X341 with file and line, as `run` would say before its first step; the value is never shown."""
    monkeypatch.chdir(tmp_path)
    runspec("init")
    path, token = tmp_path / "runspecs" / "quickstart.yaml", "hf_" + "Ab1" * 10
    path.write_text(f"# {token}\n" + path.read_text())
    done = runspec("validate", "runspecs/quickstart.yaml")
    assert (done.code, done.out) == (2, "runspecs/quickstart.yaml: 1 error\n")
    assert "error[X341]: runspecs/quickstart.yaml:1 looks like a secret (a Hugging Face token)" in done.err
    assert token not in done.out + done.err
    path.write_text(path.read_text().replace(token, "hf_" + "x" * 34))
    assert runspec("validate", "runspecs/quickstart.yaml", "--json").document["diagnostics"] == []
