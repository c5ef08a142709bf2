"""The devices are those that the plan was made for, or nothing is spent."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from engine.errors import RunFailed
from engine.kaggle.session import devices
from engine.kaggle.session.devices import Expected, check_look, look, probe

T4X2 = Expected("kaggle-t4x2", "gpu", "Tesla T4", 2)
V5E = Expected("kaggle-v5e-8", "tpu", "TPU v5 lite", 8)


def _python(folder: Path, code: str) -> Path:
    """An interpreter whose JAX says what the test wants."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(0o755)
    return path


def _answers(folder: Path, platform: str, kind: str, count: int) -> Path:
    answer = json.dumps({"platform": platform, "kind": kind, "devices": count, "jax": "0.12.0.1"})
    return _python(folder, f"print({answer!r})")


@pytest.mark.parametrize(("expected", "kind", "count"), [(T4X2, "Tesla T4", 2), (V5E, "TPU v5 lite", 8)])
def test_the_planned_devices_pass(expected: Expected, kind: str, count: int, tmp_path: Path) -> None:
    """The line says which, how many, and that they are the planned ones."""
    line = probe(_answers(tmp_path, expected.platform, kind, count), os.environ, expected)
    assert line == f"devices   {count} × {kind} ({expected.platform}), jax 0.12.0.1, as planned ({expected.target})"


OTHERS = {
    "one of two": (T4X2, ("gpu", "Tesla T4", 1), "this session has 1 × Tesla T4"),
    "another kind": (T4X2, ("gpu", "Tesla P100-PCIE-16GB", 2), "this session has 2 × Tesla P100-PCIE-16GB"),
    "a CPU image for a TPU": (
        V5E,
        ("cpu", "cpu", 1),
        "the plan is for 8 × TPU v5 lite (kaggle-v5e-8), and this session has cpu",
    ),
    "a GPU for a TPU": (V5E, ("gpu", "Tesla T4", 2), "and this session has gpu"),
    "device: gpu on a CPU": (Expected("", "gpu"), ("cpu", "cpu", 1), "the plan is for gpu, and this session has cpu"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_devices_are_refused(case: str, tmp_path: Path) -> None:
    """G155, with both sides and how to choose the accelerator."""
    expected, found, says = OTHERS[case]
    with pytest.raises(RunFailed) as caught:
        probe(_answers(tmp_path, *found), os.environ, expected)
    assert caught.value.code == "G155"
    assert says in str(caught.value)
    assert "Settings > Accelerator" in caught.value.hint


@pytest.mark.parametrize("code", ["raise SystemExit('libtpu cannot be loaded')", "print('no JSON')", ""])
def test_a_jax_that_does_not_start_is_named(code: str, tmp_path: Path) -> None:
    """G156, with the end of what it said."""
    with pytest.raises(RunFailed) as caught:
        probe(_python(tmp_path, code), os.environ, None)
    assert caught.value.code == "G156"
    assert ("libtpu cannot be loaded" in caught.value.hint) == ("libtpu" in code)


@pytest.mark.parametrize(
    ("expected", "platform", "names"), [(T4X2, "cpu", []), (T4X2, "gpu", ["Tesla T4"]), (V5E, "cpu", [])]
)
def test_the_first_look_needs_no_framework(expected: Expected, platform: str, names: list[str]) -> None:
    """G155 before anything is installed: by the driver's own tools."""
    with pytest.raises(RunFailed, match="the plan is for") as caught:
        check_look(expected, platform, names)
    assert caught.value.code == "G155"


def test_the_first_look_passes_what_may_be_right() -> None:
    """Two T4s; a TPU, whose chips only JAX can count; any machine where nothing was planned."""
    check_look(T4X2, "gpu", ["Tesla T4", "Tesla T4"])
    check_look(V5E, "tpu", [])
    check_look(Expected("", "cpu"), "cpu", [])
    check_look(None, "gpu", ["anything"])


def test_the_look_is_by_nvidia_smi_then_by_the_files_of_a_tpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPU names as the driver says them; else a TPU's files or variables; else a CPU."""
    monkeypatch.setattr(devices, "TPU_FILES", (str(tmp_path / "accel0"),))
    for name in devices.TPU_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert look() == ("cpu", [])
    (tmp_path / "accel0").touch()
    assert look() == ("tpu", [])
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'Tesla T4'; echo 'Tesla T4'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert look() == ("gpu", ["Tesla T4", "Tesla T4"])
