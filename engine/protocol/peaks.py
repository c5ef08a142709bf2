"""The peaks of a device by its vendor: operations a second in matmuls, by kind and format, bytes a second of its memory
and of its links to other devices, and cycles a second.

In: JAX's name of the kind of device, the format of the operands. Out: the vendor's figure and its source, or the reason
why there is none; nothing is guessed.

    >>> peak_of("Tesla T4", "float16").flops
    65000000000000.0
    >>> print(peak_of("cpu", "float32").reason)
    no vendor's figure is known for a device of the kind "cpu"
    >>> bandwidth_of("Tesla T4"), link_of("Tesla T4")
    (320000000000.0, 16000000000.0)

Figures are for dense matrices: if a data sheet counts structured sparsity, its figure is halved. ``float32`` is what
JAX does with float32 operands by default (jax.lax.Precision.DEFAULT): TF32 units on NVIDIA from Ampere on, bfloat16
units on TPU. A format without units on the device has no figure, though it can be computed in another format. JAX's
device is one of the two cores of a TPU v2 or v3 chip, and a full chip from v4 on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TERA, GIGA = 1e12, 1e9
_GOOGLE = "Google Cloud, TPU system architecture, peak compute per chip (bf16)"


@dataclass(frozen=True, slots=True)
class Peak:
    """``flops`` a second and its ``source``, or None and the ``reason``."""

    flops: float | None
    source: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """Tera-operations a second by format, gigabytes a second of the memory, and the document with the figures."""

    tera: Mapping[str, float]
    giga: float
    source: str


def _tpu(tera: float, giga: float, more: str = "") -> _Row:
    return _Row({"bfloat16": tera, "float32": tera}, giga, _GOOGLE + more)


def _tensor_cores(half: float, tf32: float, giga: float, source: str) -> _Row:
    return _Row({"bfloat16": half, "float16": half, "float32": tf32}, giga, source)


# By the beginning of JAX's name of the device. NVIDIA's figures are those at boost clock; the bandwidth of an A100 is that of the
# 40 GB model, the lower one.
_ROWS: Mapping[str, _Row] = {
    "Tesla T4": _Row({"float16": 65.0, "float32": 8.1}, 320.0, "NVIDIA T4 data sheet, 2019"),
    "Tesla P100-PCIE": _Row({"float16": 18.7, "float32": 9.3}, 732.0, "NVIDIA Tesla P100 data sheet, 2016 (PCIe)"),
    "Tesla P100-SXM2": _Row({"float16": 21.2, "float32": 10.6}, 732.0, "NVIDIA Tesla P100 data sheet, 2016 (NVLink)"),
    "Tesla V100-PCIE": _Row({"float16": 112.0, "float32": 14.0}, 900.0, "NVIDIA V100 data sheet, 2020 (PCIe)"),
    "Tesla V100-SXM2": _Row({"float16": 125.0, "float32": 15.7}, 900.0, "NVIDIA V100 data sheet, 2020 (SXM2)"),
    "NVIDIA A100": _tensor_cores(312.0, 156.0, 1555.0, "NVIDIA A100 data sheet, 2021"),
    "A100": _tensor_cores(312.0, 156.0, 1555.0, "NVIDIA A100 data sheet, 2021"),
    "NVIDIA H100 80GB HBM3": _tensor_cores(989.5, 494.5, 3350.0, "NVIDIA H100 data sheet, 2023 (SXM), halved: dense"),
    "NVIDIA H100 PCIe": _tensor_cores(756.5, 378.0, 2000.0, "NVIDIA H100 data sheet, 2022 (PCIe), halved: dense"),
    "NVIDIA H200": _tensor_cores(989.5, 494.5, 4800.0, "NVIDIA H200 data sheet, 2024 (SXM), halved: dense"),
    "NVIDIA L4": _tensor_cores(121.0, 60.0, 300.0, "NVIDIA L4 data sheet, 2023, halved: dense"),
    "TPU v2": _tpu(22.5, 350.0, ", v2: 45, half of it for one of two cores"),
    "TPU v3": _tpu(61.5, 450.0, ", v3: 123, half of it for one of two cores"),
    "TPU v4": _tpu(275.0, 1228.0, ", v4"),
    "TPU v5 lite": _tpu(197.0, 819.0, ", v5e"),
    "TPU v5e": _tpu(197.0, 819.0, ", v5e"),
    "TPU v5": _tpu(459.0, 2765.0, ", v5p"),
    "TPU v5p": _tpu(459.0, 2765.0, ", v5p"),
    "TPU v6 lite": _tpu(918.0, 1640.0, ", v6e"),
    "TPU v6e": _tpu(918.0, 1640.0, ", v6e"),
}


def bandwidth_of(device_kind: str) -> float | None:
    """Bytes a second that one device reads from its memory at best; None where no vendor's figure is known."""
    row = _row_of(device_kind)
    return None if row is None else row.giga * GIGA


# Gigabytes a second that one device sends at best, in one direction, where its data sheet says how fast its links are (NVIDIA
# counts both directions, Google bits of one), by the beginning of JAX's name of the device.
_LINKS: Mapping[str, tuple[float, str]] = {
    "Tesla T4": (16.0, "NVIDIA T4 data sheet, 2019: PCIe 3.0 x16, 32 GB/s both ways"),
    "NVIDIA L4": (32.0, "NVIDIA L4 data sheet, 2023: PCIe 4.0 x16, 64 GB/s both ways"),
    "Tesla V100-SXM2": (150.0, "NVIDIA V100 data sheet, 2020: NVLink, 300 GB/s both ways"),
    "NVIDIA A100-SXM4": (300.0, "NVIDIA A100 data sheet, 2021: NVLink, 600 GB/s both ways"),
    "NVIDIA H100 80GB HBM3": (450.0, "NVIDIA H100 data sheet, 2023: NVLink, 900 GB/s both ways"),
    "NVIDIA H200": (450.0, "NVIDIA H200 data sheet, 2024: NVLink, 900 GB/s both ways"),
    "TPU v5 lite": (200.0, "Google Cloud, TPU v5e: 1600 Gbit/s a chip between chips"),
    "TPU v5": (600.0, "Google Cloud, TPU v5p: 4800 Gbit/s a chip between chips"),
    "TPU v6 lite": (448.0, "Google Cloud, TPU v6e: 3584 Gbit/s a chip between chips"),
}

# Cycles a second of a TPU, in which its compiler counts. v5e: its peak over what its four matrix units of 128 x 128 do in a
# cycle (Google Cloud, TPU v5e); v3: Jouppi et al. 2021, "Ten Lessons From Three Generations", table 1.
_CYCLES: Mapping[str, float] = {"TPU v3": 0.94e9, "TPU v5 lite": 197.0 * TERA / (4 * 128 * 128 * 2)}


def link_of(device_kind: str) -> float | None:
    """Bytes a second that one device sends to others at best, in one direction; None where no vendor's figure is known."""
    names = [name for name in _LINKS if device_kind == name or _begins(device_kind, name)]
    return None if not names else _LINKS[max(names, key=len)][0] * GIGA


def cycles_of(device_kind: str) -> float | None:
    """Cycles a second of a TPU's core; None where they are not known."""
    return _CYCLES.get(device_kind)


def _row_of(device_kind: str) -> _Row | None:
    names = [name for name in _ROWS if device_kind == name or _begins(device_kind, name)]
    if not names or " MIG " in f"{device_kind} ":  # a MIG slice is slower than the full GPU
        return None
    return _ROWS[max(names, key=len)]


def peak_of(device_kind: str, dtype: str) -> Peak:
    """The peak of one device, or why there is none."""
    row = _row_of(device_kind)
    if row is None:
        return Peak(None, reason=f'no vendor\'s figure is known for a device of the kind "{device_kind}"')
    if dtype not in row.tera:
        known = " and ".join(sorted(row.tera))
        return Peak(None, reason=f"a {device_kind} has no units for {dtype}; figures are known for {known}")
    return Peak(row.tera[dtype] * TERA, source=row.source)


def _begins(device_kind: str, name: str) -> bool:
    """``NVIDIA A100-SXM4-40GB`` is an ``NVIDIA A100``; an ``NVIDIA L40`` is not an ``NVIDIA L4``."""
    rest = device_kind.removeprefix(name)
    return rest != device_kind and not rest[:1].isalnum() and not device_kind.startswith("TPU")
