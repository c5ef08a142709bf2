"""A forger: changes one value of the evidence, then makes everything else fit that can be computed again.

In: an evidence folder. Out: variants as names -> bytes. ``alone``: one value of one file, and a new manifest-sha256.txt.
``together``: the value, the same value in the facts of its step, every digest from the file up through artifacts,
fingerprints and the steps after it, the files rendered again, and then the manifest: only what shows the value tells.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.assets import asset
from engine.canonical import digest_bytes, digest_json, digest_result_bytes, jsonl_bytes, pretty_json
from engine.errors import RunspecError
from engine.evidence.about import ABOUT_NAMES, SIGNATURES, STATEMENT, Inputs, make_about, present_sources
from engine.evidence.bundle import Bundle
from engine.evidence.checks.recorded import known_file, published_file, recorded_run
from engine.evidence.checks.rendered import first_stage
from engine.evidence.contents import Broken, Evidence
from engine.evidence.folder import ATTACHMENTS, MANIFEST
from engine.evidence.render import render_text
from engine.evidence.view import make_view
from engine.steps.registry import handlers

REPORTS = {"train_report.json": "train_sft", "smoke_report.json": "smoke_run"}  # files that are their step's facts
RENDERED = ("run_manifest.json", "eval_summary.json", "kaggle_output_log.txt")
Files = Mapping[str, bytes]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of everything that is neither object nor list; of long lists of equal things the first only."""
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from leaves(child, (*path, key))
    elif isinstance(value, list) and value:
        for index, child in enumerate(value[: 2 if len(path) else None]):
            yield from leaves(child, (*path, index))
    else:
        yield path


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.5 + 0.25
    if isinstance(value, str):
        return ("1" if value[:1] == "0" else "0") + value[1:] if len(value) in (40, 64) else f"{value}x"
    return {"x": 1} if value == {} else ["x"] if value == [] else "x"


def changed(value: Any, path: tuple[Any, ...]) -> Any:
    """A copy with another value at the path."""
    value = copy.deepcopy(value)
    target = value
    for part in path[:-1]:
        target = target[part]
    target[path[-1]] = other(target[path[-1]])
    return value


def parsed(files: Files, name: str) -> Any:
    """A JSON value, or the rows of a JSONL file."""
    text = files[name].decode()
    return json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]


def written(name: str, value: Any) -> bytes:
    return pretty_json(value).encode() if name.endswith(".json") else jsonl_bytes(value)


def sealed(files: Files) -> dict[str, bytes]:
    """With a new list of digests."""
    lines = [f"{digest_bytes(data)}  {name}\n" for name, data in sorted(files.items()) if name != MANIFEST]
    return {**files, MANIFEST: "".join(lines).encode()}


def alone(files: Files, only: Iterable[str] | None = None) -> Iterator[tuple[str, dict[str, bytes]]]:
    """One value of one file; ``only``: of these."""
    for name in sorted(files if only is None else only):
        if name.endswith((".json", ".jsonl")):
            value = parsed(files, name)
            for path in leaves(value):
                yield f"{name}: {dotted(path)}", sealed({**files, name: written(name, changed(value, path))})


def together(files: Files, every: int = 1) -> Iterator[tuple[str, dict[str, bytes]]]:
    """One value, and everything that can be computed from it; of a sample ``every`` so manyth one."""
    for name in sorted({*ATTACHMENTS, "eval_set.jsonl", "run_record.json"} & set(files)):
        value = parsed(files, name)
        for path in list(leaves(value))[::every]:
            try:
                forged = with_all_that_follows(files, name, changed(value, path))
            except (RunspecError, Broken, KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError):
                continue  # what cannot even be rendered is no forgery
            if forged != files:  # a digest is made right again
                yield f"{name}: {dotted(path)}", forged


def with_all_that_follows(files: Files, name: str, value: Any) -> dict[str, bytes]:
    """A file with another value, the facts that are its value, and everything that can be computed from it."""
    new = {**files, name: written(name, value)}
    record = parsed(new, "run_record.json")
    if name in REPORTS:
        for step in record["steps"]:
            if step["uses"] == REPORTS[name]:
                step["facts"] = value
    return redone(new, record)


def put(files: Files, name: str, path: str, new: Any) -> dict[str, bytes]:
    """One value at a dotted path, there or not, and everything that can be computed from it."""
    value = parsed(files, name)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target = value
    for part in parents:
        target = target[part]
    target[last] = new
    return with_all_that_follows(files, name, value)


def redone(files: dict[str, bytes], record: Any) -> dict[str, bytes]:
    """Every digest, the inputs of every step and the rendered files again."""
    by_type: dict[str, Any] = {}
    record["spec_digest"] = digest_bytes(files["runspec.yaml"])
    for step, values in enumerate(record["steps"]):
        files["run_record.json"] = written("run_record.json", record)
        evidence = Evidence(Bundle("folder", files))
        recorded = recorded_run(evidence).steps[step]
        content = {}
        for name, digest in values["files"].items():
            data = known_file(evidence, recorded, name)
            values["files"][name] = content[name] = digest if data is None else digest_bytes(data)
            if data is not None and name in handlers()[values["uses"]].measured:
                content[name] = digest_result_bytes(name, data)
        values["content_sha256"] = digest_json(content)
        if "manifest_sha256" in values["facts"]:
            values["facts"]["manifest_sha256"] = values["files"]["manifest.json"]
        for type_, taken in values["ingredients"]["inputs"].items():
            taken.update(fingerprint=by_type[type_]["fingerprint"], content=by_type[type_]["content_sha256"])
        _read_eval_set(values["ingredients"]["spec"], digest_bytes(files["eval_set.jsonl"]))
        values["fingerprint"] = digest_json(values["ingredients"])
        by_type[values["artifact"]] = values
    files["run_record.json"] = written("run_record.json", record)
    evidence = Evidence(Bundle("folder", files))
    view = make_view(recorded_run(evidence), lambda step, name: published_file(evidence, step, name))
    rendered = {name: render_text(name, view, [asset("templates")]).encode() for name in RENDERED}
    return sealed(about_again({**files, **rendered}))


def about_again(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files of the second stage again, from whatever those of the first say."""
    evidence = Evidence(Bundle("folder", files))
    record = recorded_run(evidence)
    attested = {name: files[name] for name in first_stage(evidence)}
    view = make_view(record, lambda step, name: published_file(evidence, step, name))
    return {**files, **make_about(Inputs(record, view, attested), present_sources())}


def about(files: Files) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The files about the evidence, each changed by itself with a new list of digests: a value, a line, a file taken away."""
    for name in sorted(ABOUT_NAMES):
        if name.endswith(".json"):
            value = parsed(files, name)
            for path in leaves(value):
                yield f"{name}: {dotted(path)}", sealed({**files, name: written(name, changed(value, path))})
        for number, line in enumerate(files[name].split(b"\n")[:-1]):
            rest = files[name].split(b"\n")
            rest[number] = line + b"x"
            if not name.endswith(".json"):
                yield f"{name}: line {number + 1}", sealed({**files, name: b"\n".join(rest)})
        yield f"{name}: taken away", sealed({key: data for key, data in files.items() if key != name})
        yield f"{name}: empty", sealed({**files, name: b""})


def vouched_otherwise(files: Files, other: Files) -> Iterator[tuple[str, dict[str, bytes]]]:
    """What is said about another run, or by nobody; ``files`` and ``other`` are two signed packages."""
    statement = parsed(files, STATEMENT)
    yield "the statement of another package", sealed({**files, STATEMENT: other[STATEMENT]})
    yield "the signature of another package", {**files, SIGNATURES: other[SIGNATURES]}
    yield "both of another package", sealed({**files, STATEMENT: other[STATEMENT], SIGNATURES: other[SIGNATURES]})
    yield (
        "a subject left out",
        sealed({**files, STATEMENT: written(STATEMENT, {**statement, "subject": statement["subject"][1:]})}),
    )
    yield "no subject", sealed({**files, STATEMENT: written(STATEMENT, {**statement, "subject": []})})
    yield "a statement written otherwise", sealed({**files, STATEMENT: json.dumps(statement).encode()})
    envelope = parsed(files, SIGNATURES)
    for path in leaves(envelope):
        if path[-1] != "keyid":  # a hint
            yield f"envelope: {dotted(path)}", {**files, SIGNATURES: written(SIGNATURES, changed(envelope, path))}
    yield "two envelopes", {**files, SIGNATURES: files[SIGNATURES] * 2}
    yield "a key twice", {**files, SIGNATURES: files[SIGNATURES].replace(b"{", b'{"payload": "",', 1)}
    record = parsed(files, "run_record.json")
    del record["templates"]
    older = {key: data for key, data in files.items() if key not in ABOUT_NAMES}
    yield (
        "taken back to version 1",
        sealed({**older, "run_record.json": written("run_record.json", {**record, "schema_version": 1})}),
    )


def _read_eval_set(section: Any, digest: str) -> None:
    if isinstance(section.get("eval_set"), dict):
        section["eval_set"]["content"] = digest
    elif "eval_set" in section:
        section["eval_set"] = digest


def dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
