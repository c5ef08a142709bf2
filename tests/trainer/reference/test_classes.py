"""What the engine reads in a config.json is what transformers' class reads: defaults, bookkeeping, fields, both styles."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import pytest

from engine.model_config import CONFIGS, config_from_hf
from engine.model_config.decoder import NOT_KEYS
from engine.model_config.keys import BOOKKEEPING, OLDER_DUMPS, SETTINGS_OF_OTHERS

FLAT = ["gemma", "gemma2", "gemma3_text"]
SMALL: dict[str, Any] = {
    "vocab_size": 260, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 7, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16,
}  # fmt: skip
# Decoders with whose settings a Gemma does not compute.
OTHERS = [
    "gemma3n_text",
    "gemma4_text",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "mixtral",
    "granite",
    "cohere2",
]
# Of their fields: names of training, of routing only together with experts, of norms' and layers' numbers (their weights tell).
HARMLESS = frozenset(
    [
        "altup_active_idx",
        "altup_correct_scale",
        "decoder_sparse_step",
        "image_token_id",
        "layer_norm_eps",
        "max_window_layers",
        "norm_topk_prob",
        "num_experts_per_tok",
        "output_router_logits",
        "pretraining_tp",
        "router_aux_loss_coef",
        "router_jitter_noise",
        "embedding_dropout",
    ]
)


with warnings.catch_warnings():  # transformers' import emits warnings of its own
    warnings.simplefilter("ignore")
    import transformers

    from engine.trainer.reference.child import class_defaults, class_reading

    transformers.CONFIG_MAPPING["gemma"]


@pytest.mark.parametrize("model_type", [*FLAT, "gemma3"])
def test_what_a_file_leaves_out_has_the_classs_value(model_type: str) -> None:
    """A file with nothing but its model_type is, to both, the same model."""
    mapping = {"model_type": model_type, **({"text_config": {}} if model_type == "gemma3" else {})}
    assert config_from_hf(mapping) == config_from_hf(class_reading(mapping))


@pytest.mark.parametrize("left_out", [*SMALL, "rope_theta", "max_position_embeddings", "layer_types", "sliding_window"])
@pytest.mark.parametrize("model_type", FLAT)
def test_any_single_key_may_be_left_out(model_type: str, left_out: str) -> None:
    """Sizes too: the class has a default for each."""
    mapping = {"model_type": model_type, **SMALL, "num_attention_heads": 16, "num_key_value_heads": 8}
    mapping.pop(left_out, None)
    assert config_from_hf(mapping) == config_from_hf(class_reading(mapping))


CASES: list[tuple[str, dict[str, Any]]] = [
    *((model_type, {"unsloth_fixed": True, "my_note": "x", "torchscript": False, "top_k": 50}) for model_type in FLAT),
    ("gemma", {"hidden_act": "gelu", "hidden_activation": None, "rope_scaling": None, "rope_theta": 1000.0}),
    ("gemma", {"rope_scaling": {"rope_type": "default", "rope_theta": 500.0}}),
    ("gemma2", {"rope_theta": 777.0, "final_logit_softcapping": None, "attn_logit_softcapping": 20.0}),
    ("gemma2", {"sliding_window": 5, "layer_types": ["full_attention"] * 7, "eos_token_id": [1, 106]}),
    ("gemma3_text", {"rope_scaling": {"rope_type": "linear", "factor": 8.0}, "sliding_window_pattern": 3}),
    ("gemma3_text", {"rope_theta": 5e5, "rope_local_base_freq": 3e4, "query_pre_attn_scalar": 100}),
    ("gemma3_text", {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 9.0}}}),
]


@pytest.mark.parametrize(("model_type", "more"), CASES)
def test_both_read_the_same(model_type: str, more: dict[str, Any]) -> None:
    """Older keys, foreign keys, both styles of rotary positions."""
    mapping = {"model_type": model_type, **SMALL, **more}
    assert config_from_hf(mapping) == config_from_hf(class_reading(mapping))


@pytest.mark.parametrize("more", [more for model_type, more in CASES if model_type == "gemma3_text"])
def test_both_read_the_same_when_it_is_nested(more: dict[str, Any]) -> None:
    """The text part of a larger Gemma 3, with keys around it."""
    mapping = {
        "model_type": "gemma3",
        "text_config": {**SMALL, **more},
        "eos_token_id": [1, 106],
        "unsloth_fixed": True,
    }
    ours, theirs = config_from_hf(mapping), config_from_hf(class_reading(mapping))
    assert ours == theirs
    assert (ours.more_eos_ids, ours.is_nested, theirs.is_nested) == ((106,), True, True)


def test_what_every_class_has_is_bookkeeping() -> None:
    """Its base class's fields, and what it takes out again: the defaults of generation."""
    fields = {one.name for one in dataclasses.fields(transformers.PreTrainedConfig)}
    generation = set(transformers.GenerationConfig._get_default_generation_params())
    assert fields | generation <= BOOKKEEPING | OLDER_DUMPS


@pytest.mark.parametrize("model_type", FLAT)
def test_every_field_of_the_class_is_judged(model_type: str) -> None:
    """A field that a later class brings would be read past: here it is noticed."""
    known = CONFIGS[model_type].known_keys() | BOOKKEEPING | OLDER_DUMPS
    assert set(class_defaults(model_type)) - known == set()


@pytest.mark.parametrize("model_type", FLAT)
def test_every_key_we_write_is_a_field_of_the_class(model_type: str) -> None:
    """But for the rotary keys, which it has in rope_parameters, and reads in the style of transformers 4 as well."""
    ours = {one.name for one in dataclasses.fields(CONFIGS[model_type])} - set(NOT_KEYS)
    assert ours - set(class_defaults(model_type)) <= {"rope_theta", "rope_local_base_freq", "rope_factor"}


@pytest.mark.parametrize("model_type", OTHERS)
def test_the_settings_of_other_decoders_are_known(model_type: str) -> None:
    """What they compute with and a Gemma does not is refused there, unless it is switched off."""
    own = {one.name for one in dataclasses.fields(transformers.CONFIG_MAPPING[model_type])}
    everywhere = set.intersection(*(CONFIGS[name].known_keys() for name in FLAT))
    assert own - everywhere - BOOKKEEPING - OLDER_DUMPS - HARMLESS - set(SETTINGS_OF_OTHERS) == set()
