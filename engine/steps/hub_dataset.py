"""One file of a dataset repository on the hub: ``dataset: {hub: owner/name, revision: …, path: …}``.

Out: the local path of the file and the commit that its revision resolves to, which is recorded. The trainer's process
fetches it (verb ``fetch``), because it has the hub's client: the same cache, resume, checks and messages as for a model,
and no token in this process.
"""

from __future__ import annotations

from pathlib import Path

from engine.extras import require
from engine.steps import StepContext
from engine.trainer_process.jobs import fetch_job
from engine.trainer_process.process import run_trainer

DEFAULT_FILES = ("{split}.jsonl", "data/{split}.jsonl")


def fetch_dataset_file(ctx: StepContext) -> tuple[Path, str]:
    """Fetch the dataset's file into the hub's cache. Raises M401 to M409 of engine.trainer.hub, InputInvalid X101."""
    require("train", "a dataset from the hub")
    dataset = ctx.spec.dataset
    split = dataset.split or "train"
    any_of = [dataset.path] if dataset.path else [pattern.format(split=split) for pattern in DEFAULT_FILES]
    report = run_trainer(fetch_job(ctx.spec, any_of), ctx.host)
    return Path(report["path"]), report["commit"]
