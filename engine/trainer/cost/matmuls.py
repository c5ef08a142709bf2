"""Floating-point operations of the matmuls in XLA's optimised program: dots, convolutions, and libraries' calls.

In: an instruction and the computation it is in. Out: (operations, element type of the operands); a multiplication and an
addition count as two. What an instruction adds up or compares beside that is not counted: it costs bytes, not units.

TPU programs have convolutions for dots; positions of the kernel that lie in padding are no operations (as XLA's own
HloCostAnalysis::GetConvolutionFlops counts them).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.trainer.cost.hlo import Array, Computation, Instruction

# Matmuls of [T, H] x [H, T] or [T, T] x [T, H] in the splash kernels: scores and result; scores, by weights, by values, by
# keys; scores, by weights, by queries.
SPLASH = {"splash_mha_fwd": 2, "splash_mha_dkv": 4, "splash_mha_dq": 3}
GEMMS = ("__cublas$gemm", "__cublas$lt$matmul")


@dataclass(frozen=True, slots=True)
class Flops:
    """``count`` operations on operands of the type ``dtype``."""

    count: float
    dtype: str


NONE = Flops(0.0, "")


def flops_of(instruction: Instruction, computation: Computation, tiles: float = 1.0) -> Flops:
    """Of one instruction; none for what is no matmul. ``tiles``: the share that its mask leaves an attention kernel."""
    if instruction.opcode == "dot":
        return _dot(instruction, computation, instruction.numbers("lhs_contracting_dims"))
    if instruction.opcode == "convolution":
        return _convolution(instruction, computation)
    if instruction.opcode == "custom-call":
        return _custom_call(instruction, computation, tiles)
    return NONE


def _operand(instruction: Instruction, computation: Computation, index: int) -> Array:
    return computation[instruction.operands[index]].arrays[0]


def _dot(instruction: Instruction, computation: Computation, contracted: tuple[int, ...]) -> Flops:
    """Two for each number of the result and of the contraction."""
    left = _operand(instruction, computation, 0)
    length = math.prod(left.dims[dim] for dim in contracted)
    return Flops(2.0 * instruction.arrays[0].elements * length, left.dtype)


def _custom_call(instruction: Instruction, computation: Computation, tiles: float) -> Flops:
    """cuBLAS by its dimension numbers, splash attention by its operands, another Pallas kernel by its own estimate."""
    config: Any = instruction.backend_config
    if instruction.target in GEMMS:
        numbers = config["gemm_backend_config"]["dot_dimension_numbers"]
        return _dot(instruction, computation, tuple(map(int, numbers["lhs_contracting_dimensions"])))
    estimate = kernel_estimate(instruction)
    if estimate and instruction.operands:
        return Flops(float(estimate.get("flops", 0)), _operand(instruction, computation, 0).dtype)
    for kernel, matmuls in SPLASH.items():
        if instruction.name.startswith(kernel):
            arrays = (computation[name].arrays[0] for name in instruction.operands)
            q = next(array for array in arrays if len(array.dims) > 2 and "f" in array.dtype)  # [..., N, T, H]
            return Flops(matmuls * 2.0 * q.elements * q.dims[-2] * tiles, q.dtype)
    return NONE


def kernel_estimate(instruction: Instruction) -> Mapping[str, Any]:
    """What a Pallas kernel says of itself: flops, transcendentals, bytes_accessed; empty for other instructions."""
    config: Any = instruction.backend_config
    estimate: Mapping[str, Any] = config.get("custom_call_config", {}).get("cost_estimate", {})
    return estimate


def _convolution(instruction: Instruction, computation: Computation) -> Flops:
    left, kernel = (_operand(instruction, computation, index) for index in (0, 1))
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    if labels is None:
        return NONE
    left_labels, kernel_labels, result_labels = labels.groups()
    result = instruction.arrays[0]
    window = _window(instruction.attributes)
    positions = 1.0
    for number in range(sum(label.isdigit() for label in left_labels)):
        label = str(number)
        positions *= _valid(
            left.dims[left_labels.index(label)], result.dims[result_labels.index(label)], window, number
        )
    batch_groups = _group(instruction, "batch_group_count")
    features = kernel.dims[kernel_labels.index("i")] * result.dims[result_labels.index("f")]
    batch = left.dims[left_labels.index("b")] / batch_groups
    return Flops(2.0 * batch * features * positions, left.dtype)


def _group(instruction: Instruction, name: str) -> int:
    found = re.search(rf"{name}=(\d+)", instruction.attributes)
    return int(found[1]) if found else 1


def _window(attributes: str) -> dict[str, list[str]]:
    """``window={size=8x1 pad=7_7x0_0}`` -> {"size": ["8", "1"], "pad": ["7_7", "0_0"]}."""
    found = re.search(r"window=\{([^}]*)\}", attributes)
    parts = (part.split("=", 1) for part in found[1].split()) if found else ()
    return {name: value.split("x") for name, value in parts}


def _valid(inputs: int, outputs: int, window: Mapping[str, list[str]], number: int) -> int:
    """Along one dimension: pairs of an output and a position of the kernel that meet a real input."""

    def value(name: str) -> int:
        return int(window[name][number]) if name in window else 1

    size, stride, spread, gaps = value("size"), value("stride"), value("rhs_dilate"), value("lhs_dilate")
    before = int(window["pad"][number].split("_")[0]) if "pad" in window else 0
    count = 0
    for position in range(size):
        offset = position * spread - before
        if gaps == 1:  # outputs with 0 <= output * stride + offset < inputs
            first = max(0, -(offset // stride))
            last = min(outputs - 1, (inputs - 1 - offset) // stride)
            count += max(0, last - first + 1)
            continue
        places = (output * stride + offset for output in range(outputs))
        count += sum(place % gaps == 0 and 0 <= place // gaps < inputs for place in places)
    return count
