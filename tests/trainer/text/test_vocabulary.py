"""The price of a plan has the tokenizer's vocabulary size."""

from __future__ import annotations

from engine.model_config.shapes import TOKENIZER_VOCABULARY
from engine.trainer.text.tokenizer import build_chars


def test_the_plan_knows_the_size_of_the_built_tokenizer() -> None:
    """It is the same number, without an import of the tokenizer."""
    assert TOKENIZER_VOCABULARY["chars"] == build_chars().vocab_size
