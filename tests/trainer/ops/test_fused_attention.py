"""Which kernel a device has for a job's attention, what auto takes, and what is said where there is none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import InputInvalid
from engine.protocol.train_args import PLAIN_ATTENTION_TOKENS
from engine.trainer.ops.fused_attention import Choice, Demand, choose, kernel_for


def tpu(kind: str = "TPU v5 lite") -> Any:
    """A described chip."""
    return SimpleNamespace(platform="tpu", device_kind=kind)


def gpu(capability: str) -> Any:
    """A described GPU."""
    return SimpleNamespace(platform="gpu", device_kind="NVIDIA", compute_capability=capability)


CPU: Any = SimpleNamespace(platform="cpu", device_kind="cpu")
GEMMA = Demand(seq_len=2048, head_dim=256, softcap=None, dtype="bfloat16")
LACKS = {
    "an old TPU": (tpu("TPU v3"), GEMMA, "a TPU v3 has no Pallas kernels (TPU v4 and later have)"),
    "an odd length": (
        tpu(), GEMMA._replace(seq_len=2000), "splash attention takes sequences of a multiple of 128 tokens, not 2000"
    ),
    "a T4": (gpu("7.5"), GEMMA, "cuDNN's attention needs compute capability 8, this GPU has 7.5"),
    "Gemma on an A100": (
        gpu("8.0"), GEMMA, "cuDNN's attention takes heads of at most 128 on compute capability 8.0, not 256"
    ),
    "Gemma 2 on an H100": (
        gpu("9.0"), GEMMA._replace(softcap=50.0), "cuDNN's attention has no soft cap of scores, this model has"
    ),
    "float32 on an H100": (
        gpu("9.0"), GEMMA._replace(dtype="float32"), "cuDNN's attention takes operands of 16 bits, not float32"
    ),
    "an odd number of tokens": (
        gpu("9.0"), GEMMA._replace(seq_len=2047), "cuDNN's attention takes an even number of tokens, not 2047"
    ),
    "a CPU": (CPU, GEMMA, "a cpu has no fused attention"),
}  # fmt: skip


@pytest.mark.parametrize(("device", "demand", "reason"), LACKS.values(), ids=LACKS)
def test_what_has_no_kernel(device, demand, reason):
    """The reason is a sentence; auto goes on in blocks and records it; fused is T175, word for word."""
    assert kernel_for(device, demand) == (None, reason)
    assert choose("auto", device, demand) == Choice("blocked", reason)
    with pytest.raises(InputInvalid) as caught:
        choose("fused", device, demand)
    (found,) = caught.value.diagnostics
    assert (found.code, found.message, found.hint) == (
        "T175", f"attention: fused has no kernel for this job: {reason}", "write attention: auto (or blocked)",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("device", "demand", "kernel"),
    [
        (tpu(), GEMMA, "splash"),
        (tpu("TPU v6 lite"), GEMMA._replace(softcap=50.0, dtype="float32"), "splash"),
        (gpu("8.0"), GEMMA._replace(head_dim=128), "cudnn"),
        (gpu("9.0"), GEMMA, "cudnn"),
        (gpu("9.0"), GEMMA._replace(dtype="float16"), "cudnn"),
    ],
)
def test_what_has_a_kernel(device, demand, kernel):
    """Declared, it is taken at any length."""
    assert kernel_for(device, demand) == (kernel, "")
    assert choose("fused", device, demand).kernel == kernel
    assert choose("fused", device, demand._replace(seq_len=128)).kernel == kernel


@pytest.mark.parametrize("declared", ["plain", "blocked"])
def test_what_is_declared_is_taken(declared):
    """On every device, whatever kernel it has."""
    for device in (tpu(), gpu("9.0"), CPU):
        assert choose(declared, device, GEMMA) == Choice(declared, "declared")
        assert choose(declared, device, GEMMA).kernel is None


def test_short_sequences_stay_plain():
    """Up to the length from which scores weigh, auto is plain on every device."""
    short = GEMMA._replace(seq_len=PLAIN_ATTENTION_TOKENS)
    assert {choose("auto", device, short).attention for device in (tpu(), gpu("9.0"), CPU)} == {"plain"}


def test_auto_does_not_take_a_kernel_that_nobody_has_run_here():
    """cuDNN's is taken where it is declared; auto says so."""
    found = choose("auto", gpu("9.0"), GEMMA)
    assert found == Choice("blocked", "cuDNN's kernel is taken only where it is declared (attention: fused)")
