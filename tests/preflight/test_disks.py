"""Disk space: the worst moment of a run, not the sum of all it writes; each disk by itself; as the trainer counts it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.commands.plan import price_text
from engine.errors import Where
from engine.model_config.shapes import KNOWN_CONFIGS, adapter_params, known_id, param_count
from engine.preflight import disks, price
from engine.preflight.disks import (
    TOKENIZER_BYTES,
    checkpoint_bytes_on_disk,
    download_bytes,
    hub_cache_folder,
    model_bytes_on_disk,
    training_bytes_on_disk,
)
from engine.protocol.disk_space import checkpoint_file_bytes
from engine.runspec.model import ModelSpec, Spec, StepSpec

GIB = 1 << 30
CONFIG = KNOWN_CONFIGS["google/gemma-2b"]
WEIGHTS = 2 * param_count(CONFIG)  # bfloat16
ARGS: dict[str, Any] = {
    "dtype": "bfloat16", "optimizer": "adafactor", "per_device_batch_size": 2, "grad_accum_steps": 1, "seq_len": 512,
    "keep_checkpoints": 2, "num_train_steps": 100, "save_every_steps": 25,
}  # fmt: skip
LORA = {
    "method": "lora",
    "lora_rank": 16,
    "lora_merge": False,
    "optimizer": "adamw",
    "lora_targets": ["q_proj", "v_proj"],
}
HANDLERS: Any = {"train_sft": SimpleNamespace(makes="checkpoint"), "smoke_run": SimpleNamespace(makes="smoke_report")}


@pytest.fixture
def spec(gemma_2b: Any) -> Spec:
    """A training step on Gemma 2B, from the hub."""
    return gemma_2b(ARGS)


def _with(spec: Spec, **changes: Any) -> Spec:
    args = ARGS | changes
    return dataclasses.replace(spec, steps=(dataclasses.replace(spec.steps[0], args=args, declared=args),))


@pytest.mark.parametrize(
    ("changes", "checkpoints", "models"),
    [
        ({}, 3, 0),  # two that stay and one that is being written; the model comes when that one is gone
        ({"keep_checkpoints": 1}, 2, 0),
        ({"keep_checkpoints": 1, "export_formats": ["safetensors", "msgpack"]}, 1, 2),
        ({"save_every_steps": 100}, 1, 1),  # one checkpoint, then the model beside it
        ({"save_every_steps": 60}, 2, 1),  # two, none is deleted before the export
        ({"keep_every_steps": 25}, 4, 1),  # four are all there are
        ({"keep_every_steps": 50, "keep_best": 1, "save_every_steps": 10}, 6, 0),
    ],
)
def test_the_worst_moment_of_training(changes, checkpoints, models):
    """Checkpoints that stay with one being written, or with the exported model: the larger of the two."""
    args = ARGS | changes
    each = checkpoint_bytes_on_disk(CONFIG, args)
    assert training_bytes_on_disk(CONFIG, args) == checkpoints * each + models * WEIGHTS


def test_adapters_take_megabytes_and_their_merged_model_gigabytes():
    """A checkpoint has adapters and their statistics; the model is the adapters, or with lora_merge all weights too."""
    args = ARGS | LORA
    adapters = 4 * adapter_params(CONFIG, args)
    assert checkpoint_bytes_on_disk(CONFIG, args) == checkpoint_file_bytes(3 * adapters)
    assert model_bytes_on_disk(CONFIG, args) == adapters
    assert model_bytes_on_disk(CONFIG, args | {"lora_merge": True}) == adapters + WEIGHTS


def test_each_disk_of_kaggle_by_itself(spec):
    """The store has 20 GB and takes three checkpoints; the hub's cache lies on another disk, whose size nobody states."""
    disk = price(spec, HANDLERS, "kaggle-t4x2")["disk"]
    rows = {tuple(row["places"]): row for row in disk["disks"]}
    assert set(rows) == {("store",), ("hub cache",), ("temporary",)}
    store, hub = rows["store",], rows["hub cache",]
    assert store["needed_bytes"] == 3 * checkpoint_bytes_on_disk(CONFIG, ARGS)
    assert (store["limit_bytes"], store["fits"], store["phase"]) == (20_000_000_000, True, "train")
    assert hub["needed_bytes"] == WEIGHTS + TOKENIZER_BYTES
    assert (hub["limit_bytes"], hub["fits"]) == (None, None)
    assert (disk["fits"], disk["needed_bytes"], disk["limit_bytes"]) == (True, store["needed_bytes"], 20_000_000_000)


def test_what_does_not_fit_the_store_does_not_fit(spec):
    """float32 with AdamW: checkpoints of 28 GiB."""
    disk = price(_with(spec, dtype="float32", optimizer="adamw"), HANDLERS, "kaggle-t4x2")["disk"]
    assert disk["fits"] is False
    assert disk["needed_bytes"] == 3 * checkpoint_file_bytes(12 * param_count(CONFIG))


def test_places_on_one_disk_are_added(spec, monkeypatch, tmp_path):
    """Here all three are below one folder: the disk needs the download and the checkpoints together."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (row,) = price(spec, HANDLERS)["disk"]["disks"]
    assert row["places"] == ["store", "hub cache", "temporary"]
    assert row["terms"] == {
        "store": 3 * checkpoint_bytes_on_disk(CONFIG, ARGS),
        "hub cache": WEIGHTS + TOKENIZER_BYTES,
        "temporary": TOKENIZER_BYTES,
    }
    assert row["needed_bytes"] == sum(row["terms"].values())


def test_what_the_run_has_written_already_counts_as_free(spec, monkeypatch, tmp_path):
    """A fetched model and the checkpoints of an interrupted attempt are part of what the run needs."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(disks.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000))
    home, commit, staged = tmp_path / "hub" / "models--google--gemma-2b", "a" * 40, tmp_path / "staging"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    (home / "blobs").mkdir()
    (home / "blobs" / "b").write_bytes(b"x" * 300)
    (home / "snapshots" / commit).mkdir(parents=True)
    (home / "snapshots" / commit / "model.safetensors").symlink_to(home / "blobs" / "b")
    (staged / "work").mkdir(parents=True)
    (staged / "work" / "checkpoint").write_bytes(b"x" * 70)
    assert price(spec, HANDLERS, staged=[staged])["disk"]["limit_bytes"] == 1_370
    other = dataclasses.replace(spec, model=ModelSpec("google/gemma-2b", revision="flax"))
    assert price(other, HANDLERS)["disk"]["limit_bytes"] == 1_000


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (ModelSpec("google/gemma-2b"), WEIGHTS + TOKENIZER_BYTES),
        (ModelSpec("google/gemma-2-2b"), 10_457_367_552 + TOKENIZER_BYTES),  # published in float32
        (ModelSpec("google/gemma-3-4b-it"), 8_600_158_944 + TOKENIZER_BYTES),  # with its vision part
        (ModelSpec("x", kaggle="google/gemma/flax/2b/2"), WEIGHTS + TOKENIZER_BYTES),
        (ModelSpec("x", kaggle="google/gemma-3/transformers/gemma-3-4b-it/1"), 8_600_158_944 + TOKENIZER_BYTES),
        (ModelSpec("google/gemma-2b", path="models/gemma"), 0),
        (ModelSpec("mine", init="random", config={}), 0),
    ],
)
def test_what_is_downloaded(model, expected):
    """The published files; nothing for a local folder or fresh weights."""
    assert download_bytes(model, KNOWN_CONFIGS.get(known_id(model.id, model.kaggle), {})) == expected


def test_a_mount_takes_no_disk(spec, tmp_path, monkeypatch):
    """On Kaggle a model of Kaggle is mounted; elsewhere it takes the disk of kagglehub's cache."""
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    monkeypatch.setenv("RUNSPEC_KAGGLE_ROOT", str(tmp_path / "kaggle"))
    mounted = dataclasses.replace(spec, model=ModelSpec("x", kaggle="google/gemma/flax/2b/2"))
    on_kaggle, elsewhere = (price(mounted, HANDLERS, target)["disk"]["disks"] for target in ("kaggle-v5e-8", "h100"))
    assert [disk["needed_bytes"] for disk in on_kaggle if disk["places"] == ["hub cache"]] == [0]
    assert [disk["needed_bytes"] for disk in elsewhere if disk["places"] == ["hub cache"]] == [
        WEIGHTS + TOKENIZER_BYTES
    ]


def test_the_smoke_run_has_a_phase_of_its_own(spec):
    """With reductions it may be smaller; without them it saves at every step."""
    smoke = {"num_train_steps": 2, "reduce": {"dtype": "float32", "device": "cpu"}}
    step = StepSpec("smoke", "smoke_run", smoke, smoke, None, Where("s.yaml", 1, 1))
    disk = price(dataclasses.replace(spec, steps=(step, *spec.steps)), HANDLERS, "kaggle-v5e-8")["disk"]
    assert disk["phase"] == "smoke run"
    wide = ARGS | {"dtype": "float32"}
    assert disk["needed_bytes"] == 2 * checkpoint_bytes_on_disk(CONFIG, wide) + 2 * WEIGHTS


def test_the_model_of_an_earlier_training_step_stays(spec):
    """Two training steps: the second has the first one's model beside it."""
    second = dataclasses.replace(spec.steps[0], id="again")
    disk = price(dataclasses.replace(spec, steps=(*spec.steps, second)), HANDLERS, "kaggle-v5e-8")["disk"]
    assert (disk["phase"], disk["needed_bytes"]) == ("again", training_bytes_on_disk(CONFIG, ARGS) + WEIGHTS)


def test_the_hub_s_cache_is_where_its_client_looks():
    """HF_HUB_CACHE, else below HF_HOME, else below XDG_CACHE_HOME."""
    assert hub_cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/huggingface/hub")
    assert hub_cache_folder({}) == Path("~/.cache/huggingface/hub").expanduser()


def test_what_a_person_reads_of_the_disks(spec):
    """One line for each disk: what lies there, in which phase it is fullest, and whether it fits."""
    lines = price_text(price(spec, HANDLERS, "kaggle-t4x2")).splitlines()
    assert [line for line in lines if line.startswith("disk")] == [
        "disk    fits: about 14.31 GiB of 18.63 GiB (store; worst in train)",
        "disk    about 4.71 GiB (hub cache; worst in download): the size of this disk is not known",
        "disk    about 38.1 MiB (temporary; worst in download): the size of this disk is not known",
    ]
