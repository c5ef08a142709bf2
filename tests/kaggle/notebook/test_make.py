"""The generated notebook as a file: nine cells, equal bytes, a digest for everything in it, and what it refuses to carry."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cli import main
from engine.commands.loading import load
from engine.errors import InputInvalid
from engine.kaggle.driver.planning import model_sources
from engine.kaggle.notebook import MOST_BYTES, NotebookRequest, make_notebook
from engine.kaggle.notebook.cells import MARKDOWN, _long_literal, cells, digest_of
from engine.kaggle.notebook.embed import digest_of_files, engine_files, pack, packed_engine, unpack
from engine.kaggle.session.edits import TITLES, digest_of_cell
from engine.steps.registry import HANDLERS

REQUEST = NotebookRequest(session_limit="8h30m", nonce="0123abcd", target="kaggle-t4x2")


@pytest.fixture(scope="module")
def made_twice(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The notebook of m36, made in two folders."""
    found = []
    for folder in (repository, tmp_path_factory.mktemp("elsewhere")):
        with contextlib.chdir(folder):
            spec, _ = load(str(repository / "runspecs" / "m36.yaml"))
            found.append(make_notebook(spec, REQUEST))
    return found


def test_equal_inputs_give_equal_bytes_that_fit(made_twice: list[Any]) -> None:
    """Law: nothing of the time, the folder or the machine; well below what Kaggle takes, with room for rows."""
    one, other = made_twice
    assert one == other
    assert one.n_bytes == len(one.text.encode()) < 900_000 < MOST_BYTES


def test_it_is_nbformat_with_nine_cells_and_nothing_run(made_twice: list[Any]) -> None:
    """Law: valid, no outputs, no `kaggle` in the metadata; each of the runbook's cells has a text before it."""
    document = json.loads(made_twice[0].text)
    nbformat.validate(document)
    assert "kaggle" not in document["metadata"]
    code = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in code] == list(TITLES)
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    kinds = [cell["cell_type"] for cell in document["cells"]]
    assert all(kinds[index - 1] == "markdown" for index, kind in enumerate(kinds) if kind == "code")


def test_each_cell_is_a_call_of_a_line_or_two(made_twice: list[Any]) -> None:
    """Law: but for what is carried and what a person may change, a cell is its title and one call."""
    code = {cell["id"]: "".join(cell["source"]) for cell in json.loads(made_twice[0].text)["cells"]}
    short = [name for name in TITLES if name not in ("engine", "configuration")]
    assert {name: code[name].count("\n") for name in short} == dict.fromkeys(short, 1)
    assert "SESSION_LIMIT = '8h30m'" in code["configuration"]
    assert "'kind': 'Tesla T4', 'devices': 2" in code["engine"]
    assert "nonce='0123abcd'" in code["engine"]


def test_the_first_cell_can_be_read_by_an_old_python(made_twice: list[Any]) -> None:
    """Law: an image that is too old gets our sentence, not a syntax error."""
    source = next(cell for cell in json.loads(made_twice[0].text)["cells"] if cell["id"] == "engine")["source"]
    ast.parse("".join(source), feature_version=(3, 7))


def test_the_engine_that_travels_is_this_one() -> None:
    """Law: everything that the wheel has but most documents; the digest is over the contents, not over the compression."""
    files = engine_files()
    assert {"engine/cli.py", "engine/_assets/schemas/runspec.schema.json", "engine/_assets/runspecs/m36.yaml",
            "engine/_assets/templates/kaggle/constraints.txt", "engine/_assets/docs/reference/errors.md"} <= set(files)  # fmt: skip
    assert not [name for name in files if "__pycache__" in name or name.endswith(".pyc")]
    packed = packed_engine()
    assert unpack(packed.text) == files
    assert packed.sha256 == digest_of_files(dict(reversed(files.items())))
    assert digest_of_files({**files, "engine/cli.py": b"other"}) != packed.sha256
    assert pack({"b": b"1", "a": b"2"}) == pack({"a": b"2", "b": b"1"})


@given(st.text())
def test_any_text_comes_back_from_its_literal(text: str) -> None:
    """Law: the configuration cell's run-spec is the file's, whatever is in it."""
    assert ast.literal_eval(_long_literal(text)) == text


@pytest.mark.parametrize("change", ["\n", "  \n", "\r\n"])
def test_a_cell_keeps_its_digest_where_an_editor_changes_the_ends_of_lines(change: str) -> None:
    """Law: white space at the ends of lines is not an edit; any other character is."""
    assert digest_of_cell(f"a = 1{change}b = 2{change}") == digest_of_cell("a = 1\nb = 2")
    assert digest_of_cell("a = 1\nb = 2") != digest_of_cell("a = 1\nb = 3")


def test_the_first_cell_has_the_digests_of_all_itself_included(made_twice: list[Any]) -> None:
    """Law: what a kernel finds is what the generator says."""
    document = json.loads(made_twice[0].text)
    source = {cell["id"]: "".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"}
    line = next(line for line in source["engine"].splitlines() if line.startswith("CELLS = "))
    assert ast.literal_eval(line.removeprefix("CELLS = ")) == {
        name: digest_of_cell(text) for name, text in source.items()
    }


def test_no_value_begins_a_cell(made_twice: list[Any], notebook_of: Callable[..., Any], tiny: str) -> None:
    """Law: a run-spec with the template's own marks in it stays in its cell."""
    text = tiny + "# %% [markdown]\n# {{ run_version }} {% if %} '''\n"
    _, document = notebook_of(text)
    assert len(document["cells"]) == len(json.loads(made_twice[0].text)["cells"])
    configuration = next(cell for cell in document["cells"] if cell["id"] == "configuration")
    module = ast.parse("".join(configuration["source"]))
    assert ast.literal_eval(module.body[0].value) == text  # type: ignore[attr-defined]


def _refused(
    notebook_of: Callable[..., Any], text: str, request: NotebookRequest | None = None, *overrides: str
) -> Any:
    with pytest.raises(InputInvalid) as caught:
        notebook_of(text, request, *overrides)
    return caught.value


def test_rows_that_do_not_fit_are_refused_with_the_ways_out(
    notebook_of: Callable[..., Any], tiny: str, tmp_path: Path
) -> None:
    """G101: the size, the largest files, the dataset for the engine."""
    rows = tmp_path / "project" / "rows.jsonl"
    rows.parent.mkdir()
    rows.write_text(
        "".join(
            json.dumps({"prompt": secrets.token_hex(200), "steps": ["a"], "final_answer": "b"}) + "\n"
            for _ in range(1500)
        )
    )
    error = _refused(notebook_of, tiny.replace("dataset: quickstart-reasoning", "dataset: {path: rows.jsonl}"))
    assert (error.code, error.exit_code) == ("G101", 2)
    assert "rows.jsonl (" in error.hint
    assert "--wheel-dataset OWNER/SLUG" in error.hint


def test_a_folder_of_weights_is_refused(
    notebook_of: Callable[..., Any], tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G103: what the platform cannot reach, by its name, with what it can."""
    spec, _ = load_tiny(notebook_of, tiny, tmp_path)
    with pytest.raises(InputInvalid, match="cannot reach the folder of the model, models/mine") as caught:
        make_notebook(
            dataclasses.replace(spec, model=dataclasses.replace(spec.model, path="models/mine")), NotebookRequest()
        )
    assert caught.value.code == "G103"


def load_tiny(notebook_of: Callable[..., Any], tiny: str, tmp_path: Path) -> Any:
    """The tiny spec as a value."""
    notebook_of(tiny)
    return load(str(tmp_path / "project" / "runspecs" / "tiny.yaml"))


def test_a_step_of_another_package_is_refused(notebook_of: Callable[..., Any], tiny: str, tmp_path: Path) -> None:
    """G104: the step, its kind and its place."""
    spec, _ = load_tiny(notebook_of, tiny, tmp_path)
    with pytest.raises(InputInvalid, match='step "score" is of the kind score') as caught:
        make_notebook(spec, NotebookRequest(), (set(HANDLERS) - {"score"}).__contains__)
    assert caught.value.code == "G104"


def test_a_secret_is_never_embedded(notebook_of: Callable[..., Any], tiny: str) -> None:
    """G105: in the notes of a run-spec, by its shape; the message has the place and not the secret."""
    secret = "hf_" + "a1B2" * 9
    error = _refused(notebook_of, tiny.replace("A Gemma of some", secret))
    assert error.code == "G105"
    assert "tiny.yaml:3" in str(error)
    assert secret not in str(error)


REQUESTS = {
    "offline alone": (NotebookRequest(offline=True), "G102"),
    "no owner": (NotebookRequest(wheel_dataset="wheels"), "G102"),
    "no name": (NotebookRequest(earlier="run"), "G102"),
    "no time": (NotebookRequest(session_limit="8"), "G102"),
    "retired": (NotebookRequest(target="kaggle-p100"), "G106"),
    "unknown": (NotebookRequest(target="kaggle-t5"), "U116"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_request_that_cannot_be_is_refused(case: str, notebook_of: Callable[..., Any], tiny: str) -> None:
    """Before anything is written, with the code of its kind."""
    request, code = REQUESTS[case]
    assert _refused(notebook_of, tiny, request).code == code


def test_overrides_and_local_files_travel(notebook_of: Callable[..., Any], tiny: str) -> None:
    """The overrides stand in the configuration cell; the eval set is carried under its path."""
    made, document = notebook_of(tiny, None, "train.num_train_steps=5")
    sources = ["".join(cell["source"]) for cell in document["cells"]]
    assert any("OVERRIDES = ['train.num_train_steps=5']" in source for source in sources)
    blob = (
        next(source for source in sources if "PROJECT = embedded" in source)
        .split('PROJECT = embedded("""\n')[1]
        .split('\n"""')[0]
    )
    assert list(unpack(blob)) == ["evalsets/quickstart.jsonl"]
    assert made.engine_sha256 == digest_of_files(engine_files())


def test_files_that_are_too_large_can_stay_in_a_dataset(notebook_of: Callable[..., Any], tiny: str) -> None:
    """They are left out of the notebook, which has their digests."""
    files = (("evalsets/quickstart.jsonl", "evalsets__quickstart.jsonl", "0" * 64),)
    _, document = notebook_of(tiny, NotebookRequest(data_dataset="acme/data", data_files=files))
    source = next("".join(cell["source"]) for cell in document["cells"] if cell["id"] == "engine")
    assert f"data_dataset='acme/data', data_files={list(files)!r}" in source
    blob = source.split('PROJECT = embedded("""\n')[1].split('\n"""')[0]
    assert unpack(blob) == {}


def test_the_digest_of_the_cells_is_that_of_code_alone() -> None:
    """A changed text around the code is not an edit."""
    values: dict[str, Any] = dict.fromkeys(
        ("version", "run_version", "notes", "spec_path", "spec_text", "overrides", "session_limit", "wheel_dataset", "documents",
         "wheelhouse", "needs_token", "hub_model", "expected", "nonce", "earlier", "data_dataset", "data_files"), ""
    )  # fmt: skip
    values |= {
        "engine": pack({"a": b""}),
        "project": pack({}),
        "messages": dict.fromkeys(("old_python", "damaged", "other_wheel", "no_wheel"), ""),
    }
    one, other = cells(values), cells({**values, "notes": "other"})
    assert one != other
    assert digest_of(one) == digest_of(other)
    assert [cell.kind for cell in one if cell.kind != MARKDOWN] == list(TITLES)


GEMMA = "google/gemma/transformers/2b/3"


def test_the_preset_needs_no_token_with_the_model_of_kaggle(repository: Path) -> None:
    """Nothing is edited for it: one override, which the notebook's configuration has, too."""
    spec, _ = load(str(repository / "runspecs" / "m36.yaml"), [f"model={{kaggle: {GEMMA}}}"])
    assert model_sources(spec) == [GEMMA]
    made = make_notebook(spec, dataclasses.replace(REQUEST, overrides=[f"model={{kaggle: {GEMMA}}}"]))
    code = {cell["id"]: "".join(cell["source"]) for cell in json.loads(made.text)["cells"]}
    assert "needs_token=False, hub_model=None" in code["engine"]
    assert f"OVERRIDES = ['model={{kaggle: {GEMMA}}}']" in code["configuration"]


def _added(document: Any) -> None:
    document["cells"].append({**document["cells"][-1], "id": "mine", "source": "my work"})


def _changed(document: Any) -> None:
    cell = next(cell for cell in document["cells"] if cell["id"] == "configuration")
    cell["source"] = "".join(cell["source"]).replace("OVERRIDES = []", "OVERRIDES = ['train.seed=7']")


def _run(document: Any) -> None:
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"execution_count": 1, "outputs": [{"output_type": "stream", "name": "stdout", "text": "done"}]}


@pytest.mark.parametrize(
    ("edit", "said"),
    [(_run, None), (_changed, "was edited: configuration"), (_added, "was edited: a cell that was added")],
)
def test_what_somebody_edited_is_not_replaced(
    edit: Callable[[Any], None], said: str | None, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same file is written again, run or not; a person's own lines are not lost."""
    out = tmp_path / "mine.ipynb"
    command = ["kaggle", "notebook", str(repository / "runspecs" / "quickstart.yaml"), "--out", str(out)]
    assert main(command) == 0
    document = json.loads(out.read_text())
    edit(document)
    out.write_text(json.dumps(document))
    before = out.read_bytes()
    assert main(command) == (0 if said is None else 2)
    err = capsys.readouterr().err
    assert (out.read_bytes() == before, "error[G107]" in err) == ((said is not None),) * 2
    assert said is None or said in err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        '{"cells": 1}',
        '{"cells": [1, {"cell_type": "code", "source": ["CELLS = {1"]}]}',
        "[" * 9999,
    ],
)
def test_a_file_of_other_origin_is_not_replaced(
    text: str, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is in it."""
    out = tmp_path / "mine.ipynb"
    out.write_text(text)
    assert main(["kaggle", "notebook", str(repository / "runspecs" / "quickstart.yaml"), "--out", str(out)]) == 2
    assert "is not a notebook that this command wrote" in capsys.readouterr().err
    assert out.read_text() == text
