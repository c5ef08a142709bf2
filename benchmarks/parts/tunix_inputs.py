"""What google-tunix's Gemma takes of a batch, as its trainer's users give it; for its own environment.

In: a ``TrainingInput`` of token ids, 0 where a row is padded. Out: the keyword arguments of its loss.

    trainer.with_gen_model_input_fn(model_inputs)
"""

from __future__ import annotations

from typing import Any


def model_inputs(given: Any) -> dict[str, Any]:
    """Tokens and mask, positions and the causal mask of the real tokens."""
    from tunix.sft import utils

    real = given.input_tokens != 0
    return {
        "input_tokens": given.input_tokens,
        "input_mask": given.input_mask,
        "positions": utils.build_positions_from_mask(real),
        "attention_mask": utils.make_causal_attn_mask(real),
    }
