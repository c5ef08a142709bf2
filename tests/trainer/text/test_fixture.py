"""The Gemma-like fixture is what its script makes, and is like Gemma's tokenizer where that matters."""

from __future__ import annotations

from types import ModuleType

from engine.trainer.text.tokenizer import Tokenizer


def test_the_script_makes_the_folder_again(maker: ModuleType, gemma_files: dict[str, bytes]) -> None:
    """Byte for byte (chat_template.jinja is written by hand)."""
    assert maker.files() == {name: data for name, data in gemma_files.items() if name != "chat_template.jinja"}


def test_it_has_gemmas_traps(tokenizers_by_name: dict[str, Tokenizer]) -> None:
    """Control ids as Gemma's, runs of line breaks as one token, bytes for rare letters, one token beyond the embedding."""
    gemma = tokenizers_by_name["gemma"]
    assert (gemma.pad_id, gemma.eos_id, gemma.bos_id, gemma.end_of_turn_id) == (0, 1, 2, 10)
    assert len(gemma.encode("\n\n")) == 1
    assert gemma.encode("\n") * 2 != gemma.encode("\n\n")
    assert len(gemma.encode("😀")) == 4
    assert gemma.vocab_size == 768


def test_the_merging_one_merges_over_line_breaks(tokenizers_by_name: dict[str, Tokenizer]) -> None:
    """One of its tokens holds a line break and the characters around it."""
    merging = tokenizers_by_name["merging"]
    spanning = [one for one in range(merging.vocab_size) if "\n" in merging.decode([one]).strip("\n")]
    assert len(spanning) > 0
