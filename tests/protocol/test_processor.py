"""What a processor can do is read from the kernel's list, and from nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.protocol import processor


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("flags\t\t: fpu avx512f amx_bf16 avx512_bf16 amx_tile", True),
        ("flags\t\t: fpu avx512f avx512_bf16", True),
        ("flags\t\t: fpu avx512f avx2", False),
        ("model name\t: amx_bf16 in its name", False),
        ("Features\t: fp asimd bf16", False),  # arm64: not measured
        ("", False),
    ],
)
def test_the_kernels_flags_decide(listed: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{listed}\n\nprocessor\t: 1\n")
    monkeypatch.setattr(processor, "CPUINFO", cpuinfo)
    assert processor.multiplies_bfloat16.__wrapped__() is expected


def test_no_such_file_is_no_such_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "missing")
    assert processor.multiplies_bfloat16.__wrapped__() is False
