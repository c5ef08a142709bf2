"""A dataset on disk: the same bytes whatever the machine does, and a manifest that is true of them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import jsonschema
import pytest

from engine.assets import asset
from engine.data import (
    BUILDERS,
    DatasetSource,
    build,
    builder_source,
    prepare,
    read_rows,
    trace_rows,
    write_dataset,
)

FILES = ("dataset.jsonl", "rows.jsonl", "manifest.json")
BUILD = """
import sys
from pathlib import Path
from engine.data import build, builder_source, prepare, trace_rows, write_dataset
name, out = sys.argv[1:]
prepared = prepare(trace_rows(build(name, seed=42)), None)
write_dataset(Path(out), prepared, source=builder_source(name, seed=42))
"""


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def schema(name: str):
    return json.loads(asset("schemas", f"{name}.schema.json").read_text())


@pytest.fixture(params=sorted(BUILDERS))
def built(request, tmp_path):
    """One dataset of each builder, on disk."""
    prepared = prepare(trace_rows(build(request.param, seed=42)), None)
    source = builder_source(request.param, seed=42)
    return tmp_path, write_dataset(tmp_path, prepared, source=source)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_two_builds_are_byte_identical_whatever_the_hash_seed_and_the_zone(name, tmp_path):
    for hash_seed, zone in (("0", "UTC"), ("4242", "Pacific/Kiritimati")):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone}
        command = [sys.executable, "-c", BUILD, name, str(tmp_path / hash_seed)]
        subprocess.run(command, check=True, env=environment)
    for file in FILES:
        assert (tmp_path / "0" / file).read_bytes() == (tmp_path / "4242" / file).read_bytes()


def test_manifest_and_rows_fit_their_schemas(built):
    out, _ = built
    jsonschema.Draft7Validator(schema("dataset_manifest")).validate(json.loads((out / "manifest.json").read_text()))
    validator = jsonschema.Draft7Validator(schema("trace"))
    lines = (out / "dataset.jsonl").read_text().splitlines()
    for line in lines:
        validator.validate(json.loads(line))


@pytest.mark.parametrize("name", ["trace", "evalset_item", "dataset_manifest"])
def test_the_schemas_are_draft_07_and_every_key_is_described(name):
    document = schema(name)
    jsonschema.Draft7Validator.check_schema(document)
    assert document["$schema"].endswith("draft-07/schema#")
    assert document["additionalProperties"] is False
    for key, value in document["properties"].items():
        assert value["title"], key
        assert value["description"], key


def test_the_manifest_is_true_of_the_files(built):
    out, written = built
    manifest = json.loads((out / "manifest.json").read_text())
    traces = [json.loads(line) for line in (out / "dataset.jsonl").read_text().splitlines()]
    rendered = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert manifest["files"] == {name: sha256(out / name) for name in FILES[:2]}
    assert manifest["trace_ids"] == [t["id"] for t in traces] == [r["id"] for r in rendered]
    assert manifest["trace_count"] == len(traces) == written.facts["n_rows"]
    assert sum(manifest["stats"]["composition"].values()) == len(traces)
    lengths = [sum(len(part["text"]) for part in row["segments"]) for row in rendered]
    assert manifest["stats"]["row_characters"]["max"] == max(lengths)
    assert manifest["stats"]["row_characters"]["sum"] == sum(lengths)
    assert written.facts["manifest_sha256"] == sha256(out / "manifest.json")
    assert written.facts["rows_sha256"] == sha256(out / "rows.jsonl")


def test_every_null_has_a_reason_and_every_reason_a_null(built):
    out, _ = built
    manifest = json.loads((out / "manifest.json").read_text())
    nulls = {key for key, value in manifest.items() if value is None}
    nulls |= {f"lineage.{key}" for key, value in manifest["lineage"].items() if value is None}
    assert nulls == set(manifest["not_applicable"])


def test_the_build_id_is_a_uuid5_of_the_content(tmp_path):
    ids = []
    for seed in (42, 42, 43):
        prepared = prepare(trace_rows(build("quickstart-reasoning", seed=seed, num_rows=20)), None)
        written = write_dataset(tmp_path, prepared, source=builder_source("quickstart-reasoning", seed=seed))
        ids.append(written.manifest["build_id"])
    assert ids[0] == ids[1] != ids[2]
    assert {uuid.UUID(build_id).version for build_id in ids} == {5}


def test_a_file_of_ones_own_gets_a_manifest_of_the_same_schema(jsonl, tmp_path):
    path = jsonl({"prompt": "a", "completion": "b", "note": 1}, {"prompt": "A", "completion": "c"})
    prepared = prepare(read_rows(path, "prompt_completion"), None, on_duplicate="drop")
    source = DatasetSource(dataset="mine.jsonl", format="prompt_completion", file_sha256=sha256(path))
    manifest = write_dataset(tmp_path / "out", prepared, source=source).manifest
    jsonschema.Draft7Validator(schema("dataset_manifest")).validate(manifest)
    assert manifest["lineage"]["n_duplicates"] == manifest["lineage"]["n_dropped"] == 1
    assert manifest["stats"]["unused_fields"] == {"note": 1}
    nulls = {key for key, value in manifest.items() if value is None}
    assert nulls | {"lineage.n_overlap"} == set(manifest["not_applicable"])


def test_what_was_written_can_be_read_back_as_the_same_traces(built):
    out, written = built
    traces = [row.body for row in read_rows(out / "dataset.jsonl", "trace")]
    assert traces == build(written.facts["dataset"], seed=42)
