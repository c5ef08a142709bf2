"""What stands in for the slow parts: a small notebook, a clock that does not wait, a session that leaves what a real one would."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.assets import asset
from engine.canonical import digest_json, digest_text, pretty_json, sealed
from engine.commands.kaggle import driver as commands
from engine.evidence import render_evidence, verify
from engine.evidence.contents import Reader
from engine.evidence.witness import read_witness, write_witness
from engine.kaggle.driver import door, planning
from engine.kaggle.notebook import Notebook, NotebookRequest
from engine.runspec import load_spec
from engine.runspec.model import Spec
from engine.steps.registry import handlers
from tests.evidence.conftest import FILES, ITEMS, build, spec_text
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.world.kernels import KernelVersion

NONCE = re.compile(r"runspec nonce: ([0-9a-f]{32})")
ENGINE = "e" * 64
CHAIN = [{"first_train_step": 1, "last_train_step": 4, "checkpoint_sha256": "c" * 64, "parent_sha256": None}]
OF_SESSION = {
    "run_type": "Batch",
    "notebook_url": None,
    "notebook_version": None,
    "run_id": None,
}  # which it cannot know
URL = "https://www.kaggle.com/code/someone/runspec-toy-v1"


def project_in(root: Path) -> Path:
    """A project with the run-spec whose evidence :func:`finished` leaves; the path of the run-spec."""
    (root / ".runspec").mkdir(parents=True)
    (root / "runspecs").mkdir()
    path = root / "runspecs" / "toy.yaml"
    path.write_text(spec_text(), encoding="utf-8")
    (root / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS), encoding="utf-8")
    return path


def level_where_this_is_kaggle(package: str | Path, fetched: str | Path, platform: Platform) -> str | None:
    """The trust level of a package with the copy that was fetched from ``platform``, declared to be Kaggle; `runspec verify` cannot be told so."""
    return verify(Path(package), Reader(witness=read_witness(Path(fetched), stand_in=platform.api_url))).trust_level


def small_notebook(spec: Spec, request: NotebookRequest, _: Callable[[str], bool]) -> Notebook:
    """A notebook with the nonce, and nothing of the engine: the real one takes seconds to pack."""
    cell = {"cell_type": "code", "id": "a", "execution_count": None, "metadata": {}, "outputs": [],
            "source": [f"print('runspec nonce: {request.nonce}')\n", f"# {request}"]}  # fmt: skip
    text = json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    return Notebook(text, digest_text(text), len(text), ENGINE, digest_text("cells"))


def load_toy(path: str, overrides: Any = None) -> tuple[Spec, Any]:
    """As the commands do, with a builder for the toy's dataset."""
    return load_spec(
        Path(path), list(overrides or ()), kinds=handlers(), builders=("toy",), metrics=("answer_correctness@v1",)
    ), handlers()


class QuickClock:
    """Waits by moving ``advance``'s clock; remembers what was waited."""

    def __init__(self, advance: Callable[[float], object] = lambda _: None) -> None:
        self.waits: list[float] = []
        self._advance = advance

    def now(self) -> float:
        return time.time() + sum(self.waits)

    def monotonic(self) -> float:
        return time.monotonic() + sum(self.waits)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self._advance(seconds)

    def jitter(self) -> float:
        return 0.5


def install(patch: pytest.MonkeyPatch, clock: QuickClock) -> None:
    """In place of the slow parts, in this process."""
    numbers = itertools.count(1)
    patch.setattr(planning, "make_notebook", small_notebook)
    patch.setattr(planning.secrets, "token_hex", lambda _: f"{next(numbers):032x}")
    patch.setattr(commands, "load", load_toy)
    patch.setattr(door, "SystemClock", lambda: clock)


def done_at_once(drive: Any, _: Any) -> None:
    """In place of the completion: nothing is packed."""
    drive.story.append("completing")
    drive.story.append("done")


def nonce_of(version: KernelVersion) -> str:
    """Of a notebook that the driver pushed; "" of a stranger's."""
    match = NONCE.search(version.text)
    return match[1] if match else ""


def log_of(version: KernelVersion) -> list[str]:
    """What the notebook prints."""
    return [f"runspec nonce: {nonce_of(version)}", "train step 4/4 loss 0.25"]


def outcome(version: KernelVersion, state: str = "complete", exit_code: int = 0, **more: Any) -> dict[str, str]:
    """``outcome.json`` and ``witness.json`` of a session."""
    said = {"schema_version": 1, "exit_code": exit_code, "state": state, "run_version": "toy_v1", "engine_sha256": ENGINE,
            "notebook_sha256_of_cells": digest_text("cells"), "next": None, **more}  # fmt: skip
    witness = {
        "schema_version": 1,
        "platform": "kaggle",
        "run_version": "toy_v1",
        "nonce": nonce_of(version),
        "digests": {},
    }
    return {"outcome.json": pretty_json(said), "witness.json": pretty_json(witness)}


def unfinished(
    last: int, parent: Mapping[str, Any] | None = None
) -> tuple[Callable[[KernelVersion], dict[str, str]], dict[str, Any]]:
    """The output of a session that stopped at its limit after train step ``last``, and its session.json for the next one."""
    row = {
        "last_train_step": last,
        "started_at": "2026-01-02T03:00:00+00:00",
        "finished_at": "2026-01-02T03:10:00+00:00",
    }
    earlier = list(parent["sessions"]) if parent else []
    carried = {"schema_version": 1, "run_version": "toy_v1", "state": "unfinished", "number": len(earlier) + 1, "steps": [], "begun": None,
               "parent_sha256": digest_json(parent) if parent else None, "sessions": [*earlier, row]}  # fmt: skip

    def files(version: KernelVersion) -> dict[str, str]:
        sealed_text = pretty_json(sealed(carried, "session_sha256"))
        return {
            **outcome(version, "incomplete", 7),
            "session/session.json": sealed_text,
            "session/carried-1/work": "checkpoint",
        }

    return files, carried


def finished(folder: Path) -> Callable[[KernelVersion], Mapping[str, str | bytes]]:
    """The output of a session that completed the run: evidence that verifies, and the witness of it."""

    def files(version: KernelVersion) -> Mapping[str, str | bytes]:
        nonce = nonce_of(version)
        if nonce not in _MADE:
            _MADE[nonce] = _made(folder / f"made-{nonce}", nonce)
        return {**outcome(version), **_MADE[nonce]}

    return files


_MADE: dict[str, dict[str, str | bytes]] = {}


def _made(home: Path, nonce: str) -> dict[str, str | bytes]:
    record = build(home)
    record = replace(record, environment={**record.environment, "kaggle": {**OF_SESSION, "nonce": nonce}})
    evidence = home / "evidence"
    render_evidence(record, FILES, evidence, template_dirs=[asset("templates")])
    made: dict[str, str | bytes] = {f"evidence/{path.name}": path.read_bytes() for path in sorted(evidence.iterdir())}
    witness = json.loads(write_witness(evidence, home).read_bytes())
    return {**made, "witness.json": pretty_json({**witness, "sessions": CHAIN})}
