"""`make parity-real` where there is nothing to compare with: one clear message, no traceback, no green light."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(repository: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script as make starts it; the suite's environment has no HF_ variable and is offline."""
    clean = {name: value for name, value in os.environ.items() if name not in ("MODEL", "REVISION")}
    return subprocess.run(
        [sys.executable, "tests/parity/real_weights.py"],
        cwd=repository, env={**clean, **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_without_weights_it_says_how_to_have_them(repository: Path) -> None:
    """No MODEL and no HF_TOKEN: nothing is asked of anyone, exit code 2, and what to type."""
    done = run(repository)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "the weights of google/gemma-2b are not here, so nothing was compared" in done.stderr
    assert "MODEL=path/to/folder make parity-real" in done.stderr
    assert "HF_TOKEN=" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("model", ["google/gemma-2b", "."])
def test_weights_that_cannot_be_read_are_no_success(repository: Path, tmp_path: Path, model: str) -> None:
    """A hub that cannot be reached, a folder that is not a model: the finding, and the same advice."""
    done = run(repository, MODEL=str(tmp_path) if model == "." else model)
    assert done.returncode == 2
    assert done.stderr.startswith("error[M")
    assert "nothing was compared" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_another_models_texts_differ(repository: Path, tmp_path: Path) -> None:
    """Weights that are there and give other texts: both are shown, exit code 1."""
    from engine.trainer.models import config_from_hf, create
    from engine.trainer.text.tokenizer import build_chars
    from engine.trainer.weights import save_folder

    config = config_from_hf({
        "model_type": "gemma", "vocab_size": 260, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    })  # fmt: skip
    save_folder(tmp_path, create(config, seed=0), config, build_chars(), dtype="float32")
    done = run(repository, MODEL=str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("DIFFERS") == 4
    assert "expected 'Hello I am doing a project" in done.stdout
