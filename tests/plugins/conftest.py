"""Installs the sample and the broken plug-in package for real, each into a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent

SPEC = """\
# yaml-language-server: $schema=../schemas/runspec.schema.json
version: 1
run_version: plugin_v1
model:
  id: runspec/none
  init: random
  tokenizer: chars
  config: {model_type: gemma, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1,
           num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8, max_position_embeddings: 64}
dataset: quickstart-reasoning
eval_set: evalsets/quickstart.jsonl
steps:
  - {id: dataset, uses: build_dataset, with: {num_rows: 20}}
"""


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name of the package -> the folder that pip installed it into."""
    folders = {}
    for name in ("sample", "broken"):
        folders[name] = tmp_path_factory.mktemp(name)
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
             "--disable-pip-version-check", "--target", str(folders[name]), str(HERE / name)],
            check=True,
        )  # fmt: skip
    return folders


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project with the quickstart eval set."""
    (tmp_path / ".runspec").mkdir()
    (tmp_path / "evalsets").mkdir()
    (tmp_path / "runspecs").mkdir()
    source = REPOSITORY / "evalsets" / "quickstart.jsonl"
    (tmp_path / "evalsets" / "quickstart.jsonl").write_bytes(source.read_bytes())
    (tmp_path / "runspecs" / "plain.yaml").write_text(SPEC)
    (tmp_path / "runspecs" / "words.yaml").write_text(SPEC + "  - {id: words, uses: count_words, with: {most: 2}}\n")
    return tmp_path


@pytest.fixture
def runspec(project: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call the command line in a fresh process that sees the given install folders."""

    def call(*arguments: str, see: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(map(str, (*see, REPOSITORY)))
        return subprocess.run(
            [sys.executable, "-m", "engine", *arguments], cwd=project, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": path}, check=False,
        )  # fmt: skip

    return call
