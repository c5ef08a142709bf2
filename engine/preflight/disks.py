"""The disk space of a run: what lies side by side at the worst moment, each disk by itself.

In: the spec, the model's shapes, the target. Out: the ``disk`` part of ``plan --json``.

A run passes through phases: the model is fetched into the hub's cache and stays there; the smoke run and each training
step write checkpoints and export a model, of which only the training steps' models stay. So a disk needs the largest of
its phases, not their sum. Three places count: the store (``.runspec`` of the project), the hub's cache, and the
folder for temporary files. Where several of them are on one disk, it needs what they need together.

What is small is left out: data, tokens, metrics, evidence.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.model_config.shapes import (
    DTYPE_BYTES,
    adapter_params,
    known_id,
    optimizer_bytes,
    param_count,
    published_bytes,
)
from engine.preflight.targets import PlanTarget
from engine.protocol.disk_space import (
    Kept,
    checkpoint_file_bytes,
    model_file_bytes,
    saves_between,
    training_disk_bytes,
)
from engine.protocol.kaggle_models import cached_folder, kagglehub_cache, parse_kaggle_model
from engine.runspec.model import ModelSpec, Spec

STORE, HUB, TEMPORARY = "store", "hub cache", "temporary"
PLACES = (STORE, HUB, TEMPORARY)
TOKENIZER_BYTES = 40_000_000  # Gemma 3's tokenizer.json has 33 MB; processes that tokenise get a copy of it
MANY = 1_000_000  # train steps of a training step that does not say how many it takes
NOT_KNOWN = "the size of this disk is not known"


@dataclass(frozen=True, slots=True)
class Phase:
    """A moment of the run, and the bytes that lie in each place then."""

    name: str
    bytes: Mapping[str, int]

    def on(self, places: Iterable[str]) -> int:
        """Bytes in these places together."""
        return sum(self.bytes.get(place, 0) for place in places)


def disk_part(spec: Spec, phases: list[Phase], target: PlanTarget, staged: Iterable[Path] = ()) -> dict[str, Any]:
    """The worst phase of each disk. ``needed_bytes``, ``limit_bytes`` and ``phase`` are those of the store's disk.

    ``staged``: folders in which an interrupted attempt of this run has left its checkpoints.
    """
    rows = [_row(places, free, phases) for places, free in _disks(spec, target, staged)]
    known = [row["fits"] for row in rows if row["fits"] is not None]
    return {
        **{key: rows[0][key] for key in ("needed_bytes", "limit_bytes", "phase", "terms")},
        "fits": all(known) if rows[0]["fits"] is not None or False in known else None,
        "source": "analytic",
        "disks": rows,
    }


def unknown_disk(spec: Spec, target: PlanTarget, reason: str | None) -> dict[str, Any]:
    """The part of a run whose model's shapes are not known."""
    ((_, free), *_) = _disks(spec, target)
    nothing = dict.fromkeys(("needed_bytes", "phase", "terms", "fits"))
    return {**nothing, "limit_bytes": free, "source": "analytic", "disks": [], "reason": reason}


def _row(places: tuple[str, ...], free: int | None, phases: list[Phase]) -> dict[str, Any]:
    worst = max(phases, key=lambda phase: phase.on(places))
    needed = worst.on(places)
    row = {
        "places": list(places),
        "needed_bytes": needed,
        "limit_bytes": free,
        "fits": None if free is None else needed <= free,
        "phase": worst.name,
        "terms": {place: worst.bytes.get(place, 0) for place in places},
    }
    return row if free is not None else {**row, "reason": NOT_KNOWN}


def phases_of(
    spec: Spec,
    config: Mapping[str, Any],
    training: Mapping[str, Mapping[str, Any]],
    smoke: Mapping[str, Any] | None,
    *,
    is_mounted: bool = False,
) -> list[Phase]:
    """``training``: id of each training step -> its arguments. ``smoke``: those of the smoke run's job, if there is one.

    Earlier training steps' models stay in the store. The download stays in the hub's cache to the end; a mount takes no disk of this kind.
    """
    fetched = 0 if is_mounted else download_bytes(spec.model, config)
    lasting = {HUB: fetched, TEMPORARY: TOKENIZER_BYTES * (spec.model.init != "random")}
    phases = [Phase("download", lasting)]
    if smoke is not None:
        phases.append(Phase("smoke run", {**lasting, STORE: training_bytes_on_disk(config, smoke)}))
    models = 0
    for name, args in training.items():
        phases.append(Phase(name, {**lasting, STORE: models + training_bytes_on_disk(config, args)}))
        models += model_bytes_on_disk(config, args)
    return phases


def training_bytes_on_disk(config: Mapping[str, Any], args: Mapping[str, Any]) -> int:
    """What one training step has on the disk at its worst moment, as its own check counts it (T143)."""
    steps, every = int(args.get("num_train_steps", MANY)), int(args.get("save_every_steps", 1))
    return training_disk_bytes(
        checkpoint=checkpoint_bytes_on_disk(config, args),
        model=model_bytes_on_disk(config, args),
        saves=saves_between(0, steps, every),
        last_train_step=steps,
        kept=Kept(int(args["keep_checkpoints"]), args.get("keep_every_steps"), args.get("keep_best")),
    )


def checkpoint_bytes_on_disk(config: Mapping[str, Any], args: Mapping[str, Any]) -> int:
    """One checkpoint: trained weights and the optimizer's state."""
    if args.get("method") == "lora":
        return checkpoint_file_bytes(4 * adapter_params(config, args) * (3 if args["optimizer"] == "adamw" else 2))
    return checkpoint_file_bytes(param_count(config) * DTYPE_BYTES[args["dtype"]] + optimizer_bytes(config, args))


def model_bytes_on_disk(config: Mapping[str, Any], args: Mapping[str, Any]) -> int:
    """The exported model."""
    return model_file_bytes(
        weights=param_count(config) * DTYPE_BYTES[args["dtype"]],
        adapters=4 * adapter_params(config, args) if args.get("method") == "lora" else None,
        formats=len(args.get("export_formats", ("safetensors",))),
        merge=bool(args.get("lora_merge")),
    )


def download_bytes(model: ModelSpec, config: Mapping[str, Any]) -> int:
    """What is fetched: weights as they are published, and the tokenizer; 0 for a model that is neither on the hub nor on Kaggle."""
    if model.init == "random" or model.path is not None:
        return 0
    return published_bytes(known_id(model.id, model.kaggle), config) + TOKENIZER_BYTES


def _disks(spec: Spec, target: PlanTarget, staged: Iterable[Path] = ()) -> list[tuple[tuple[str, ...], int | None]]:
    """(the places on it, its free bytes or None) of each disk, the store's first."""
    if not target.is_here:
        return [((place,), target.disks.get(place)) for place in PLACES]
    cache = kagglehub_cache(os.environ) if spec.model.kaggle else hub_cache_folder(os.environ)
    folders = {STORE: spec.root / ".runspec", HUB: cache, TEMPORARY: Path(tempfile.gettempdir())}
    disks: dict[int, list[str]] = {}
    for place, folder in folders.items():
        disks.setdefault(_existing(folder).stat().st_dev, []).append(place)
    have = {HUB: _stored(folders[HUB], spec.model), STORE: sum(map(_size, staged))}
    return [(tuple(places), _free(folders, places, have)) for places in disks.values()]


def _free(folders: Mapping[str, Path], places: list[str], have: Mapping[str, int]) -> int:
    """Free bytes, and those that this run has taken already: a fetched model, checkpoints of an interrupted attempt."""
    return shutil.disk_usage(_existing(folders[places[0]])).free + sum(have.get(place, 0) for place in places)


def hub_cache_folder(environ: Mapping[str, str]) -> Path:
    """The hub's cache by huggingface_hub's variables, in its order.

    >>> str(hub_cache_folder({"HF_HOME": "/data/hf"})), str(hub_cache_folder({"HF_HUB_CACHE": "/c", "HF_HOME": "/h"}))
    ('/data/hf/hub', '/c')
    """
    named = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = environ.get("HF_HOME") or f"{cache}/huggingface"
    return Path(named or f"{home}/hub").expanduser()


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


def _stored(cache: Path, model: ModelSpec) -> int:
    """Bytes of the model that its cache has already: kagglehub's folder of the version, or what the revision's snapshot links to."""
    if model.kaggle is not None:
        return _size(cached_folder(parse_kaggle_model(model.kaggle), os.environ))
    folder = cache / "--".join(["models", *model.id.split("/")])
    try:
        commit = (folder / "refs" / (model.revision or "main")).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):  # never fetched, or the revision is a commit itself
        commit = model.revision or ""
    return _size(folder / "snapshots" / commit) if commit and "/" not in commit else 0


def _size(folder: Path) -> int:
    """Bytes of all files below a folder, links followed; 0 where it is not there or cannot be read."""
    found: list[int] = []
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                found.append(Path(parent, name).stat().st_size)
            except OSError:  # deleted meanwhile, or a broken link
                continue
    return sum(found)
