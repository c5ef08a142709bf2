"""Bounds of streaming: the host's memory, each device's shard, and equal values on any sharding.

In processes of their own: one for each format, with eight virtual devices and some 290 MB of generated weights.
Measured is the peak of the resident set (VmHWM, reset before the load by /proc/self/clear_refs), less what was resident
before, less the bytes of the model, since these devices' memory is the host's. Files are read by position into the
process's own memory and not mapped, so that the page cache is no part of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.trainer.models import config_from_hf, family_of
from engine.trainer.text.tokenizer import build_chars
from engine.trainer.weights import FORMATS
from engine.trainer.weights.reading import FLOATS
from engine.trainer.weights.table import flax_name, slots

REPOSITORY = Path(__file__).parents[3]
MB = 1 << 20
# For the workers' pieces and the interpreter; the bar allows 1 GB.
SLACK = 40 * MB

CHILD = """
import gc, json, sys
from pathlib import Path

import jax
import numpy as np
from engine.trainer.models import config_from_hf
from engine.trainer.distributed.placement import Placement
from engine.trainer.weights import filling, load_folder, read_config, save_folder

jax.config.update("jax_numpy_dtype_promotion", "strict")
small, large, out, form = (Path(word) for word in sys.argv[1:])

def resident(key):
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) << 10 for row in rows if row.startswith(key))

def reset():
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")

most = {}
put = filling._put

def watched(*arguments, **options):
    array = put(*arguments, **options)
    shards = [shard for live in jax.live_arrays() for shard in live.addressable_shards]
    # By memory address: a sharded array and the arrays it consists of are the same bytes.
    buffers = {(shard.device.id, shard.data.unsafe_buffer_pointer()): shard.data.nbytes for shard in shards}
    for device in {device for device, _ in buffers}:
        held = sum(size for (owner, _), size in buffers.items() if owner == device)
        most[device] = max(most.get(device, 0), held)
    return array

filling._put = watched
spots = Placement().weight_shardings(config_from_hf(read_config(large)))
warmed, config, tokenizer = load_folder(small, sharding_of=spots)
save_folder(out / "small", warmed, config, tokenizer, dtype="bfloat16", formats=[form.name])
del warmed
gc.collect()
most.clear()
found = {}
for may_donate in (False, True):
    before = reset()
    model, config, tokenizer = load_folder(large, sharding_of=spots, may_donate=may_donate)
    jax.block_until_ready(list(model.weights().values()))
    found[f"load, may_donate={may_donate}"] = resident("VmHWM") - before
    if not may_donate:
        del model
        gc.collect()  # a module holds itself
weights = model.weights()
share = {}
for array in weights.values():
    for shard in array.addressable_shards:
        share[shard.device.id] = share.get(shard.device.id, 0) + shard.data.nbytes
found["most"], found["share"] = most, share
found["model"] = sum(array.nbytes for array in weights.values())
found["leaf"] = max(array.nbytes for array in weights.values())
before = reset()
save_folder(out / "large", model, config, tokenizer, dtype="bfloat16", formats=[form.name])
found["save"] = resident("VmHWM") - before
print(json.dumps(found))
"""

SHARDINGS = """
import itertools, sys
from pathlib import Path

import jax
import numpy as np
from engine.trainer.weights import load_folder

folder = Path(sys.argv[1])
plain = {name: np.asarray(array) for name, array in load_folder(folder)[0].weights().items()}
mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
seen = 0
for spec in itertools.product([None, "a", "b", ("a", "b")], repeat=3):
    names = [name for one in spec if one for name in (one if isinstance(one, tuple) else [one])]
    if len(set(names)) < len(names):
        continue
    sharding = lambda name, shape: jax.NamedSharding(mesh, jax.P(*spec[3 - len(shape):]))
    model, _, _ = load_folder(folder, sharding_of=sharding, may_donate=seen % 2 == 0)
    for name, array in model.weights().items():
        assert array.sharding == sharding(name, array.shape), (spec, name)
        np.testing.assert_array_equal(np.asarray(array), plain[name], err_msg=f"{spec} {name}")
    seen += 1
print(seen)
"""


def generate(folder: Path, form: str, sizes: dict[str, Any], dtype: str = "bfloat16") -> Path:
    """A Gemma of these sizes; the weights are written tensor by tensor from one pool of numbers."""
    config = config_from_hf({"model_type": "gemma", "num_attention_heads": 4, "num_key_value_heads": 4} | sizes)
    is_flax = form == "flax_msgpack"
    named = {flax_name(one) if is_flax else one.stored_name: one for one in slots(family_of(config), config)}
    shapes = {name: slot.stored_shape(is_flax=is_flax) for name, slot in named.items()}
    pool = np.random.default_rng(0).normal(size=1 << 20).astype(FLOATS[dtype])
    folder.mkdir(parents=True)
    whole, write = FORMATS[form]
    with (folder / whole).open("wb") as stream:
        write(stream, shapes, FLOATS[dtype], lambda name: np.resize(pool, shapes[name]))
    (folder / "config.json").write_text(json.dumps(config.to_hf(dtype=dtype)))
    build_chars().save(folder)
    return folder


def run(code: str, *words: object) -> str:
    """Eight virtual devices, in a process of their own."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [sys.executable, "-W", "error", "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel does not say the peak")
@pytest.mark.parametrize("form", ["safetensors", "flax_msgpack"])
def test_memory_of_host_and_devices(tmp_path: Path, form: str) -> None:
    """Host: the model and at most two leaves. A device: never more than its shard. Saving: less than one leaf more."""
    small = {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}
    large = {
        "vocab_size": 1280, "hidden_size": 1024, "intermediate_size": 8192, "num_hidden_layers": 5, "head_dim": 128,
    }  # fmt: skip
    found = json.loads(
        run(
            CHILD,
            generate(tmp_path / "small", form, small),
            generate(tmp_path / "large", form, large),
            tmp_path / "out",
            form,
        )
    )
    assert found["model"] > 250 * MB
    assert found["leaf"] < found["model"] / 3
    assert found["load, may_donate=False"] - found["model"] < found["leaf"] + SLACK
    assert found["load, may_donate=True"] - found["model"] < 2 * found["leaf"] + SLACK
    assert found["save"] < found["leaf"] + SLACK
    assert len(found["most"]) == 8
    assert all(found["most"][device] <= found["share"][device] for device in found["most"]), found
    assert max(found["share"].values()) < 1.01 * found["model"] / 8
    whole = FORMATS[form][0]
    assert (tmp_path / "out" / "large" / whole).read_bytes() == (tmp_path / "large" / whole).read_bytes()


@pytest.mark.parametrize("form", ["safetensors", "flax_msgpack"])
def test_every_way_to_cut_a_leaf(tmp_path: Path, form: str) -> None:
    """Layers, rows, columns, over one axis of a mesh or both, replicated: the requested sharding, equal values."""
    sizes = {"vocab_size": 264, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 8, "head_dim": 8}
    assert int(run(SHARDINGS, generate(tmp_path / "model", form, sizes, "float32"))) >= 15
