"""The compiled price of a train step: the lowered program is the one that trains, and no weight is made for it."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from engine.errors import InputInvalid
from engine.extras import compilers_command
from engine.protocol.jobs import PriceJob
from engine.trainer.cost import machines
from engine.trainer.cost.price import (
    abstract_batch,
    abstract_state,
    compile_abstract,
    needed_bytes,
    price_step,
    without_cudnn,
)
from engine.trainer.distributed.placement import Placement
from engine.trainer.input_pipeline.batches import DataOrder, batch_at
from engine.trainer.input_pipeline.packing import pack_rows
from engine.trainer.input_pipeline.rows import TokenRow
from engine.trainer.models import config_from_hf
from engine.trainer.train_step import compile_train_step, init_state, with_method

CPU = jax.devices("cpu")[0]
CONFIG = {
    "model_type": "gemma", "vocab_size": 260, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 128,
}  # fmt: skip
COMPILATION = "/jax/core/compile/backend_compile_duration"
# Bytes a weight at least: f32 with two statistics, bf16 with hardly any statistics.
WEIGHTS = {("float32", "adamw"): 12, ("bfloat16", "adafactor"): 2}


@dataclass(frozen=True)
class Priced:
    """The report of one pricing, and what it compiled and left behind."""

    args: Any
    report: dict[str, Any]
    compilations: int
    arrays: int


@pytest.fixture(scope="module")
def full_rows(make_args) -> tuple[Any, Any]:
    """(args, packed) for rows that fill their sequences and of which all but BOS is trained."""
    args = make_args(seq_len=16, grad_accum_steps=2)
    rows = [TokenRow(str(index), (2, *range(4, 19)), (0,) + (1,) * 15) for index in range(4)]
    return args, pack_rows(rows, args.seq_len, packing=True, seed=0)


def test_the_abstract_batch_has_the_shapes_of_a_batch(full_rows):
    """Names, shapes and dtypes are those of batch_at on full rows."""
    args, packed = full_rows
    fed = batch_at(packed, DataOrder(packed.n_sequences, 4, 0), 1, args.grad_accum_steps)
    priced = abstract_batch(args, fsdp=1)
    assert {name: (array.shape, array.dtype) for name, array in fed.items()} == {
        name: (shape.shape, shape.dtype) for name, shape in priced.items()
    }


def test_fewer_targets_narrow_the_target_arrays(make_args):
    """targets_per_row sets the J of the batch, and nothing else in it."""
    args = make_args(seq_len=16)
    few, all_ = abstract_batch(args, 2, targets_per_row=5), abstract_batch(args, 2)
    assert few["target_ids"].shape == (1, 4, 5)
    assert all_["target_ids"].shape == (1, 4, 15)
    assert few["tokens"].shape == all_["tokens"].shape == (1, 4, 16)


def test_the_abstract_state_has_the_shapes_of_the_state_that_trains(make_args, micro_model):
    """Structure, shapes and dtypes are those of init_state on a real model, and so is the graphdef."""
    args = make_args(optimizer="adafactor", dtype="bfloat16")
    graphdef, shapes = abstract_state(config_from_hf(CONFIG), args, CPU)
    real_graphdef, real = init_state(with_method(micro_model("bfloat16"), args, CPU), args)
    assert jax.tree.structure(shapes) == jax.tree.structure(real)
    assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(shapes)] == [
        (leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(real)
    ]
    assert graphdef == real_graphdef


def test_adapters_have_an_abstract_state_too(make_args, micro_model):
    """With method lora the base is frozen beside the adapters, as in a training run."""
    args = make_args(method="lora", lora_rank=2)
    _, shapes = abstract_state(config_from_hf(CONFIG), args, CPU)
    _, real = init_state(with_method(micro_model(), args, CPU), args)
    assert jax.tree.structure(shapes) == jax.tree.structure(real)
    assert "frozen" in shapes


def test_shapes_compile_to_the_memory_of_the_real_step(full_rows, micro_model):
    """Byte for byte the memory of the step compiled from the arrays themselves."""
    args, packed = full_rows
    placement = Placement(jax.devices("cpu")[:1])
    graphdef, state = init_state(micro_model(), args)
    batch = batch_at(packed, DataOrder(packed.n_sequences, 4, 0), 1, args.grad_accum_steps)
    real = compile_train_step(
        graphdef, args, placement.state(state, config_from_hf(CONFIG)), placement.batch(batch, axis=1)
    )
    abstract, _, _ = compile_abstract(config_from_hf(CONFIG), args, jax.devices("cpu")[:1])
    names = ("argument", "output", "alias", "temp")
    sizes = [[getattr(step.memory_analysis(), f"{name}_size_in_bytes") for name in names] for step in (real, abstract)]
    assert sizes[0] == sizes[1]


@pytest.fixture(scope="module", params=WEIGHTS)
def priced(request, make_args) -> Priced:
    """The CPU's answer, the programs that were compiled for it, and the arrays it left behind."""
    dtype, optimizer = request.param
    args = make_args(dtype=dtype, optimizer=optimizer, seq_len=24)
    compiled: list[str] = []
    gc.collect()  # arrays that earlier tests left must not be freed in between
    before = len(jax.live_arrays())

    def listen(event: str, duration: float, **details: Any) -> None:
        if event == COMPILATION:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        report = price_step(PriceJob("cpu", CONFIG, args))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return Priced(args, report, len(compiled), len(jax.live_arrays()) - before)


def test_the_full_state_is_donated(priced):
    """Alias bytes equal state bytes: the new state takes the memory of the old one, weight for weight.

    Left out are the one-element placeholders of an optimizer that has no statistics for a leaf: they are constants.
    """
    report = priced.report
    _, state = abstract_state(config_from_hf(CONFIG), priced.args, CPU)
    placeholders = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state) if leaf.shape == (1,))
    assert report["alias_bytes"] == report["state_bytes"] - placeholders
    assert report["state_bytes"] >= WEIGHTS[priced.args.dtype, priced.args.optimizer] * report["params"]


def test_the_report_of_a_cpu(priced):
    """The source is named; the peak includes arguments and temporaries; a CPU has no limit."""
    report = priced.report
    assert report["peak_bytes"] >= report["argument_bytes"] + report["temp_bytes"]
    assert report["needed_bytes"] == report["peak_bytes"]
    assert (report["source"], report["devices"], report["limit_bytes"], report["fits"]) == (
        "cpu-compiler",
        1,
        None,
        None,
    )


def test_one_program_is_compiled_and_no_array_is_made(priced):
    """Pricing compiles exactly the train step; drawing a weight would be a second program."""
    assert (priced.compilations, priced.arrays) == (1, 0)


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        ("RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (16.33G) exceeds "
         "available HBM (15.75G).", int(16.33 * (1 << 30))),
        ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 28.59G of 15.75G hbm.", int(28.59 * (1 << 30))),
        ("RESOURCE_EXHAUSTED: Used 900.50M of 512.00M hbm", int(900.5 * (1 << 20))),
        ("RESOURCE_EXHAUSTED: too many compilations", None),
        ("INVALID_ARGUMENT: Used 28.59G of 15.75G hbm", None),
    ],
)  # fmt: skip
def test_the_compiler_s_error_says_how_much_it_would_take(message, needed):
    """The TPU compiler's sentences are parsed; any other failure stays a failure."""
    assert needed_bytes(message) == needed


def test_cudnn_s_attention_is_priced_in_blocks_and_says_so(make_args):
    """Without the GPU JAX refuses to lower a call to cuDNN; the report says what was priced instead. Others stay as they are."""
    h100: Any = SimpleNamespace(platform="gpu", device_kind="NVIDIA H100 80GB HBM3", compute_capability="9.0")
    args, config = make_args(attention="fused", dtype="bfloat16"), config_from_hf(CONFIG)
    priced, instead = without_cudnn(args, config, h100)
    assert priced == replace(args, attention="blocked")
    assert instead["attention_because"].startswith("cuDNN's kernel cannot be compiled without the GPU")
    auto = make_args(dtype="bfloat16")
    assert without_cudnn(auto, config, h100) == (auto, {})


def test_a_kernel_that_a_machine_has_not_is_refused(make_args):
    """T175 before anything is compiled."""
    with pytest.raises(InputInvalid) as caught:
        price_step(PriceJob("cpu", CONFIG, make_args(attention="fused")))
    assert [found.code for found in caught.value.diagnostics] == ["T175"]


def test_an_unknown_machine_is_named(make_args):
    """T150, word for word."""
    with pytest.raises(InputInvalid) as caught:
        price_step(PriceJob("v5e-9", CONFIG, make_args()))
    (found,) = caught.value.diagnostics
    assert (found.code, found.message, found.hint) == (
        "T150", 'no compiler is known for a machine "v5e-9"', 'did you mean "v5e-8"?',
    )  # fmt: skip


def test_a_missing_compiler_is_named_with_what_to_type(tmp_path, monkeypatch):
    """T151, word for word: with a folder that lacks it, and without a folder."""
    monkeypatch.setattr("os.environ", {})
    (tmp_path / "jax_cuda12_plugin").mkdir()
    findings = []
    for name, folder in (("t4", tmp_path), ("v5e-8", None)):
        with pytest.raises(InputInvalid) as caught:
            machines.prepare(name, folder)
        findings.append(caught.value.diagnostics[0])
    assert [found.code for found in findings] == ["T151", "T151"]
    assert [found.message for found in findings] == [
        f"the gpu compiler is missing: {tmp_path} lacks jax_plugins/xla_cuda12/xla_cuda_plugin.so, "
        "nvidia/cuda_nvcc/bin/ptxas",
        "the tpu compiler is missing: no folder of compilers is named",
    ]
    assert (
        findings[0].hint == f"{compilers_command(Path())} (1.3 GB), or name a folder that has them in RUNSPEC_COMPILERS"
    )


def test_preparing_keeps_the_flags_that_are_set(tmp_path, monkeypatch):
    """The user's XLA_FLAGS stay; the dump's and the GPU's flags come after them."""
    import os

    for part in machines.PLUGIN_FILES["gpu"]:
        (tmp_path / part).mkdir(parents=True)
    monkeypatch.setattr("os.environ", {"XLA_FLAGS": "--xla_mine=1", "PATH": "/bin"})
    monkeypatch.setattr("sys.path", [])
    machines.prepare("t4x2", tmp_path, tmp_path / "dump")
    flags = os.environ["XLA_FLAGS"].split()
    assert flags[0] == "--xla_mine=1"
    assert f"--xla_dump_to={tmp_path / 'dump'}" in flags
    assert "--xla_gpu_deterministic_ops=true" in flags
    assert os.environ["PATH"] == f"{tmp_path}/nvidia/cuda_nvcc/bin:/bin"
    assert os.environ["JAX_PLATFORMS"] == "cpu"


def test_two_processes_may_ask_the_tpu_s_compiler_at_once(tmp_path, monkeypatch):
    """libtpu refuses a second process on one machine, as if it drove a TPU; here no device is driven."""
    import os

    for part in machines.PLUGIN_FILES["tpu"]:
        (tmp_path / part).mkdir(parents=True)
    monkeypatch.setattr("os.environ", {})
    machines.prepare("v6e-8", tmp_path)
    assert os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] == "1"
    assert os.environ["TPU_ACCELERATOR_TYPE"] == "v6e-8"
    assert os.environ["TPU_LIBRARY_PATH"] == str(tmp_path / "libtpu" / "libtpu.so")


def test_shapes_are_sharded_as_arrays(make_args):
    """Same shardings, leaf for leaf."""
    placement = Placement(jax.devices("cpu")[:1])
    _, shapes = abstract_state(config_from_hf(CONFIG), make_args(), CPU)
    arrays = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    placed = [jax.tree.leaves(placement.state(tree, config_from_hf(CONFIG))) for tree in (shapes, arrays)]
    assert [leaf.sharding for leaf in placed[0]] == [leaf.sharding for leaf in placed[1]]
