"""A trainer without JAX for the light steps: one number is its state, checkpoints have the real form, and so have stops and sessions.

LIGHT_STEP_SECONDS=0.2            how long a train step takes
LIGHT_STEPS_A_SESSION=3           stop after so many train steps, as for the session limit
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.canonical import digest_bytes, digest_json, digest_tree, jsonl_bytes, pretty_json, sealed, write_atomic
from engine.errors import DeadlineReached, Interrupted
from engine.protocol.checkpoint_files import CHECKPOINTS, MANIFEST_FILE, METRICS_FILE, SEAL
from engine.protocol.deadline import Deadline, steady_seconds
from engine.protocol.sessions import beginning, rows_at, this_second
from engine.trainer_process.carried import good_checkpoints
from tests.fixtures.training import metrics_rows

MACHINE = {"platform": "cpu", "device_kind": "cpu", "devices": 1}
SAVE_SECONDS = 0.05


@dataclass
class Trained:
    """The state after the last train step."""

    weight: float
    rows: list[dict[str, Any]]
    sessions: list[dict[str, Any]]


class LightTrainer:
    """From the newest good checkpoint on."""

    def __init__(self, work: Path, session: Any) -> None:
        self.work, self.train_step, self.weight = work, 0, 1.0
        newest = next(good_checkpoints(work), None)
        digest: str | None = None
        self.before: list[dict[str, Any]] = []
        if newest is not None:
            name, manifest = newest
            self.train_step, digest = int(name), digest_json(manifest)
            self.weight = float((work / CHECKPOINTS / name / "state").read_text())
            self.before = rows_at(manifest["notes"], self.train_step, digest)
            notes = manifest["notes"]
            kept = (work / METRICS_FILE).read_bytes()[: notes["metrics_bytes"]]
            assert digest_bytes(kept) == notes["metrics_sha256"]
            write_atomic(work / METRICS_FILE, kept)  # rows of train steps after the checkpoint are dropped
        else:
            write_atomic(work / METRICS_FILE, b"")
        self.first, self.own = self.train_step + 1, beginning(session, self.train_step, digest, MACHINE)

    def step(self, row: Mapping[str, Any]) -> None:
        time.sleep(float(os.environ.get("LIGHT_STEP_SECONDS", "0")))
        self.train_step += 1
        self.weight = (self.weight * 1103515245 + self.train_step) % 65537 / 7
        with (self.work / METRICS_FILE).open("ab") as stream:
            stream.write(jsonl_bytes([row]))

    def save(self) -> str:
        """The checkpoint of this train step, and its digest."""
        folder = self.work / CHECKPOINTS / f"{self.train_step:08d}"
        staging = folder.with_suffix(".tmp")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        (staging / "state").write_text(repr(self.weight))
        rows = (self.work / METRICS_FILE).read_bytes()
        notes = {"metrics_bytes": len(rows), "metrics_sha256": digest_bytes(rows), **self.notes()}
        values = {"train_step": self.train_step, "notes": notes, "files": digest_tree(staging)}
        write_atomic(staging / MANIFEST_FILE, pretty_json(sealed(values, SEAL)))
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(staging, folder)
        for older in sorted((self.work / CHECKPOINTS).iterdir())[:-2]:
            shutil.rmtree(older)
        return digest_json(values)

    def notes(self) -> dict[str, Any]:
        return {"sessions": self.before, "session": {**self.own, "saved_at": this_second()}}

    def chain(self, digest: str | None) -> list[dict[str, Any]]:
        if digest is None or self.train_step < self.first:
            return self.before
        return rows_at(self.notes(), self.train_step, digest)


def train(ctx: Any) -> Trained:
    """Every train step, or a stop with a checkpoint."""
    rows = metrics_rows(ctx.args)
    trainer, most = LightTrainer(ctx.work, ctx.session), int(os.environ.get("LIGHT_STEPS_A_SESSION", "0"))
    digest: str | None = None
    while trainer.train_step < len(rows):
        trainer.step(rows[trainer.train_step])
        here, is_last = trainer.train_step - trainer.first + 1, trainer.train_step == len(rows)
        stops = ctx.stopping() or here == most or not _fits(ctx.deadline)
        if is_last or stops or trainer.train_step % ctx.args["save_every_steps"] == 0:
            digest = trainer.save()
        if stops and not is_last:
            said = f"stopped at train step {trainer.train_step}; a checkpoint was saved"
            raise (
                Interrupted("R203", said) if ctx.stopping() and ctx.deadline is None else DeadlineReached("R208", said)
            )
    return Trained(trainer.weight, rows, trainer.chain(digest))


def _fits(deadline: Deadline | None) -> bool:
    step = float(os.environ.get("LIGHT_STEP_SECONDS", "0"))
    return deadline is None or deadline.fits(steady_seconds(), step, SAVE_SECONDS)
