"""The machines that training can be priced for, and what the outside world says of each: with its source and its date.

In: a name. Out: a :class:`Machine`, the same for the side that plans (engine.preflight.targets) and for the trainer
(engine.trainer.cost.machines adds what the machine's compiler needs).

    >>> MACHINES["t4x2"].devices, MACHINES["t4x2"].device_bytes
    (2, 15655829504)
    >>> memory_of_kind("NVIDIA L4") == MACHINES["l4"].device_bytes
    True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from engine.protocol.processor import multiplies_bfloat16

GIB = 1 << 30
Platform = Literal["cpu", "gpu", "tpu"]


@dataclass(frozen=True, slots=True)
class Fact:
    """What a source says, the source, and the day on which it was read there."""

    says: str
    source: str
    read: str


@dataclass(frozen=True, slots=True)
class Machine:
    """``device_bytes``: the memory of one device as its runtime or compiler reports it; None: that of this computer.

    ``kind``: the beginning of JAX's name of the device. ``multiplies_bfloat16_in``: the dtype of matmuls of bfloat16 with
    ``matmul_dtype: auto``, since not every device has units for it (engine.trainer.ops.matmul).
    """

    name: str
    platform: Platform
    devices: int
    device_bytes: int | None
    about: str
    kind: str
    facts: tuple[Fact, ...] = ()
    multiplies_bfloat16_in: Literal["bfloat16", "float16", "float32"] = "bfloat16"


_SPECS = "openxla/xla, xla/backends/gpu/target_config/specs"
_HBM = "the TPU compiler (libtpu 0.0.42.1), refusing a program that does not fit"


def _reports(device_bytes: int, source: str, read: str = "2026-11-29") -> Fact:
    return Fact(f"a device has {device_bytes:,} bytes", source, read)


_T4, _P100, _V100, _L4 = 15_655_829_504, 17_066_885_120, 16_935_682_048, int(22.03 * GIB)
_A100_40, _A100_80, _H100, _H200 = 42_331_013_120, 85_100_068_864, 84_942_979_072, int(139.8 * GIB)
_V5E, _V5P, _V6E, _V3 = int(15.75 * GIB), int(95.74 * GIB), int(31.25 * GIB), int(15.48 * GIB)

_OF_T4 = (_reports(_T4, "XLA's log on Kaggle's T4 (14930 MiB, with ECC)", "2026-11-28"),)
_OF_P100 = (_reports(_P100, f"{_SPECS}/p100.txtpb"),)
_OF_V100 = (_reports(_V100, f"{_SPECS}/v100.txtpb"),)
_OF_L4 = (_reports(_L4, "PyTorch's out-of-memory messages on Google Cloud's L4s: 22.03 GiB"),)
_OF_A100_40 = (_reports(_A100_40, f"{_SPECS}/a100_sxm_40.txtpb"),)
_OF_A100_80 = (_reports(_A100_80, f"{_SPECS}/a100_sxm_80.txtpb"),)
_OF_H100 = (_reports(_H100, f"{_SPECS}/h100_sxm.txtpb"),)
_OF_H200 = (_reports(_H200, "PyTorch's out-of-memory messages on H200s: 139.80 GiB"),)
_OF_V5E = (_reports(_V5E, _HBM, "2026-11-28"),)
_OF_V5P, _OF_V6E = (_reports(_V5P, _HBM),), (_reports(_V6E, _HBM),)
_OF_V3 = (_reports(_V3, _HBM, "2026-11-28"),)

_CPU: Literal["bfloat16", "float32"] = "bfloat16" if multiplies_bfloat16() else "float32"

MACHINES: Mapping[str, Machine] = {
    machine.name: machine
    for machine in (
        Machine("cpu", "cpu", 1, None, "this computer, without an accelerator", "cpu", (), _CPU),
        Machine("t4", "gpu", 1, _T4, "one NVIDIA T4 (16 GB)", "Tesla T4", _OF_T4, "float16"),
        Machine("t4x2", "gpu", 2, _T4, "two NVIDIA T4 (16 GB)", "Tesla T4", _OF_T4, "float16"),
        Machine("p100", "gpu", 1, _P100, "one NVIDIA P100 (16 GB)", "Tesla P100", _OF_P100, "float32"),
        Machine("v100", "gpu", 1, _V100, "one NVIDIA V100 (16 GB)", "Tesla V100", _OF_V100, "float16"),
        Machine("l4", "gpu", 1, _L4, "one NVIDIA L4 (24 GB)", "NVIDIA L4", _OF_L4),
        Machine("l4x4", "gpu", 4, _L4, "four NVIDIA L4 (24 GB)", "NVIDIA L4", _OF_L4),
        Machine("a100", "gpu", 1, _A100_40, "one NVIDIA A100 (40 GB)", "NVIDIA A100-SXM4-40GB", _OF_A100_40),
        Machine("a100-80", "gpu", 1, _A100_80, "one NVIDIA A100 (80 GB)", "NVIDIA A100-SXM4-80GB", _OF_A100_80),
        Machine("h100", "gpu", 1, _H100, "one NVIDIA H100 (80 GB)", "NVIDIA H100 80GB HBM3", _OF_H100),
        Machine("h100x8", "gpu", 8, _H100, "eight NVIDIA H100 (80 GB)", "NVIDIA H100 80GB HBM3", _OF_H100),
        Machine("h200", "gpu", 1, _H200, "one NVIDIA H200 (141 GB)", "NVIDIA H200", _OF_H200),
        Machine("v5e-1", "tpu", 1, _V5E, "one TPU v5e chip", "TPU v5 lite", _OF_V5E),
        Machine("v5e-4", "tpu", 4, _V5E, "four TPU v5e chips", "TPU v5 lite", _OF_V5E),
        Machine("v5e-8", "tpu", 8, _V5E, "eight TPU v5e chips", "TPU v5 lite", _OF_V5E),
        Machine("v5p-8", "tpu", 4, _V5P, "four TPU v5p chips, eight cores", "TPU v5", _OF_V5P),
        Machine("v6e-1", "tpu", 1, _V6E, "one TPU v6e chip", "TPU v6 lite", _OF_V6E),
        Machine("v6e-8", "tpu", 8, _V6E, "eight TPU v6e chips", "TPU v6 lite", _OF_V6E),
        Machine("v3-8", "tpu", 8, _V3, "four TPU v3 chips, eight cores", "TPU v3", _OF_V3),
    )
}


def memory_of_kind(device_kind: str) -> int | None:
    """The memory of a device by JAX's name of its kind; None where no machine here has one.

    >>> memory_of_kind("NVIDIA H200 NVL"), memory_of_kind("NVIDIA L40S")
    (150109106995, None)
    """
    for machine in MACHINES.values():
        rest = device_kind.removeprefix(machine.kind)
        if rest != device_kind and not rest[:1].isalnum() and machine.device_bytes is not None:
            return machine.device_bytes
    return None
