"""One file of a dataset repository on the hub: ``dataset: {hub: owner/name, revision: …, path: …}``.

Out: the local path of the file and the commit that its revision resolves to, which is recorded. The trainer's process
fetches it (verb ``fetch``), because it has the hub's client: the same cache, resume, checks and messages as for a model,
and no token in this process.
"""

from __future__ import annotations

from pathlib import Path

from engine.extras import require
from engine.steps import StepContext

DEFAULT_FILES = ("{split}.jsonl", "data/{split}.jsonl")


def fetch_dataset_file(ctx: StepContext) -> tuple[Path, str]:
    """Fetch the dataset's file into the hub's cache. Raises M401 to M409 of engine.trainer.hub, InputInvalid X101."""
    from engine.trainer_process import jobs, process  # not for those who only read the handler

    require("train", "a dataset from the hub")
    dataset = ctx.spec.dataset
    split = dataset.split or "train"
    any_of = [dataset.path] if dataset.path else [pattern.format(split=split) for pattern in DEFAULT_FILES]
    report = process.run_trainer(jobs.fetch_job(ctx.spec, any_of), ctx.host)
    return Path(report["path"]), report["commit"]
