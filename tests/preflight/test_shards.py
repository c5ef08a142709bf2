"""What one device holds: the plan's arithmetic is the trainer's layout, weight for weight."""

from __future__ import annotations

import pytest

from engine.model_config.shapes import KNOWN_CONFIGS
from engine.preflight.estimate import state_bytes
from engine.preflight.shards import Mesh, adapters, leaves
from engine.protocol.jobs import train_args
from engine.trainer.config.mesh import MeshSize
from engine.trainer.cost.shardings import sharding_table
from engine.trainer.models import config_from_hf
from tests.preflight.test_exact import ARGS

MODELS = ("gemma-2b", "gemma-7b", "gemma-2-2b", "gemma-3-270m", "gemma-3-1b-pt", "gemma-3-4b-pt")
MESHES = ((1, 1), (2, 1), (8, 1), (1, 2), (4, 2), (2, 4), (1, 8), (3, 1), (1, 3))


@pytest.mark.parametrize("mesh", MESHES, ids=str)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("method", "optimizer"), [("full", "adamw"), ("full", "adafactor"), ("lora", "adamw")])
def test_the_plan_s_shards_are_the_trainer_s(model, mesh, method, optimizer):
    """Bytes of weights and of the optimizer's state on one device, over families, meshes and methods."""
    config = KNOWN_CONFIGS[f"google/{model}"]
    values = ARGS | {"method": method, "optimizer": optimizer, "dtype": "bfloat16"}
    args = train_args(values)
    table = sharding_table(config_from_hf(_full(config)), args, MeshSize(*mesh))
    ours = state_bytes(config, values | {"lora_targets": args.lora_targets, "lora_rank": args.lora_rank}, Mesh(*mesh))
    assert ours["weights"] == sum(row.bytes_per_device for row in table)
    assert ours["optimizer"] == sum(row.optimizer_bytes_per_device for row in table)


def _full(config):
    """The nested form is read elsewhere; here its text part is a model of its own."""
    return {**config, "model_type": "gemma3_text"} if config["model_type"] == "gemma3" else dict(config)


def test_an_axis_that_is_not_divided_stays_whole():
    """Gemma 2B has one kv head: each device of a tp group has k and v complete, and fsdp shards their rows."""
    found = {(leaf.axes, leaf.copies): leaf.on_device for leaf in leaves(KNOWN_CONFIGS["google/gemma-2b"], Mesh(4, 2))}
    assert found["D KH", 18] == 18 * 2048 * 256 // 4
    assert found["D NH", 18] == 18 * 2048 * 2048 // 8
    assert found["V D", 1] == 256_000 * 2048 // 8


def test_the_rank_of_an_adapter_is_never_sharded():
    """a [D, R] is sharded along D, b [R, NH] along NH by tp."""
    found = list(adapters(KNOWN_CONFIGS["google/gemma-2b"], Mesh(4, 2), 16, ["q_proj"]))
    assert [(leaf.axes, leaf.on_device) for leaf in found] == [
        ("D R", 18 * 2048 * 16 // 4), ("R NH", 18 * 2048 * 16 // 2),
    ]  # fmt: skip
