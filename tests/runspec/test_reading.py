"""Laws of the reader: exact source positions, jsonschema's verdict, number words, plug-in schemas, rules between keys."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import Diagnostic, InputInvalid, render
from engine.model_config import read_folder
from engine.runspec import check_spec, load_spec
from engine.runspec.document import MAX_NODES, parse
from engine.runspec.findings import Case, SpecFindings
from engine.runspec.kinds import base_schema
from engine.runspec.model import Spec
from engine.runspec.nodes import Items, Node, Scalar, SpecSource, plain
from engine.runspec.nodes import Mapping as Tree
from engine.runspec.scalars import as_number
from engine.runspec.schema import check
from engine.steps.registry import HANDLERS
from tests.examples import examples

QUICK = settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
STEP_LIST = "steps:\n  - {id: dataset, uses: build_dataset}\n"


@dataclass(frozen=True)
class FakeKind:
    """A kind as a plug-in would bring it."""

    kind: str
    schema: Mapping[str, Any]
    takes: tuple[str, ...] = ()
    makes: str = "thing"
    looks_ahead: tuple[str, ...] = ()


def read(text: str) -> Node:
    tree = parse(text, SpecSource("spec.yaml", tuple(text.split("\n"))))
    assert tree is not None
    return tree


def findings(
    project: Path, text: str, kinds: Mapping[str, Any] = HANDLERS, overrides: tuple[str, ...] = ()
) -> list[Diagnostic]:
    path = project / "runspecs" / "case.yaml"
    path.write_text(text, encoding="utf-8")
    return check_spec(path, overrides, kinds=kinds)


def with_step(cases: ModuleType, line: str) -> str:
    """The good spec with one more step at the end of its list."""
    good: str = cases.GOOD
    return good.replace("evidence:", f"  - {line}\nevidence:", 1)


def scalars(node: Node) -> list[Scalar]:
    if isinstance(node, Scalar):
        return [node]
    inner = node.items if isinstance(node, Items) else [entry.value for entry in node.entries.values()]
    return [scalar for child in inner for scalar in scalars(child)]


def test_every_key_and_value_of_the_presets_stands_where_its_place_says(repository: Path) -> None:
    """The text at each position begins with the word that was read there."""

    def keys(node: Node) -> list[tuple[str, Any]]:
        if isinstance(node, Tree):
            here = [(name, entry.key) for name, entry in node.entries.items()]
            return here + [pair for entry in node.entries.values() for pair in keys(entry.value)]
        return [pair for item in node.items for pair in keys(item)] if isinstance(node, Items) else []

    for path in (repository / "runspecs").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        lines, tree = text.split("\n"), read(text)
        for name, position in keys(tree):
            assert lines[position.line - 1][position.column - 1 :].startswith(name)
        for scalar in scalars(tree):
            assert lines[scalar.position.line - 1][scalar.position.column - 1 :].startswith(scalar.text[:10])


@pytest.mark.parametrize(
    ("ending", "mark"), [("\n", ""), ("\r\n", ""), ("\r", ""), ("\n", "\ufeff"), ("\r\n", "\ufeff")]
)
def test_line_ends_and_a_byte_order_mark_move_no_place(
    project: Path, cases: ModuleType, ending: str, mark: str
) -> None:
    """Files from Windows and old Macs are read as any other."""
    text = mark + cases.GOOD.replace("seq_len: 128", "seq_len: x").replace("\n", ending)
    path = project / "runspecs" / "case.yaml"
    path.write_bytes(text.encode())
    (found,) = check_spec(path, kinds=HANDLERS)
    assert found.where is not None
    assert (found.where.line, found.where.column, found.where.path) == (19, 16, "steps.train.with.seq_len")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("1_000", "1000"), ("1,000", "1000"), ("1,000,000", "1000000"), ("0,5", "0.5"), ("1 000", "1000"), ("1e−5", "1e-5"),
     ("1e–5", "1e-5"), ("1 e -5", "1e-5"), ("10^-5", "1e-5"), ("10**-5", "1e-5"), ("2k", "2000"), ("1.5M", "1500000"),
     ("1e-5f", "1e-5"), ("100", "100"), ("ten", None), ("", None), ("1e", None), ("v1.0", None), ("1.2.3", None)],
)  # fmt: skip
def test_a_number_written_another_way_is_understood_in_the_hint(written: str, meant: str | None) -> None:
    """The hint says what to write; the value itself is never guessed."""
    assert as_number(written) == meant


def test_whole_numbers_and_fractions_take_the_form_the_schema_names(project: Path) -> None:
    """``learning_rate: 1`` is 1.0 and ``num_train_steps: 1e1`` is 10: equal specs have equal fingerprints."""
    spec = load_spec(
        project / "runspecs" / "spec.yaml", ["train.num_train_steps=1e1", "train.learning_rate=1"], kinds=HANDLERS
    )
    args = spec.step("train").args
    assert (args["num_train_steps"], args["learning_rate"]) == (10, 1.0)
    assert (type(args["num_train_steps"]), type(args["learning_rate"])) == (int, float)


def test_an_eval_set_is_a_path_or_a_mapping_with_a_policy(project: Path, cases: ModuleType) -> None:
    """The path alone refuses repeated questions; a mapping declares what they mean; its path is checked like the other."""
    path = project / "runspecs" / "spec.yaml"

    def load(value: str) -> Spec:
        path.write_text(cases.GOOD.replace("eval_set: evalsets/items.jsonl", f"eval_set: {value}"))
        return load_spec(path, kinds=HANDLERS)

    found = [load(value) for value in (
        "evalsets/items.jsonl", "{path: evalsets/items.jsonl}", "{path: evalsets/items.jsonl, on_duplicate: drop}",
    )]  # fmt: skip
    assert [(spec.eval_set, spec.on_duplicate_item) for spec in found] == [
        ("evalsets/items.jsonl", "fail"), ("evalsets/items.jsonl", "fail"), ("evalsets/items.jsonl", "drop"),
    ]  # fmt: skip
    for value, code, place in (
        ("{path: evalsets/none.jsonl}", "S303", "eval_set.path"),
        ("{path: evalsets/items.jsonl, on_duplicate: remove}", "S104", "eval_set.on_duplicate"),
        ("{on_duplicate: keep}", "S102", "eval_set.path"),
    ):
        with pytest.raises(InputInvalid) as caught:
            load(value)
        assert [(d.code, d.where.path) for d in caught.value.diagnostics if d.where] == [(code, place)]


def test_a_key_that_takes_text_takes_what_was_typed(project: Path) -> None:
    """No quotes are needed on the command line for text that looks like something else."""
    typed = ["notes=a: b # c", "run_version=42", "evidence.dir=submission_runs/x", "package.name='q'"]
    spec = load_spec(project / "runspecs" / "spec.yaml", typed, kinds=HANDLERS)
    assert (spec.notes, spec.run_version, spec.evidence.dir) == ("a: b # c", "42", "submission_runs/x")
    assert spec.package.name == "q"


def test_a_step_and_a_section_of_one_name_are_told_apart_by_the_key(project: Path) -> None:
    """``dataset.seed`` is the step's, ``dataset={path: …}`` the section."""
    path = project / "runspecs" / "spec.yaml"
    (project / "rows.jsonl").write_text("{}\n")
    spec = load_spec(path, ["dataset.seed=7", "dataset={path: rows.jsonl}"], kinds=HANDLERS)
    assert spec.step("dataset").args["seed"] == 7
    assert spec.dataset.path == "rows.jsonl"


@pytest.mark.parametrize(
    ("override", "code"),
    [("seq_len=5", "S101"), ("train.with.seq_len=5", "U202"), ("steps.train.seq_len=5", "U202"), ("=5", "U201"), ("a..b=5", "U201"),
     ("device.x=5", "U203"), ("dataset.path=x", "U203"), ("train.seq_len=", "S106"), ("train.seq_len=[1", "U204"),
     ("train.seq_len=true", "S103"), ("notes=a\nb", "U201"), ("train.reduce.dtype=x", "S101"), ("model.config.head_dim=7", "S105")],
)  # fmt: skip
def test_what_is_wrong_with_an_override_points_at_the_command_line(project: Path, override: str, code: str) -> None:
    """With the person's own words and a caret."""
    found = check_spec(project / "runspecs" / "spec.yaml", [override], kinds=HANDLERS)
    assert [(row.code, row.where and row.where.file) for row in found] == [(code, "command line")]
    assert found[0].where is not None
    assert found[0].where.text == override


def test_the_same_override_twice_is_refused(project: Path) -> None:
    """Neither wins silently."""
    found = check_spec(project / "runspecs" / "spec.yaml", ["train.seed=1", "train.seed=2"], kinds=HANDLERS)
    assert [(row.code, row.where and row.where.line) for row in found] == [("U205", 2)]


def test_one_mistake_is_one_message(project: Path, cases: ModuleType) -> None:
    """A misspelt key is not reported as missing too, nor are the rules that depend on it."""
    for old, new in [("init: random", "initt: random"), ("head_dim: 8", "head_dimm: 8"), ("uses: train_sft", "uses: train_stf"),
                     ("num_train_steps: 10", "num_train_step: 10"), ("evidence:", "evidance:")]:  # fmt: skip
        assert len(findings(project, cases.GOOD.replace(old, new))) == 1, new


def test_findings_come_in_the_order_of_the_file(project: Path, cases: ModuleType) -> None:
    """From top to bottom, then the command line."""
    text = (
        cases.GOOD.replace("seq_len: 128", "seq_len: x")
        .replace("head_dim: 8", "head_dim: 7")
        .replace("good_v1\nmodel", "../x\nmodel")
    )
    found = findings(project, text, overrides=("train.seed=x",))
    assert [row.where.line for row in found[:-1] if row.where] == [3, 9, 19]
    assert found[-1].where is not None
    assert found[-1].where.file == "command line"


def test_an_alias_bomb_is_refused_before_it_is_built(project: Path) -> None:
    """Nine levels of ten would be a thousand million values."""
    doubled = [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 3)}]" for n in range(1, 11)]
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]", *doubled]
    (found,) = findings(project, "\n".join(lines))
    assert found.code in ("Y026", "Y027")
    (found,) = findings(project, "\n".join(["- x"] * (MAX_NODES + 1)))
    assert found.code == "Y027"


def test_anchors_within_the_limits_are_read(project: Path, cases: ModuleType) -> None:
    """An alias is its value."""
    assert plain(read("a: &x {k: [1, 2]}\nb: *x\n")) == {"a": {"k": [1, 2]}, "b": {"k": [1, 2]}}


def test_a_file_without_permission_a_pipe_and_an_odd_name_are_findings(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every error of the operating system becomes a sentence."""
    os.mkfifo(project / "pipe.yaml")
    assert [row.code for row in check_spec(project / "pipe.yaml", kinds=HANDLERS)] == ["Y003"]
    assert [row.code for row in check_spec(Path("x" * 5000), kinds=HANDLERS)] == ["Y003"]
    assert [row.code for row in check_spec(Path("a\0b"), kinds=HANDLERS)] == ["Y003"]

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert [row.code for row in check_spec(project / "runspecs" / "spec.yaml", kinds=HANDLERS)] == ["Y003"]


def test_keywords_beyond_ours_are_left_to_jsonschema_and_its_words_stay_inside(
    project: Path, cases: ModuleType
) -> None:
    """A plug-in may use oneOf, $ref and format; the message names the key, never the grammar."""
    schema = {
        "type": "object", "additionalProperties": False, "definitions": {"size": {"type": "integer", "minimum": 3}},
        "properties": {
            "size": {"$ref": "#/definitions/size", "title": "Size"},
            "mode": {"oneOf": [{"type": "integer"}, {"const": "auto"}], "description": "A number or auto."},
        },
    }  # fmt: skip
    kinds = {**HANDLERS, "odd": FakeKind("odd", schema)}
    assert findings(project, with_step(cases, "{id: x, uses: odd, with: {size: 3, mode: auto}}"), kinds) == []
    found = findings(project, with_step(cases, "{id: x, uses: odd, with: {size: 1, mode: maybe}}"), kinds)
    assert [(row.code, row.where and row.where.path) for row in found] == [
        ("S109", "steps.x.with.size"),
        ("S109", "steps.x.with.mode"),
    ]
    assert not any("given schemas" in render(row) for row in found)


@pytest.mark.parametrize(
    "schema", [{"type": "object", "properties": {"a": {"pattern": "("}}}, {"type": "objekt"}, {"properties": {"a": 3}},
               {"type": "object", "properties": {"a": {"$ref": "#/definitions/nowhere"}}}],
)  # fmt: skip
def test_a_broken_schema_of_a_plugin_is_a_finding_that_names_it(project: Path, cases: ModuleType, schema: Any) -> None:
    """And only where the kind is used."""
    kinds = {**HANDLERS, "odd": FakeKind("odd", schema)}
    assert findings(project, cases.GOOD, kinds) == []
    found = findings(project, with_step(cases, "{id: x, uses: odd, with: {a: text}}"), kinds)
    assert {row.code for row in found} <= {"S110", "S103"}
    assert found


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.sampled_from(["", "a", "gemma", "auto", "cpu", "x/y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "seed", "kill", "x"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@QUICK
@given(data=st.data())
def test_our_checks_and_jsonschema_come_to_the_same_verdict(data: st.DataObject, tmp_path: Path) -> None:
    """On any arguments of any built-in kind, and on any section: valid here is valid there."""
    schemas = [kind.schema for kind in HANDLERS.values()] + [dict(base_schema()["properties"]["model"])]
    schema = data.draw(st.sampled_from(schemas))
    keys = st.sampled_from([*schema["properties"], "other"])
    value = data.draw(st.dictionaries(keys, _VALUES, max_size=4))
    tree = read(json.dumps(value))
    assert isinstance(tree, Tree)
    case = Case(tree, HANDLERS, tmp_path, tmp_path / "x.yaml", SpecFindings(tree))
    check(tree, schema, (), case)
    assert (not case.findings.rows) == jsonschema.Draft7Validator(schema).is_valid(value), value


@QUICK
@given(data=st.data())
def test_any_edit_of_a_preset_gives_findings_or_a_spec(data: st.DataObject, project: Path, repository: Path) -> None:
    """Characters taken out, put in and doubled anywhere in the text."""
    text = data.draw(st.sampled_from(sorted((repository / "runspecs").glob("*.yaml")))).read_text(encoding="utf-8")
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        end = min(len(text), at + data.draw(st.integers(0, 6)))
        put = data.draw(
            st.text(max_size=3)
            | st.sampled_from([*list("{}[]:,#&*!|>'\"%@`-?\t\n "), "- ", ": ", "<<: ", "---\n", "...", "*a", "&a "])
        )
        text = text[:at] + put + text[end:]
    path = project / "runspecs" / "edited.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for row in check_spec(path, kinds=HANDLERS):
        assert render(row)
        assert row.where is None or row.where.text is None or 0 < row.where.column <= len(row.where.text) + 1
    if any(row.severity == "error" for row in check_spec(path, kinds=HANDLERS)):
        with pytest.raises(InputInvalid):
            load_spec(path, kinds=HANDLERS)
    else:
        assert load_spec(path, kinds=HANDLERS).steps


@QUICK
@given(text=st.text(max_size=40) | st.from_regex(r"[a-z]{1,8}(\.[a-z_]{1,16}){0,3}=.{0,12}", fullmatch=True))
def test_any_word_as_an_override_gives_findings_or_a_spec(text: str, project: Path) -> None:
    """The command line is as free-form as the file."""
    for row in check_spec(project / "runspecs" / "spec.yaml", [text], kinds=HANDLERS):
        assert render(row)


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [("model.path", "/kaggle/input/gemma", "S302"), ("model.path", "evalsets/items.jsonl", "S303"), ("eval_set", "https://example.org/x.jsonl", "S302"), ("eval_set", "evalsets\\items.jsonl", "S302"),
     ("evidence.dir", "runspecs", "S316"), ("evidence.dir", ".git/x", "S304"), ("evidence.dir", "templates", "S304"), ("package.dir", "engine/x", "S304"), ("evidence.dir", "evalsets/items.jsonl/x", "S303"),
     ("package.dir", "submission_runs/good_v1/zips", "S316"), ("eval_set", "x" * 5000, "S303"), ("eval_set", "a\0b", "S303"), ("eval_set", "loop", "S303")],
)  # fmt: skip
def test_a_path_that_cannot_serve_is_refused(project: Path, key: str, value: str, code: str) -> None:
    """Inputs and outputs stay apart and inside the project."""
    (project / "loop").symlink_to("loop")
    found = check_spec(project / "runspecs" / "spec.yaml", ["model.init=pretrained", f"{key}={value}"], kinds=HANDLERS)
    assert code in [row.code for row in found]


def test_a_pipe_is_no_file(project: Path) -> None:
    """A run would wait for ever while it takes the digest."""
    os.mkfifo(project / "evalsets" / "pipe.jsonl")
    [finding] = check_spec(project / "runspecs" / "spec.yaml", ["eval_set=evalsets/pipe.jsonl"], kinds=HANDLERS)
    assert (finding.code, finding.message) == ("S303", "eval_set is a pipe, a socket or a device, not a file")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "marked"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_the_digest_is_that_of_the_file(project: Path, mark: bytes, newline: bytes) -> None:
    """Line ends and a byte order mark change how a text is read, never what the file is."""
    path = project / "runspecs" / "spec.yaml"
    data = mark + path.read_bytes().replace(b"\n", newline)
    path.write_bytes(data)
    spec = load_spec(path, kinds=HANDLERS)
    assert (spec.data, spec.digest) == (data, hashlib.sha256(data).hexdigest())
    assert spec.run_version == "good_v1"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("adapter_config.json", "adapter_config.json makes this a folder of adapters: give the model they were"),
        ("pytorch_model-00001-of-00002.bin", "pytorch_model-00001-of-00002.bin is a pickle, which is not read"),
        ("consolidated.00.pth", "consolidated.00.pth is a pickle, which is not read"),
        ("gemma-2b.gguf", "gemma-2b.gguf is of a format for inference"),
        ("snapshots", "snapshots makes this the hub's cache of the model"),
        (None, "a model folder has config.json, tokenizer.json and model.safetensors or flax_model.msgpack; this one is empty"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_model_folder(project: Path, name: str | None, hint: str) -> None:
    """The advice of S319 depends on the files that are there instead."""
    (project / "models").mkdir()
    if name:
        (project / "models" / name).touch()
    overrides = ["model.init=pretrained", "model.path=models"]
    found = check_spec(project / "runspecs" / "spec.yaml", overrides, kinds=HANDLERS)
    assert [str(row.hint)[: len(hint)] for row in found if row.code == "S319"] == [hint]


@pytest.mark.parametrize("is_dead", [False, True])
@pytest.mark.parametrize(("link", "key"), [("submission", "package.dir"), ("submission_runs", "evidence.dir")])
@pytest.mark.parametrize("is_written", [False, True])
def test_an_output_folder_is_not_a_link_that_leads_out(
    project: Path, tmp_path_factory: pytest.TempPathFactory, link: str, key: str, is_dead: bool, is_written: bool
) -> None:
    """Dead or not, and whether the run-spec names the folder or leaves the default: nothing is made outside the project."""
    outside = tmp_path_factory.mktemp("outside") / "made"
    if not is_dead:
        outside.mkdir()
    (project / link).symlink_to(outside)
    path = project / "runspecs" / "spec.yaml"
    if not is_written:
        text = path.read_text()
        path.write_text(
            text.replace(
                "  dir: submission_runs/good_v1\n",
                "  files: [run_manifest.json, eval_summary.json, kaggle_output_log.txt]\n",
            )
        )
        assert path.read_text() != text
    found = [row for row in check_spec(path, kinds=HANDLERS) if row.code == "S301"]
    assert [row.message.partition(" (")[0] for row in found] == [f"{key} leads out of the project through a link"]


def test_default_folders_count_where_folders_are_compared(project: Path) -> None:
    """evidence.dir: submission would hold its own zip, which goes to submission/ by default."""
    found = check_spec(project / "runspecs" / "spec.yaml", ["evidence.dir=submission"], kinds=HANDLERS)
    assert [row.code for row in found if row.severity == "error"] == ["S316"]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
@pytest.mark.parametrize("key", ["eval_set", "dataset.path"])
def test_a_file_that_cannot_be_read(project: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, key: str) -> None:
    """Said by `validate`, and not by the step that reads it."""
    (project / "mine.jsonl").write_text("{}\n")
    real = os.open

    def refuse(path: object, *arguments: int) -> int:
        if str(path).endswith("mine.jsonl"):
            raise error
        return real(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("engine.runspec.sections.os.open", refuse)
    value = "mine.jsonl" if key == "eval_set" else "{path: mine.jsonl}"
    found = check_spec(project / "runspecs" / "spec.yaml", [f"{key.partition('.')[0]}={value}"], kinds=HANDLERS)
    [one] = [row for row in found if row.code == "S303"]
    assert one.message == f"{key}: mine.jsonl cannot be read: {error.strerror}"


def test_the_configuration_of_a_folder_is_judged_as_the_trainer_judges_it(project: Path) -> None:
    """Each finding of its config.json, at the line of the spec that names the folder; what is read past is none."""
    (project / "models").mkdir()
    (project / "models" / "tokenizer.model").touch()
    (project / "models" / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    config = {"model_type": "gemma", "unsloth_fixed": True, "hiden_size": 8, "quantization_config": {"bits": 4}}
    (project / "models" / "config.json").write_text(json.dumps(config))
    overrides = ["model.init=pretrained", "model.path=models"]
    found = check_spec(project / "runspecs" / "spec.yaml", overrides, kinds=HANDLERS)
    judged = [row for row in found if row.code.startswith("M")]
    assert [(row.code, row.where.path if row.where else "") for row in judged] == [
        ("M102", "model.path"),
        ("M108", "model.path"),
    ]
    assert judged[0].message == 'models/config.json: unknown key "hiden_size" in the configuration of a gemma model'
    assert judged[0].hint == 'did you mean "hidden_size"?'
    with pytest.raises(InputInvalid) as caught:
        read_folder(project / "models")
    assert [(row.code, row.hint) for row in caught.value.diagnostics] == [(row.code, row.hint) for row in judged]
    (project / "models" / "config.json").write_text(json.dumps({"model_type": "gemma", "unsloth_fixed": True}))
    found = check_spec(project / "runspecs" / "spec.yaml", overrides, kinds=HANDLERS)
    assert [row.code for row in found if row.code.startswith("M")] == []


def test_needs_of_two_steps_that_make_the_same_is_refused(project: Path, cases: ModuleType) -> None:
    """One input has one source."""
    text = cases.GOOD.replace("  - {id: predict, uses: generate}", "  - {id: again, uses: train_sft, with: {num_train_steps: 3, seq_len: 64}}\n"
                              "  - {id: predict, uses: generate, needs: [train, again]}")  # fmt: skip
    assert [row.code for row in findings(project, text)] == ["S206"]


def test_arguments_of_adam_are_refused_beside_adafactor(project: Path) -> None:
    """A key without effect is a mistake, not a decoration."""
    found = check_spec(
        project / "runspecs" / "spec.yaml", ["train.optimizer=adafactor", "train.adam_b1=0.5"], kinds=HANDLERS
    )
    assert [row.code for row in found] == ["S307"]


def test_reading_a_spec_imports_neither_jsonschema_nor_a_framework(repository: Path) -> None:
    """It would cost every command a tenth of a second."""
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from engine.runspec import check_spec; from engine.steps.registry import handlers;"
        "check_spec(Path('runspecs/quickstart.yaml'), kinds=handlers());"
        "print([m for m in ('jsonschema', 'jax', 'flax', 'rich', 'numpy') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=repository, check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize("text", ["[" * 50_000, "a: " + "{" * 50_000, "[a," * 20_000, "&a [" * 10_000])
def test_open_brackets_are_refused_before_the_parser_looks(text: str) -> None:
    """Y025 in a hundredth of a second: for the parser each of them may begin a key, which took it half a second."""
    began = time.process_time()
    with pytest.raises(InputInvalid, match="more than 64 levels of nesting"):
        parse(text, SpecSource("spec.yaml", tuple(text.split("\n"))))
    assert time.process_time() - began < 0.1
