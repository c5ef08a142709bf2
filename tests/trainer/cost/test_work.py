"""What a compiled program does is counted from its text: operations, bytes moved, bytes sent, loops as often as they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from engine.protocol.peaks import cycles_of, link_of, peak_of
from engine.trainer.cost.hlo import Instruction, parse
from engine.trainer.cost.matmuls import flops_of
from engine.trainer.cost.modelled import modelled, of_work
from engine.trainer.cost.work import Work, group_size, work_of

ROWS, INNER, COLUMNS, DEPTH = 64, 128, 32, 7


def compiled(function: Any, *shapes: tuple[int, ...]) -> jax.stages.Compiled:
    """The program for float32 arrays of these shapes."""
    return jax.jit(function).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)).compile()


def counted(function: Any, *shapes: tuple[int, ...]) -> Work:
    """Its work."""
    text = compiled(function, *shapes).as_text()
    assert text is not None
    return work_of(parse(text))


def test_a_matmul_s_operations_are_counted_exactly():
    """Two for each number of the result and of the contraction; each array crosses the memory once."""
    work = counted(lambda a, b: a @ b, (ROWS, INNER), (INNER, COLUMNS))
    assert work.flops == 2 * ROWS * INNER * COLUMNS
    assert work.moved == 4 * (ROWS * INNER + INNER * COLUMNS + ROWS * COLUMNS)
    assert work.sent == 0


def test_the_body_of_a_scan_counts_as_often_as_it_runs():
    """DEPTH matmuls forward, and twice as many backward; XLA's own analysis counts each loop's body once."""

    def loss(x: jax.Array, stack: jax.Array) -> jax.Array:
        return jnp.sum(jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, stack)[0])

    step = compiled(jax.grad(loss, argnums=(0, 1)), (ROWS, INNER), (DEPTH, INNER, INNER))
    found = modelled(step, "cpu").report()
    assert found["flops"] == 3 * DEPTH * 2 * ROWS * INNER * INNER
    assert found["compiler_says"]["flops"] < found["flops"] / 2
    assert found["loops_counted_once"] == []


def test_a_loop_whose_trip_count_is_data_is_named_or_given():
    """It counts once and is named, or as often as the caller says."""

    def power(x: jax.Array, times: jax.Array) -> jax.Array:
        with jax.named_scope("powers"):
            return jax.lax.fori_loop(0, times[0].astype(jnp.int32), lambda _, y: y @ x, x)

    text = compiled(power, (ROWS, ROWS), (1,)).as_text()
    assert text is not None
    once, thrice = work_of(parse(text)), work_of(parse(text), {"powers": 3.0})
    assert (once.flops, thrice.flops) == (2 * ROWS**3, 3 * 2 * ROWS**3)
    assert len(once.unknown_loops) == 1
    assert thrice.unknown_loops == ()


SHARDED = """
import json, jax, jax.numpy as jnp
from engine.trainer.cost.hlo import parse
from engine.trainer.cost.work import work_of
mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
def of(spec):
    return jax.NamedSharding(mesh, spec)
def layers(x, stack):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, stack)[0]
x = jax.ShapeDtypeStruct((64, 128), jnp.float32, sharding=of(jax.P("x")))
stack = jax.ShapeDtypeStruct((7, 128, 128), jnp.float32, sharding=of(jax.P(None, "x")))
total = jax.jit(lambda x: jnp.sum(x, axis=0), out_shardings=of(jax.P())).lower(x).compile()
gathered = jax.jit(layers, out_shardings=of(jax.P("x"))).lower(x, stack).compile()
print(json.dumps([work_of(parse(step.as_text())).sent_by for step in (total, gathered)]))
"""


def test_collectives_count_what_one_of_two_devices_sends():
    """An all-reduce of 128 floats: half of it twice. A gather of a half of each matrix, in each of seven layers."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    run = subprocess.run(
        [sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    total, gathered = json.loads(run.stdout)
    assert total == {"all-reduce": 2 * 128 * 4 * 0.5}
    assert gathered == {"all-gather": 7 * 64 * 128 * 4}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("replica_groups={{0,1},{2,3}}, x", 2),
        ("replica_groups=[2,4]<=[8], x", 4),
        ("replica_groups=mesh['a'=8,'b'=2] {'a'}, x", 8),
        ("replica_groups=mesh['a'=8,'b'=2] {'a':(1)4,'b'}, x", 8),
        ("replica_groups={}, x", 16),
    ],
)
def test_the_ways_of_writing_a_group(text, size):
    """XLA has three, and none for all devices."""
    assert group_size(Instruction("a", "all-reduce", (), (), text), 16) == size


TPU = """HloModule jit_f, is_scheduled=true, num_partitions=4

%fused (p0: bf16[10,8,128], p1: s32[]) -> bf16[8,128] {
  %p0 = bf16[10,8,128]{2,1,0:T(8,128)(2,1)} parameter(0)
  %p1 = s32[]{:T(128)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %slice = bf16[1,8,128]{2,1,0:T(8,128)(2,1)} dynamic-slice(%p0, %p1, %zero, %zero), dynamic_slice_sizes={1,8,128}
  ROOT %bitcast = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} bitcast(%slice)
}

%body (arg: (s32[], bf16[10,8,128], bf16[8,8])) -> (s32[], bf16[10,8,128], bf16[8,8]) {
  %arg = (s32[]{:T(128)}, bf16[10,8,128]{2,1,0:T(8,128)(2,1)}, /*index=2*/bf16[8,8]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %one = s32[]{:T(128)} constant(1)
  %next = s32[]{:T(128)} add(%i, %one)
  %stack = bf16[10,8,128]{2,1,0:T(8,128)(2,1)} get-tuple-element(%arg), index=1
  %own = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} fusion(%stack, %i), kind=kLoop, calls=%fused, backend_config={"window_config":{"estimated_cycles":"1500"}}
  %x = bf16[8,8]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%arg), index=2
  %y = bf16[8,8]{1,0:T(8,128)(2,1)S(1)} convolution(%own, %own), dim_labels=bf_oi->bf
  ROOT %out = (s32[]{:T(128)}, bf16[10,8,128]{2,1,0:T(8,128)(2,1)}, bf16[8,8]{1,0:T(8,128)(2,1)S(1)}) tuple(%next, %stack, %y)
}

%condition (arg.1: (s32[], bf16[10,8,128], bf16[8,8])) -> pred[] {
  %ten = s32[]{:T(128)} constant(10)
  %arg.1 = (s32[]{:T(128)}, bf16[10,8,128]{2,1,0:T(8,128)(2,1)}, bf16[8,8]{1,0:T(8,128)(2,1)S(1)}) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i.1, %ten), direction=LT
}

ENTRY %main (w: bf16[10,8,128], x0: bf16[8,8]) -> bf16[8,8] {
  %start = s32[]{:T(128)} constant(0)
  %copied = s32[]{:T(128)} copy(%start)
  %w = bf16[10,8,128]{2,1,0:T(8,128)(2,1)} parameter(0)
  %x0 = bf16[8,8]{1,0:T(8,128)(2,1)S(1)} parameter(1)
  %init = (s32[]{:T(128)}, bf16[10,8,128]{2,1,0:T(8,128)(2,1)}, bf16[8,8]{1,0:T(8,128)(2,1)S(1)}) tuple(%copied, %w, %x0)
  %loop = (s32[]{:T(128)}, bf16[10,8,128]{2,1,0:T(8,128)(2,1)}, bf16[8,8]{1,0:T(8,128)(2,1)S(1)}) while(%init), condition=%condition, body=%body
  ROOT %end = bf16[8,8]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%loop), index=2
}
"""


def test_a_tpu_s_program_without_trip_counts():
    """The TPU's compiler writes none: they follow from the loop's condition. What is in vmem costs no bytes, a slice its part."""
    work = work_of(parse(TPU))
    assert work.flops == 10 * 2 * 8 * 8 * 128
    slices = next(done for done in work.done if done.name == "own")
    assert (slices.runs, slices.moved, slices.cycles) == (10, 10 * 8 * 128 * 2, 15000)
    assert next(done for done in work.done if done.name == "y").moved == 0


def test_a_loop_that_counts_in_twos():
    """Unrolled by the compiler: ten in steps of two are five runs."""
    work = work_of(parse(TPU.replace("%one = s32[]{:T(128)} constant(1)", "%one = s32[]{:T(128)} constant(2)")))
    assert work.flops == 5 * 2 * 8 * 8 * 128


def test_the_compiler_s_time_is_its_cycles_and_rooflines_where_it_has_none():
    """15,000 cycles of the slices; the matmul, without any, at its peak. On another device the roofline alone."""
    work = work_of(parse(TPU))
    clock, peak = cycles_of("TPU v5 lite"), peak_of("TPU v5 lite", "bfloat16").flops
    assert clock is not None
    assert peak is not None
    found = of_work(work, "TPU v5 lite")
    assert found.by == "compiler"
    assert found.seconds == pytest.approx(15000 / clock + work.flops / peak)
    assert 0 < found.compiler_share < 1
    other = of_work(work, "TPU v4")
    assert (other.by, other.seconds) == ("roofline", other.roofline_seconds)


def test_without_a_vendor_s_figure_there_is_no_time():
    """The reason is given instead."""
    found = of_work(work_of(parse(TPU)), "cpu")
    assert (found.seconds, found.by) == (None, None)
    assert found.missing == ('no vendor\'s figure is known for a device of the kind "cpu"',)


def test_what_is_sent_can_be_the_longest():
    """The time is the link's where that is longer than everything else."""
    found = of_work(Work((), {"all-gather": 16e9}), "Tesla T4")
    assert found.seconds == found.link_seconds == 1.0
    assert link_of("Tesla T4") == 16e9


@pytest.mark.parametrize(
    ("window", "result", "positions"),
    [
        ("size=4 pad=3_3 rhs_reversal=1", 10, 28),  # each of 7 inputs meets each of 4 positions
        ("size=2 stride=2", 3, 6),
        ("size=3 pad=2_2 lhs_dilate=2", 15, 21),
    ],
)
def test_a_convolution_counts_the_positions_that_meet_an_input(window, result, positions):
    """Padding and holes are no operations."""
    text = f"""HloModule m
ENTRY %main (a: f32[5,7,3], b: f32[4,3,2]) -> f32[5,{result},2] {{
  %a = f32[5,7,3]{{2,1,0}} parameter(0)
  %b = f32[4,3,2]{{2,1,0}} parameter(1)
  ROOT %c = f32[5,{result},2]{{2,1,0}} convolution(%a, %b), window={{{window}}}, dim_labels=b0f_0io->b0f
}}
"""
    module = parse(text)
    entry = module.computations["main"]
    assert flops_of(entry["c"], entry).count == 2 * 5 * 3 * 2 * positions


ASYNCHRONOUS = """HloModule jit_f, num_partitions=4

%start (p: bf16[8,128]) -> (bf16[8,128], bf16[32,128], u32[]) {
  %p = bf16[8,128]{1,0} parameter(0)
  %gather = bf16[32,128]{1,0} all-gather(%p), channel_id=3, replica_groups={{0,1,2,3}}, dimensions={0}
  ROOT %begun = (bf16[8,128]{1,0}, bf16[32,128]{1,0}, u32[]{:S(2)}) custom-call(%gather), custom_call_target="AsyncCollectiveStart"
}

%beside (p0: bf16[8,128], p1: bf16[32,128], p2: bf16[64,64]) -> (bf16[64,64], bf16[8,128], bf16[32,128], bf16[32,128]) {
  %p0 = bf16[8,128]{1,0} parameter(0)
  %p1 = bf16[32,128]{1,0} parameter(1)
  %p2 = bf16[64,64]{1,0} parameter(2)
  %product = bf16[64,64]{1,0} convolution(%p2, %p2), dim_labels=bf_io->bf
  %again = bf16[32,128]{1,0} all-gather(%p0), channel_id=3, replica_groups={{0,1,2,3}}, dimensions={0}
  ROOT %all = (bf16[64,64]{1,0}, bf16[8,128]{1,0}, bf16[32,128]{1,0}, bf16[32,128]{1,0}) tuple(%product, %p0, %p1, %again)
}

%end (q0: bf16[8,128], q1: bf16[32,128]) -> bf16[32,128] {
  %q0 = bf16[8,128]{1,0} parameter(0)
  %q1 = bf16[32,128]{1,0} parameter(1)
  %last = bf16[32,128]{1,0} all-gather(%q0), channel_id=3, replica_groups={{0,1,2,3}}, dimensions={0}
  ROOT %done = bf16[32,128]{1,0} custom-call(%q0, %q1, %last), custom_call_target="AsyncCollectiveDone"
}

ENTRY %main (x: bf16[8,128], y: bf16[64,64]) -> bf16[32,128] {
  %x = bf16[8,128]{1,0} parameter(0)
  %y = bf16[64,64]{1,0} parameter(1)
  %s = (bf16[8,128]{1,0}, bf16[32,128]{1,0}, u32[]{:S(2)}) fusion(%x), kind=kCustom, calls=%start
  %s0 = bf16[8,128]{1,0} get-tuple-element(%s), index=0
  %s1 = bf16[32,128]{1,0} get-tuple-element(%s), index=1
  %b = (bf16[64,64]{1,0}, bf16[8,128]{1,0}, bf16[32,128]{1,0}, bf16[32,128]{1,0}) fusion(%s0, %s1, %y), kind=kOutput, calls=%beside
  %b1 = bf16[8,128]{1,0} get-tuple-element(%b), index=1
  %b2 = bf16[32,128]{1,0} get-tuple-element(%b), index=3
  ROOT %e = bf16[32,128]{1,0} fusion(%b1, %b2), kind=kCustom, calls=%end
}
"""


def test_an_asynchronous_collective_counts_once():
    """It stands in three fusions, its start, what runs beside it and its end, which hand its arrays on."""
    work = work_of(parse(ASYNCHRONOUS))
    assert work.sent_by == {"all-gather": 3 * 8 * 128 * 2}
    moved = {done.name: done.moved for done in work.done}
    assert moved == {"s": 2 * (8 + 32) * 128, "b": 2 * 2 * 64 * 64, "e": 0}


KERNEL = """HloModule m
ENTRY %main (m: s8[1,4,4], q: bf16[8,2048,256], k: bf16[1,2048,256]) -> bf16[8,2048,256] {
  %m = s8[1,4,4]{2,1,0} parameter(0)
  %q = bf16[8,2048,256]{2,1,0} parameter(1)
  %k = bf16[1,2048,256]{2,1,0} parameter(2)
  ROOT %NAME.1 = bf16[8,2048,256]{2,1,0} custom-call(%m, %q, %k, %k), custom_call_target="tpu_custom_call"
}
"""


@pytest.mark.parametrize(
    ("name", "matmuls"), [("splash_mha_fwd_segmented", 2), ("splash_mha_dkv", 4), ("splash_mha_dq", 3)]
)
def test_an_attention_kernel_counts_the_tiles_that_its_mask_leaves(name, matmuls):
    """Two operations for each head, query, key and number of a head, in each of its matmuls; the compiler gives none."""
    work = work_of(parse(KERNEL.replace("NAME", name)), tiles=0.625)
    assert work.flops == matmuls * 2 * 8 * 2048 * 2048 * 256 * 0.625
