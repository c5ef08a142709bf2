"""The machines whose compilers can be used without the device: what each compiler needs to know of its machine.

    prepare("v5e-8", Path(".compilers"))       # before the first import of jax, in a process of its own
    devices = described_devices("v5e-8")       # after: device descriptions to build a mesh of

The plug-ins (``libtpu``; ``jax-cuda12-plugin``, ``jax-cuda12-pjrt``, ``ptxas``) are in a folder that only this process
puts on its path: an importable plug-in takes over device discovery, so the process that trains must not see it.
``cpu`` needs none of them.

Raises InputInvalid T150 for an unknown machine, T151 if the folder lacks what the machine's compiler needs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import InputInvalid, did_you_mean
from engine.extras import compilers_command
from engine.protocol.machines import MACHINES, Machine
from engine.trainer.cost.buffers import DUMP_FLAGS
from engine.trainer.device import DETERMINISTIC

if TYPE_CHECKING:
    import jax

HOW_TO_GET = "{} (1.3 GB), or name a folder that has them in RUNSPEC_COMPILERS"

# The determinism flag of the training process, and no autotuning: there is no device to time kernels on.
GPU_FLAGS = f"{DETERMINISTIC} --xla_gpu_autotune_level=0"
PLUGIN_FILES: Mapping[str, tuple[str, ...]] = {
    "tpu": ("libtpu/libtpu.so",),
    "gpu": ("jax_plugins/xla_cuda12/xla_cuda_plugin.so", "jax_cuda12_plugin", "nvidia/cuda_nvcc/bin/ptxas"),
    "cpu": (),
}


@dataclass(frozen=True, slots=True)
class MachineDescription:
    """``name``: libtpu's name of the devices, or the text of a GPU's target_config."""

    name: str
    chips_per_host: tuple[int, int, int] = (1, 1, 1)
    accelerator_type: str = "v5litepod-8"


def _gpu(
    about: str, *, capability: str, cores: int, fpus: int, threads: int, shared_kib: int, optin_kib: int,
    l2_mib: int, gigahertz: float, bytes_per_second: int, memory: int,
) -> str:  # fmt: skip
    """A target_config as XLA's GPU compiler reads it; the figures are the vendor's."""
    major, minor = capability.split(".")
    return (
        f"gpu_device_info {{ threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 "
        f"shared_memory_per_core: {shared_kib << 10} threads_per_core_limit: {threads} core_count: {cores} "
        f"fpus_per_core: {fpus} block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535 "
        f"memory_bandwidth: {bytes_per_second} l2_cache_size: {l2_mib << 20} clock_rate_ghz: {gigahertz} "
        f"device_memory_size: {memory} shared_memory_per_block_optin: {optin_kib << 10} "
        f"cuda_compute_capability {{ major: {major} minor: {minor} }} registers_per_core_limit: 65536 "
        f"registers_per_block_limit: 65536 }} platform_name: 'CUDA' dnn_version_info {{ major: 9 minor: 8 }} "
        f"runtime_version {{ major: 12 minor: 9 patch: 0 }} device_description_str: '{about}'"
    )


def _nvidia(about: str, name: str, **figures: Any) -> MachineDescription:
    """Of one GPU of a machine; its memory is the machine's."""
    memory = MACHINES[name].device_bytes
    assert memory is not None
    return MachineDescription(_gpu(about, memory=memory, **figures))


_T4 = _nvidia(
    "Tesla T4", "t4", capability="7.5", cores=40, fpus=64, threads=1024, shared_kib=64, optin_kib=64, l2_mib=4,
    gigahertz=1.59, bytes_per_second=320_000_000_000,
)  # fmt: skip
_L4 = _nvidia(
    "NVIDIA L4", "l4", capability="8.9", cores=58, fpus=128, threads=1536, shared_kib=100, optin_kib=99, l2_mib=48,
    gigahertz=2.04, bytes_per_second=300_000_000_000,
)  # fmt: skip
_A100 = {
    "capability": "8.0", "cores": 108, "fpus": 64, "threads": 2048, "shared_kib": 164, "optin_kib": 163, "l2_mib": 40,
    "gigahertz": 1.41,
}  # fmt: skip
_HOPPER = {
    "capability": "9.0", "cores": 132, "fpus": 128, "threads": 2048, "shared_kib": 228, "optin_kib": 227, "l2_mib": 50,
    "gigahertz": 1.98,
}  # fmt: skip
_H100 = _nvidia("NVIDIA H100 80GB HBM3", "h100", bytes_per_second=3_352_000_000_000, **_HOPPER)

# What the compiler of a machine must be told of it; the CPU's compiler looks for itself.
DESCRIPTIONS: Mapping[str, MachineDescription] = {
    "t4": _T4,
    "t4x2": _T4,
    "p100": _nvidia(
        "Tesla P100-SXM2-16GB", "p100", capability="6.0", cores=56, fpus=64, threads=2048, shared_kib=64, optin_kib=48,
        l2_mib=4, gigahertz=1.48, bytes_per_second=732_160_000_000,
    ),
    "v100": _nvidia(
        "Tesla V100-SXM2-16GB", "v100", capability="7.0", cores=80, fpus=64, threads=2048, shared_kib=96, optin_kib=96,
        l2_mib=6, gigahertz=1.53, bytes_per_second=898_048_000_000,
    ),
    "l4": _L4,
    "l4x4": _L4,
    "a100": _nvidia("NVIDIA A100-SXM4-40GB", "a100", bytes_per_second=1_555_200_000_000, **_A100),
    "a100-80": _nvidia("NVIDIA A100-SXM4-80GB", "a100-80", bytes_per_second=2_039_040_000_000, **_A100),
    "h100": _H100,
    "h100x8": _H100,
    "h200": _nvidia("NVIDIA H200 141GB HBM3e", "h200", bytes_per_second=4_800_000_000_000, **_HOPPER),
    "v5e-1": MachineDescription("v5e:1x1"),
    "v5e-4": MachineDescription("v5e:2x2", (2, 2, 1)),
    "v5e-8": MachineDescription("v5e:2x4", (2, 4, 1)),
    "v5p-8": MachineDescription("v5p:2x2x1", (2, 2, 1), "v5p-8"),
    "v6e-1": MachineDescription("v6e:1x1", (1, 1, 1), "v6e-1"),
    "v6e-8": MachineDescription("v6e:2x4", (2, 4, 1), "v6e-8"),
    "v3-8": MachineDescription("v3:2x2x1", (2, 2, 1)),
}  # fmt: skip


def machine_named(name: str) -> Machine:
    """The machine, or InputInvalid T150."""
    if name in MACHINES:
        return MACHINES[name]
    near = did_you_mean(name, MACHINES)
    hint = f'did you mean "{near}"?' if near else f"known machines: {', '.join(MACHINES)}"
    raise InputInvalid("T150", f'no compiler is known for a machine "{name}"', hint=hint)


def prepare(name: str, folder: Path | None, dump: Path | None = None) -> None:
    """Set this process up for the machine's compiler; jax must not have been imported yet.

    ``dump``: a folder for XLA's dump of the program (see engine.trainer.cost.buffers).
    """
    machine = machine_named(name)
    missing = [part for part in PLUGIN_FILES[machine.platform] if folder is None or not (folder / part).exists()]
    if missing:
        where = f"{folder} lacks {', '.join(missing)}" if folder else "no folder of compilers is named"
        raise InputInvalid(
            "T151",
            f"the {machine.platform} compiler is missing: {where}",
            hint=HOW_TO_GET.format(compilers_command(Path.cwd())),
        )
    os.environ["JAX_PLATFORMS"] = "cpu"  # the described devices are not a backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides XLA's notes
    if dump is not None:
        _add_xla_flags(DUMP_FLAGS.format(dump))
    if machine.platform == "tpu":
        assert folder is not None
        os.environ["TPU_LIBRARY_PATH"] = str((folder / "libtpu" / "libtpu.so").resolve())
        # Otherwise libtpu asks the cloud's metadata server which machine this is, and refuses to be loaded by two processes
        # at once, as if each of them drove a TPU.
        os.environ |= {
            "TPU_SKIP_MDS_QUERY": "1",
            "TPU_WORKER_HOSTNAMES": "localhost",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        }
        os.environ["TPU_ACCELERATOR_TYPE"] = DESCRIPTIONS[name].accelerator_type
    elif machine.platform == "gpu":
        assert folder is not None
        sys.path.append(str(folder.resolve()))
        nvcc = folder.resolve() / "nvidia" / "cuda_nvcc"
        os.environ["PATH"] = os.pathsep.join([str(nvcc / "bin"), os.environ.get("PATH", "")])
        os.environ |= {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1", "CUDA_VISIBLE_DEVICES": "-1"}
        _add_xla_flags(f"{GPU_FLAGS} --xla_gpu_cuda_data_dir={nvcc}")


def _add_xla_flags(flags: str) -> None:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()


def described_devices(name: str) -> list[jax.Device]:
    """The machine's devices as its compiler describes them; the real one for a CPU."""
    import jax.experimental.topologies

    machine = machine_named(name)
    if machine.platform == "cpu":
        return jax.devices("cpu")[: machine.devices]
    described = DESCRIPTIONS[name]
    if machine.platform == "tpu":
        bounds = list(described.chips_per_host)
        topology = jax.experimental.topologies.get_topology_desc(described.name, "tpu", chips_per_host_bounds=bounds)
    else:
        shape = f"1x1x{machine.devices}"
        topology = jax.experimental.topologies.get_topology_desc(
            "", "cuda", target_config=described.name, topology=shape
        )
    return list(topology.devices)
