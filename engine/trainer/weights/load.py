"""In: a model folder. Out: the model, its configuration, its tokenizer; or one error with every finding.

model, config, tokenizer = load_folder(folder, param_dtype="bfloat16", sharding_of=placement.weight_shardings(config))
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import jax.numpy as jnp
from jax.typing import DTypeLike

from engine.errors import InputInvalid, Where
from engine.model_config import CONFIG_FILE, read_config, read_mapping, stored_dtype
from engine.model_config.decoder import DecoderConfig
from engine.trainer.models import family_of
from engine.trainer.models.decoder import Decoder
from engine.trainer.text.tokenizer import Tokenizer
from engine.trainer.weights.filling import ShardingOf, check_alias, fill_leaves
from engine.trainer.weights.folder import open_weights
from engine.trainer.weights.table import match

MOST_PADDING_ROWS = 1024  # embeddings are padded to multiples of 64 to 1024
_log = logging.getLogger(__name__)


def load_folder(
    folder: str | Path,
    *,
    param_dtype: DTypeLike | None = None,
    compute_dtype: DTypeLike | None = None,
    sharding_of: ShardingOf | None = None,
    may_donate: bool = False,
    tell: Callable[[str], None] = _log.warning,
) -> tuple[Decoder, DecoderConfig, Tokenizer]:
    """Read a model folder; a dtype left out is the one config.json names (float32 if it names none).

    ``sharding_of(leaf name, shape)`` gives a leaf's sharding (None: on the default device); each leaf is filled from the files
    and put on its devices before the one after the next is begun. ``may_donate``: the arrays will be donated to a
    compiled step. On CPU they otherwise use the memory they were read into, which XLA borrows and would have to copy
    entirely to take it over. ``tell`` is called with a sentence about weights that are not read, about keys
    of config.json that are read past, and about special tokens that differ between it and the tokenizer.

    Raises InputInvalid: M101 to M108 for the configuration, M201 to M206 for the weights, M3xx for
    the tokenizer, M207 where tokenizer and model do not fit together.
    """
    folder = Path(folder)
    mapping = read_config(folder)
    reading = read_mapping(mapping, str(folder / CONFIG_FILE))
    config = reading.config
    tokenizer = Tokenizer.load(folder)
    _check_fit(folder, config, tokenizer)
    for sentence in (reading.note(), *_other_ids(config, tokenizer)):
        if sentence is not None:
            tell(sentence)
    stored = stored_dtype(mapping, str(folder / CONFIG_FILE))
    family, dtype = family_of(config), jnp.dtype(param_dtype or stored)
    with open_weights(folder, family, config.vocab_size) as contents:
        matched = match(family, config, contents.tensors, folder)
        if matched.alias is not None:
            check_alias(matched.alias, matched.source, dtype)
        arrays = fill_leaves(matched.leaves, dtype, sharding_of, may_donate=may_donate)
    if contents.not_read:
        parts = ", ".join(sorted({name.removeprefix("model.").split(".")[0] for name in contents.not_read}))
        tell(f"not read: {len(contents.not_read)} weights of parts that this family does not use ({parts})")
    model: Decoder = family.MODEL(config, arrays, compute_dtype=compute_dtype or stored)
    return model, config, tokenizer


def _check_fit(folder: Path, config: DecoderConfig, tokenizer: Tokenizer) -> None:
    """The tokenizer's ids must be rows of the embedding; it may be padded, but much larger means another model."""
    if config.vocab_size - tokenizer.vocab_size > MOST_PADDING_ROWS:
        raise InputInvalid(
            "M207",
            f"the tokenizer has only {tokenizer.vocab_size} tokens, the model's vocab_size is {config.vocab_size}",
            where=Where(file=str(folder)),
            hint="use the tokenizer the model came with",
        )
    if tokenizer.vocab_size > config.vocab_size:
        raise InputInvalid(
            "M207",
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model's vocab_size is {config.vocab_size}",
            where=Where(file=str(folder)),
            hint=f"set vocab_size to at least {tokenizer.vocab_size}, or use the tokenizer the model came with",
        )


def _other_ids(config: DecoderConfig, tokenizer: Tokenizer) -> Iterator[str]:
    """Sentences about config.json's BOS and EOS where they differ from the tokenizer's: texts are encoded with the latter.

    Not an error: in folders of tuned models the tokenizer's EOS is the end of a turn.
    """
    if config.bos_token_id != tokenizer.bos_id:
        yield (
            f"{CONFIG_FILE} names bos_token_id {config.bos_token_id}, the tokenizer {tokenizer.bos_id}: "
            "every text begins with the tokenizer's"
        )
    if tokenizer.eos_id not in (config.eos_token_id, *config.more_eos_ids):
        yield (
            f"{CONFIG_FILE} names eos_token_id {config.eos_token_id}, the tokenizer {tokenizer.eos_id}: "
            "trained answers end with the tokenizer's, and generation stops at both"
        )
