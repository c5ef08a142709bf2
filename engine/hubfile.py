"""One file of a dataset repository on the hub: ``dataset: {hub: owner/name, revision: …, path: …}``.

What comes out: the local path of the file and the commit its revision stands for, which is what gets recorded.
The hub's client is an extra and is imported here only, when a spec asks for it.
"""

from __future__ import annotations

from pathlib import Path

from engine.errors import RemoteRefused
from engine.extras import require
from engine.spec.model import DatasetSpec

DEFAULT_FILES = ("{split}.jsonl", "data/{split}.jsonl")


def fetch_dataset_file(dataset: DatasetSpec, cache: Path) -> tuple[Path, str]:
    """Download (or find in the cache) the dataset's file. Raises RemoteRefused R401 and InputInvalid X101."""
    require("train", "a dataset from the hub")
    from huggingface_hub import HfApi, hf_hub_download

    repository = dataset.hub or ""
    try:
        info = HfApi().dataset_info(repository, revision=dataset.revision)
        commit = str(info.sha)
        names = {entry.rfilename for entry in info.siblings or ()}
        name = _choose(dataset, names)
        path = hf_hub_download(repository, name, repo_type="dataset", revision=commit, cache_dir=cache)
    except (OSError, ValueError) as error:  # every error of the client is one of these two
        raise RemoteRefused(
            "R401", f"cannot get dataset {repository} at {dataset.revision or 'main'}: {type(error).__name__}",
            hint="check the name, the revision and the path; a gated dataset needs its licence accepted and HF_TOKEN",
        ) from error  # fmt: skip
    return Path(path), commit


def _choose(dataset: DatasetSpec, names: set[str]) -> str:
    split = dataset.split or "train"
    candidates = [dataset.path] if dataset.path else [pattern.format(split=split) for pattern in DEFAULT_FILES]
    for candidate in candidates:
        if candidate in names:
            return candidate
    jsonl = ", ".join(sorted(name for name in names if name.endswith(".jsonl"))) or "none"
    raise RemoteRefused("R402", f"dataset {dataset.hub} has no {' or '.join(map(str, candidates))}",
                        hint=f"name the file with path: …; its JSONL files: {jsonl}")  # fmt: skip
