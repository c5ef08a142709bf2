"""The files of a training run's work folder by name: the trainer writes them, and the carry-over between sessions takes them along."""

from __future__ import annotations

CHECKPOINTS, METRICS_FILE = "checkpoints", "metrics.jsonl"  # in the work folder
MANIFEST_FILE, SEAL = (
    "checkpoint.json",
    "mark_sha256",
)  # in the folder of one checkpoint, which is named by its train step
TRAIN_STEP_DIGITS = 8
ANSWERS_FILE = "generated.jsonl"  # of a generate job: the answers so far
