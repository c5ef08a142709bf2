"""Which remat policy a run takes: the first that fits what the run may take, by the rule of the plan."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import pytest

from engine.protocol import device_memory
from engine.protocol.device_memory import Allocator
from engine.trainer import remat_policy
from engine.trainer.cost.price import abstract_batch, abstract_state
from engine.trainer.distributed.placement import Placement
from engine.trainer.models import config_from_hf
from engine.trainer.remat_policy import compile_within_limit, limit_bytes

CONFIG = {
    "model_type": "gemma", "vocab_size": 260, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 128,
}  # fmt: skip
T4 = 15_655_829_504


def _device(platform: str, kind: str, limit: int | None) -> Any:
    stats = None if limit is None else {"bytes_limit": limit}
    return SimpleNamespace(platform=platform, device_kind=kind, memory_stats=lambda: stats)


@pytest.mark.parametrize(
    ("device", "allocator", "expected"),
    [
        (_device("gpu", "Tesla T4", 12_345), Allocator(fraction=0.3), 12_345),  # JAX has applied the share
        (_device("gpu", "Tesla T4", None), Allocator("platform"), T4),  # no allocator that knows a limit
        (_device("gpu", "Tesla T4", None), None, int(0.9 * T4)),
        (_device("tpu", "TPU v5 lite", None), None, 16_911_433_728),
        (_device("gpu", "GeForce 256", None), None, None),
    ],
)
def test_what_a_run_may_take_of_an_attached_device(device, allocator, expected):
    """The figure of JAX's allocator, else the rule of the plan on the device's own memory; unknown is unknown."""
    assert limit_bytes(device, allocator) == expected


def test_cpu_devices_share_the_memory_of_the_container(monkeypatch, tmp_path):
    """As the plan counts it: the container's limit, where it is smaller than the machine's."""
    limit = tmp_path / "memory.max"
    limit.write_text("1048576")
    monkeypatch.setattr(device_memory, "CGROUP_LIMIT", limit)
    assert limit_bytes(jax.devices("cpu")[0]) == 1_048_576 // jax.local_device_count()


@pytest.mark.parametrize(
    ("limit", "expected", "compiled"),
    [
        (10_000_000, "none", ["none"]),
        (1_041_000, "dots", ["none", "dots"]),  # "none" would take 96.1 % of it
        (500_000, "block", ["none", "dots", "block"]),  # the last one is taken whether it fits or not
        (None, "none", ["none"]),
    ],
)
def test_auto_takes_the_first_policy_that_fits(make_args, monkeypatch, limit, expected, compiled):
    """In the order of speed; a CPU has no host to offload to."""
    tried: list[str] = []
    peaks = {"none": 1_000_000, "dots": 900_000, "block": 800_000}
    monkeypatch.setattr(
        remat_policy, "compile_train_step", lambda *given: tried.append(given[-1].remat) or given[-1].remat
    )
    monkeypatch.setattr(remat_policy, "peak_bytes", lambda step, _: peaks[step])
    args, placement = make_args(remat="auto"), Placement(jax.devices("cpu")[:1])
    graphdef, state = abstract_state(config_from_hf(CONFIG), args, jax.devices("cpu")[0])
    batch = abstract_batch(args, 1)
    step, policy = compile_within_limit(graphdef, args, state, batch, placement, limit=limit)
    assert (step, policy.remat, tried) == (expected, expected, compiled)
