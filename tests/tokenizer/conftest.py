"""Tokenizers to test with: bytes, Gemma-like with and without a chat template, and one that merges across lines."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from engine.trainer.tokenizer import Tokenizer, build_chars

FIXTURES = Path(__file__).parents[1] / "fixtures"
FOLDER = FIXTURES / "gemma_like"
TEMPLATE, CONFIG = "chat_template.jinja", "tokenizer_config.json"


@pytest.fixture(scope="session")
def maker() -> ModuleType:
    """tests/fixtures/make_tokenizer.py as a module."""
    spec = importlib.util.spec_from_file_location("make_tokenizer", FIXTURES / "make_tokenizer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def gemma_files() -> dict[str, bytes]:
    """name -> bytes of the Gemma-like folder."""
    return {path.name: path.read_bytes() for path in FOLDER.iterdir()}


@pytest.fixture(scope="session")
def with_template(gemma_files: dict[str, bytes]) -> Callable[[str | None], Tokenizer]:
    """The Gemma-like tokenizer with another chat template, or None."""

    def make(template: str | None) -> Tokenizer:
        settings: dict[str, Any] = json.loads(gemma_files[CONFIG])
        del settings["chat_template"]
        files = {name: data for name, data in gemma_files.items() if name != TEMPLATE}
        files |= {CONFIG: json.dumps(settings).encode()}
        return Tokenizer(files if template is None else files | {TEMPLATE: template.encode()})

    return make


@pytest.fixture(scope="session")
def tokenizers_by_name(
    maker: ModuleType, gemma_files: dict[str, bytes], with_template: Callable[[str | None], Tokenizer]
) -> dict[str, Tokenizer]:
    """All four."""
    return {
        "chars": build_chars(),
        "gemma": Tokenizer(gemma_files),
        "gemma without template": with_template(None),
        "merging": Tokenizer(maker.files(runs=False)),
    }
