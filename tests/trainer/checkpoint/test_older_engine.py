"""A training run that an engine before the rooms began: refused in one sentence, and started over by what the hint says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.canonical import digest_json, pretty_json
from engine.errors import InputInvalid, render

# Written by the commit before the rooms, for the very job of `make_job`, killed after train step 6.
OLDER = Path(__file__).parents[2] / "fixtures" / "checkpoint_of_flat_trainer.json"


def as_written_by_the_older_engine(manifest: Path) -> tuple[str, str]:
    """Give a checkpoint the identity that the older engine wrote, on these libraries; (the older code's digest, ours)."""
    values = json.loads(manifest.read_bytes())
    older, mine = json.loads(OLDER.read_bytes())["identity"], values["identity"]
    of_the_machine = {name: value for name, value in mine.items() if name.startswith("library ") or name == "XLA_FLAGS"}
    values["identity"] = older | of_the_machine
    del values["mark_sha256"]
    manifest.write_text(pretty_json({**values, "mark_sha256": digest_json(values)}))
    return older["trainer code"], mine["trainer code"]


def test_a_run_of_the_flat_trainer_is_refused_in_one_sentence(
    make_job: Callable[..., Any], train_here: Callable[..., list[Any]]
) -> None:
    """Its code has another digest, and nothing else differs: T120, once; deleting what the hint names starts over."""
    job = make_job()
    train_here({**job, "stop_at": 3})
    checkpoints = Path(job["work"]) / "checkpoints"
    before, now = as_written_by_the_older_engine(checkpoints / "00000003" / "checkpoint.json")
    with pytest.raises(InputInvalid) as caught:
        train_here(job)
    (only,) = caught.value.diagnostics
    assert (only.code, only.message) == (
        "T120",
        "the checkpoint of train step 3 belongs to another training run: "
        f"trainer code was {before[:12]}…, now it is {now[:12]}…",
    )
    assert f"to start over, delete {checkpoints}" in render(only)
    shutil.rmtree(checkpoints)
    assert train_here(job)[-1]["event"] == "finished"
