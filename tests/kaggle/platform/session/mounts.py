"""Attached sources below `input`, in today's layout, in that of before, or in both.

| source | new | old |
|---|---|---|
| dataset | datasets/OWNER/SLUG | SLUG |
| output of a notebook | notebooks/OWNER/SLUG | SLUG |
| competition | competitions/SLUG | SLUG |
| model | models/OWNER/MODEL/framework/VARIATION/VERSION | MODEL/Framework/VARIATION/VERSION |
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.kaggle.platform.world.files import StoredFile
from tests.kaggle.platform.world.sources import Model, model_ref
from tests.kaggle.platform.world.world import World

# How the old layout spells frameworks.
OLD_FRAMEWORK = {"transformers": "Transformers", "flax": "Flax", "pytorch": "PyTorch", "jax": "Jax", "keras": "Keras"}
NEW, OLD = "new", "old"


def lay(files: Iterable[StoredFile], folder: Path) -> None:
    """Write the files below a folder, read-only; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            continue
        if isinstance(file.content, Path):
            shutil.copyfile(file.content, target)
        else:
            target.write_bytes(file.content)
        os.utime(target, (file.modified.timestamp(),) * 2)
        target.chmod(0o444)


def mount_model(model: Model, folder: Path, layout: str = NEW) -> str:
    """The place below ``folder``."""
    new = f"models/{model.owner}/{model.slug}/{model.framework}/{model.variation}/{model.version}"
    framework = OLD_FRAMEWORK.get(model.framework, model.framework.capitalize())
    place = new if layout == NEW else f"{model.slug}/{framework}/{model.variation}/{model.version}"
    lay(model.files, folder / place)
    return place


def mount_named(kind: str, name: str, files: Iterable[StoredFile], folder: Path, layout: str = NEW) -> str:
    """A dataset, an output of a notebook (``owner/slug``) or a competition (``slug``)."""
    place = f"{kind}/{name}" if layout == NEW else name.rsplit("/", 1)[-1]
    lay(files, folder / place)
    return place


def mount_all(world: World, sources: Mapping[str, list[str]], folder: Path) -> None:
    """Everything that is attached to a version."""
    folder.mkdir(parents=True, exist_ok=True)
    for layout in world.layouts:
        for ref in sources.get("datasetDataSources", []):
            name = "/".join(ref.split("/")[:2])
            mount_named("datasets", name, world.datasets[name].files, folder, layout)
        for ref in sources.get("kernelDataSources", []):
            mount_named("notebooks", "/".join(ref.split("/")[:2]), world.latest_output(ref) or (), folder, layout)
        for ref in sources.get("competitionDataSources", []):
            mount_named("competitions", ref, world.competitions[ref], folder, layout)
        for ref in sources.get("modelDataSources", []):
            model = world.model(*model_ref(ref))
            assert model is not None
            mount_model(model, folder, layout)
