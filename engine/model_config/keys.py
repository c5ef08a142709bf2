"""What a key of a ``config.json`` is: read, bookkeeping, a setting of another network, a misspelling, or of no meaning to us.

In: a key that the family does not read, and its value. Out: what is wrong with it, or None: it is read past, and counted.

    >>> wrong_with("unsloth_fixed", True, {"hidden_size"}, "gemma3_text", "Gemma 3") is None
    True
    >>> wrong_with("hiden_size", 16, {"hidden_size"}, "gemma3_text", "Gemma 3")[1:3]
    ('M102', 'unknown key "hiden_size" in the configuration of a gemma3_text model')

A key is refused only where its value would change what is computed: weights that are quantised, a setting with which
another network computes, a name that is nearly one that is read (its value would be lost). transformers' classes ignore
all other keys, and so do we. ``tests/trainer/models/test_reference.py`` compares the tables with those classes.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

Finding = tuple[str, str, str, str | None]  # key, code, sentence, hint

# What every class of transformers 5 has (PreTrainedConfig) or takes out again: about files, serving, unused heads.
BOOKKEEPING = frozenset(
    [
        "_attn_implementation_autoset",
        "_name_or_path",
        "architectures",
        "auto_map",
        "cache_implementation",
        "chunk_size_feed_forward",
        "dtype",
        "id2label",
        "label2id",
        "is_encoder_decoder",
        "model_type",
        "output_attentions",
        "output_hidden_states",
        "problem_type",
        "return_dict",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    ]
)
# Defaults of transformers 4 that its full dumps hold: generation, training by others, heads and formats that went away.
OLDER_DUMPS = frozenset(
    [
        "_attn_implementation",
        "_commit_hash",
        "add_cross_attention",
        "assistant_confidence_threshold",
        "assistant_lookbehind",
        "attn_implementation",
        "bad_words_ids",
        "begin_suppress_tokens",
        "cross_attention_hidden_size",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "encoder_repetition_penalty",
        "epsilon_cutoff",
        "eta_cutoff",
        "exponential_decay_length_penalty",
        "finetuning_task",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "is_decoder",
        "length_penalty",
        "max_length",
        "min_length",
        "no_repeat_ngram_size",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "num_beam_groups",
        "num_beams",
        "num_labels",
        "num_return_sequences",
        "output_scores",
        "prefix",
        "pretraining_tp",
        "pruned_heads",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict_in_generate",
        "sep_token_id",
        "suppress_tokens",
        "target_lookbehind",
        "task_specific_params",
        "temperature",
        "tf_legacy_loss",
        "tie_encoder_decoder",
        "tokenizer_class",
        "top_k",
        "top_p",
        "torchscript",
        "typical_p",
        "use_bfloat16",
    ]
)
# Weights that are not the network's own numbers: by transformers, MLX, older GPTQ tools.
QUANTISED = ("quantization_config", "quantization", "compression_config", "quant_method")

UNSET: tuple[object, ...] = (None, False, 0, "", [], {})
# Settings with which other networks compute (those of Gemma's own line, and of the decoders that transformers knows);
# under a value given here, or an unset one, they change nothing.
SETTINGS_OF_OTHERS: Mapping[str, tuple[object, ...]] = {
    **dict.fromkeys(
        ["activation_sparsity_pattern", "alibi", "altup_coef_clip", "altup_num_inputs", "attention_chunk_size", "attention_k_eq_v", "attn_config", "attn_logit_softcapping", "attn_scale", "attn_temperature_tuning", "block_sparse_moe", "clip_qkv", "conv_bias", "conv_L_cache", "enable_moe_block", "expert_intermediate_size", "ffn_config", "final_logit_softcapping", "hidden_size_per_layer_input", "kv_lora_rank", "laurel_rank", "layer_types", "logits_soft_cap", "lru_width", "mlp_bias", "mlp_only_layers", "moe_intermediate_size", "moe_layers", "n_routed_experts", "n_shared_experts", "no_rope_layers", "num_experts", "num_kv_shared_layers", "num_local_experts", "num_mtp_layers", "parallel_attn", "per_layer_config", "q_lora_rank", "qk_layernorm", "qk_norm", "qkv_bias", "query_pre_attn_scalar", "rope_local_base_freq", "rope_interleave", "sliding_window", "sliding_window_pattern", "_sliding_window_pattern", "sliding_window_size", "swiglu_limit", "top_k_experts", "use_bias", "use_double_wide_mlp", "use_mrope", "use_parallel_residual", "use_qk_norm", "use_qkv_bias", "use_sliding_window", "vocab_size_per_layer_input"],
        (),
    ),
    **dict.fromkeys(
        ["attention_multiplier", "embedding_multiplier", "logit_scale", "logits_scaling", "partial_rotary_factor", "residual_multiplier", "rotary_pct"],
        (1.0,),
    ),
}  # fmt: skip
MISSPELT = 0.88  # of difflib's ratio: one letter lost, doubled or swapped in a name of ten


def wrong_with(key: str, value: object, read: Collection[str], model_type: str, name: str) -> Finding | None:
    """What is wrong with a key that is not among those ``read`` by a family; None: read past."""
    if key in QUANTISED and value not in UNSET:
        return key, "M108", f'the weights are quantised ("{key}"{_method(value)})', ORIGINAL
    if key in BOOKKEEPING or key in OLDER_DUMPS or value in UNSET:
        return None
    message = f'unknown key "{key}" in the configuration of a {model_type} model'
    if key in SETTINGS_OF_OTHERS and value not in SETTINGS_OF_OTHERS[key]:
        return key, "M102", message, f"use a model without this setting: {name} does not compute with it"
    near = difflib.get_close_matches(key.casefold(), read, n=1, cutoff=MISSPELT)
    return (key, "M102", message, f'did you mean "{near[0]}"?') if near else None


ORIGINAL = (
    "training needs the numbers themselves: name the model that this one was quantised from (its card says which), "
    "or load it, dequantise it and save_pretrained it with the tool that made it"
)


def _method(value: object) -> str:
    """The tool, where the entry names it.

    >>> _method({"quant_method": "bitsandbytes", "load_in_4bit": True})
    ': bitsandbytes, 4 bits'
    """
    if not isinstance(value, Mapping):
        return ""
    bits = next((size for size in (4, 8) if value.get(f"load_in_{size}bit") is True), value.get("bits"))
    words = [str(value["quant_method"])] if isinstance(value.get("quant_method"), str) else []
    words += [f"{bits} bits"] if isinstance(bits, int) else []
    return f": {', '.join(words)}" if words else ""
