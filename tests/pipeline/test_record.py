"""The record holds the bytes that the steps read, and no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.artifacts.journal import Journal, journal_path
from engine.artifacts.store import Artifact, Store
from engine.canonical import digest_bytes
from engine.errors import InputInvalid, RunFailed
from engine.pipeline.plan import Selection
from engine.pipeline.record import make_record
from engine.pipeline.runner import _Run
from engine.runspec.model import Spec

CRLF = b'{"id": "a"}\r\n{"id": "b"}\r\n'


@pytest.fixture
def scored(
    make_spec: Callable[..., Spec], make_handler: Any, console: Any, tmp_path: Path
) -> tuple[Spec, dict[str, Artifact], Journal]:
    """A run of one step that read an eval set with CRLF line ends."""
    spec = make_spec(("score", "score", {}))
    (tmp_path / "eval.jsonl").write_bytes(CRLF)
    kinds = {"score": make_handler("score", (), "card", reads=("eval_set",))}
    store = Store(tmp_path)
    journal = Journal(journal_path(store.root, "toy_v1"))
    run = _Run(spec, kinds, store, journal, console, "runspec run toy.yaml", Selection(), lambda: False)  # type: ignore[arg-type]
    run.run_steps()
    return spec, run.made, journal


def test_the_eval_set_is_its_bytes(scored: Any) -> None:
    """CRLF stays CRLF: its digest is the one that the score step has among its ingredients."""
    spec, made, journal = scored
    record = make_record(spec, made, journal)
    assert record.eval_set_bytes == CRLF
    assert made["score"].ingredients["spec"]["eval_set"] == digest_bytes(CRLF)
    assert (record.spec_bytes, record.spec_digest) == (spec.data, spec.digest)


def test_an_eval_set_that_was_edited_meanwhile_is_named(scored: Any, tmp_path: Path) -> None:
    """X312 with the step that read the other one, R107 where it was removed; never evidence of what was not read."""
    spec, made, journal = scored
    (tmp_path / "eval.jsonl").write_bytes(CRLF.replace(b"\r\n", b"\n"))
    with pytest.raises(RunFailed) as changed:
        make_record(spec, made, journal)
    assert changed.value.diagnostics[0].message == 'eval.jsonl was changed after step "score" (score) had read it'
    assert changed.value.code == "X312"
    with pytest.raises(InputInvalid) as gone:
        make_record(replace(spec, eval_set="gone.jsonl"), made, journal)
    assert gone.value.code == "R107"
