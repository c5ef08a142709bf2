"""Crate, data set and model card say what the record says, and the field's own readers accept them.

The validators of RO-Crate and Croissant are heavy: `pip install 'runspec-engine[validators]'` into an environment of its own, then
``pytest -m slow tests/evidence/about``. Nothing is fetched: the two contexts are the terms below.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import RunRecord
from engine.canonical import digest_bytes
from engine.evidence.about import ABOUT_NAMES
from engine.evidence.about.dependencies import dependencies

BESIDE = {
    "ro-crate-metadata.json",
    "manifest-sha256.txt",
    "verify.py",
}  # itself, the list, and the checker, the same for all
SCHEMA, ROCRATE = "http://schema.org/", "https://w3id.org/ro/crate/1.1/context"
WFRUN = "https://w3id.org/ro/terms/workflow-run/context"
TERMS = {
    name: f"{SCHEMA}{name}"
    for name in ("CreativeWork", "Dataset", "SoftwareApplication", "CreateAction", "about", "name", "description", "license", "version",
                 "datePublished", "hasPart", "mentions", "softwareVersion", "softwareRequirements", "instrument", "object", "result",
                 "startTime", "endTime", "actionStatus", "contentSize", "encodingFormat")
} | {"File": f"{SCHEMA}MediaObject", "conformsTo": "http://purl.org/dc/terms/conformsTo"}  # fmt: skip
CONTEXTS = {
    ROCRATE: {"@context": TERMS},
    WFRUN: {"@context": {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}},
}


def _graph(folder: Path) -> dict[str, Any]:
    return {node["@id"]: node for node in json.loads((folder / "ro-crate-metadata.json").read_bytes())["@graph"]}


def test_the_crate_has_every_file_and_the_run(folder: Path, record: RunRecord) -> None:
    """Digests and sizes of what is there; no author, who is not known; every reference leads to a node."""
    graph = _graph(folder)
    parts = {part["@id"] for part in graph["./"]["hasPart"]}
    assert parts == {path.name for path in folder.iterdir()} - BESIDE
    for name in parts - ABOUT_NAMES:
        data = (folder / name).read_bytes()
        assert (graph[name]["sha256"], graph[name]["contentSize"]) == (digest_bytes(data), str(len(data)))
    run = graph["#run"]
    assert run["startTime"] == record.started_at.replace("Z", "+00:00")
    assert {row["@id"] for key in ("object", "result") for row in run[key]} == parts - ABOUT_NAMES
    assert "agent" not in run
    assert "author" not in graph["./"]


def test_the_terms_of_the_crate_are_known(folder: Path) -> None:
    """A term that no context has would mean nothing."""
    known = TERMS.keys() | CONTEXTS[WFRUN]["@context"].keys()
    for node in _graph(folder).values():
        types = node["@type"] if isinstance(node["@type"], list) else [node["@type"]]
        assert {key for key in node if key[0] != "@"} | set(types) <= known


def test_the_data_set_has_the_columns_that_are_there(record: RunRecord, render: Any) -> None:
    """Of an eval set without sections there is no such column."""
    rows = [
        {key: value for key, value in json.loads(line).items() if key != "section"}
        for line in record.eval_set_bytes.splitlines()
    ]
    bare = "".join(json.dumps(row) + "\n" for row in rows).encode()
    document = json.loads((render(dataclasses.replace(record, eval_set_bytes=bare)) / "croissant.json").read_bytes())
    items, answers = document["recordSet"]
    assert [field["name"] for field in items["field"]] == ["id", "prompt", "expected_answer", "category", "difficulty"]
    assert [field["name"] for field in answers["field"]] == [
        "id",
        "text",
        "extracted",
        "expected",
        "correct",
        "new_tokens",
        "finish_reason",
    ]
    assert document["distribution"][0]["sha256"] == digest_bytes(bare)


def test_the_hub_reads_the_card(folder: Path) -> None:
    """huggingface_hub parses the model index; nothing is there that the record does not know."""
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra train)")
    card = hub.ModelCard((folder / "model_card.md").read_text())
    [result] = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name, result.task_type) == (
        "answer_correctness", 0.8, "items.jsonl", "text-generation")  # fmt: skip
    assert card.data.model_name == "toy_v1"
    known = {key for key, value in card.data.to_dict().items() if value is not None}
    assert known == {"library_name", "tags", "model-index"}


@pytest.mark.parametrize("notes", ["a | b", "two\nlines", "---\nlicense: mit", "<script>", "# title"])
def test_a_note_cannot_become_the_cards_data(record: RunRecord, render: Any, notes: str) -> None:
    """Text of a person stays text."""
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra train)")
    card = hub.ModelCard((render(dataclasses.replace(record, notes=notes)) / "model_card.md").read_text())
    assert card.data.license is None
    assert card.data.model_name == "toy_v1"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the validators' own libraries
@pytest.mark.parametrize("profile", ["ro-crate-1.1", "process-run-crate-0.5"])
def test_the_crates_own_validator_accepts_it(folder: Path, profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every requirement of the standard and of the profile; what is only recommended may be unknown."""
    services = pytest.importorskip("rocrate_validator.services", reason="the extra validators is not installed")
    from rocrate_validator.models import Severity
    from rocrate_validator.utils import document_loader, http

    requests = pytest.importorskip("requests")

    def get(_: object, url: str, **options: object) -> Any:
        response = requests.Response()
        response.status_code, response.url = 200, url
        response.headers["Content-Type"] = "application/ld+json"
        response._content = json.dumps(CONTEXTS[url]).encode()
        return response

    monkeypatch.setattr(http.HttpRequester, "get", get, raising=False)  # it has __getattr__
    monkeypatch.setattr(document_loader, "_fetch_json_ld", CONTEXTS.__getitem__)
    settings = services.ValidationSettings(
        rocrate_uri=str(folder), profile_identifier=profile, requirement_severity=Severity.REQUIRED
    )
    issues = services.validate(settings).get_issues()
    assert [f"{issue.check.identifier}: {issue.message}" for issue in issues] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the validators' own libraries
def test_the_data_sets_own_library_loads_it(folder: Path) -> None:
    """mlcroissant: no error, and both sets of records have a row for each item."""
    mlcroissant = pytest.importorskip("mlcroissant", reason="the extra validators is not installed")
    dataset = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
    assert dataset.metadata.issues.errors == set()
    assert len(list(dataset.records(record_set="answers"))) == 5
    assert [row["eval_items/id"].decode() for row in dataset.records(record_set="eval_items")] == [
        "q0",
        "q1",
        "q2",
        "q3",
        "q4",
    ]


def test_the_statement_names_it(record: RunRecord) -> None:
    """With the wheel where there is one, and not at all in evidence of an engine that did not record it."""
    files = {"tree": "b" * 64, "wheel": "a" * 64}
    named = dataclasses.replace(record, environment={**record.environment, "engine_files": files})
    assert dependencies(named)[-1] == {
        "name": "runspec-engine", "digest": {"sha256": "a" * 64, "runspecTree": "b" * 64}, "annotations": {"version": "0.1.0"},
    }  # fmt: skip
    assert dependencies(record)[-1]["name"] == "project"
