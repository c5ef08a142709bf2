"""config.json in both styles, and every kind of error."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import InputInvalid
from engine.model_config import shapes
from engine.preflight import working_memory
from engine.trainer.models import FAMILIES, config_from_hf, param_count
from engine.trainer.ops.cross_entropy import even_block

GEMMA_2B = {  # as transformers 4 wrote it
    "architectures": ["GemmaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "head_dim": 256,
    "hidden_act": "gelu",
    "hidden_activation": None,
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 16384,
    "max_position_embeddings": 8192,
    "model_type": "gemma",
    "num_attention_heads": 8,
    "num_hidden_layers": 18,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.38.0.dev0",
    "use_cache": True,
    "vocab_size": 256000,
}


def codes(mapping: dict[str, Any]) -> list[tuple[str, str]]:
    """(code, key) of every finding."""
    with pytest.raises(InputInvalid) as caught:
        config_from_hf(mapping)
    return [(one.code, one.where.path if one.where else "") for one in caught.value.diagnostics]


def test_both_styles_give_one_config() -> None:
    """rope_theta and hidden_activation, or rope_parameters: the same Gemma."""
    new = {
        key: value for key, value in GEMMA_2B.items() if key not in ("rope_theta", "rope_scaling", "hidden_activation")
    }
    new |= {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}, "hidden_act": "gelu_pytorch_tanh"}
    assert config_from_hf(GEMMA_2B) == config_from_hf(new | {"dtype": "bfloat16", "use_bidirectional_attention": None})


def test_what_transformers_5_writes_is_read(golden: SimpleNamespace) -> None:
    """The full to_dict() of transformers 5 has no key that is refused."""
    assert config_from_hf(golden.config).hidden_size == golden.config["hidden_size"]


def test_writing_and_reading_is_the_identity(tiny_mapping: dict[str, Any]) -> None:
    """from_hf(to_hf(c)) == c, with another rotary base as well."""
    for mapping in (GEMMA_2B, tiny_mapping, tiny_mapping | {"rope_theta": 5e5, "eos_token_id": [7, 9]}):
        config = config_from_hf(mapping)
        assert config_from_hf(config.to_hf(dtype="bfloat16")) == config


@pytest.mark.filterwarnings("ignore")
def test_transformers_agrees_with_what_is_written(tiny_mapping: dict[str, Any]) -> None:
    """transformers' own GemmaConfig takes our mapping and gives back the same values."""
    from transformers import GemmaConfig

    ours = config_from_hf(tiny_mapping | {"rope_theta": 5e5}).to_hf()
    theirs = GemmaConfig(**ours).to_dict()
    del ours["rope_theta"]  # for transformers 4; 5 keeps it in rope_parameters
    assert {key: theirs[key] for key in ours} == ours


def test_rotary_base_is_read_from_either_key(tiny_mapping: dict[str, Any]) -> None:
    """In both keys, in either or in none."""
    assert config_from_hf(tiny_mapping).rope_theta == 10000.0
    assert config_from_hf(tiny_mapping | {"rope_theta": 5e5}).rope_theta == 5e5
    assert config_from_hf(tiny_mapping | {"rope_parameters": {"rope_theta": 5e5}}).rope_theta == 5e5
    both = {"rope_theta": 5e5, "rope_parameters": {"rope_theta": 500000}}
    assert config_from_hf(tiny_mapping | both).rope_theta == 5e5


@pytest.mark.parametrize("model_type", [None, "gemma4", "llama", 3, "gema", ["gemma"]])
def test_unknown_family_lists_the_known(model_type: Any) -> None:
    """M101 names the model_type and the known families."""
    with pytest.raises(InputInvalid, match=r"M101.*known: gemma"):
        config_from_hf({"model_type": model_type} if model_type is not None else {})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"hiden_size": 1}, ("M102", "hiden_size")),
        ({"sliding_window": 4096}, ("M102", "sliding_window")),
        ({"final_logit_softcapping": 30.0}, ("M102", "final_logit_softcapping")),
        ({"hidden_size": "16"}, ("M104", "hidden_size")),
        ({"hidden_size": True}, ("M104", "hidden_size")),
        ({"hidden_size": 16.0}, ("M104", "hidden_size")),
        ({"hidden_size": 0}, ("M104", "hidden_size")),
        ({"num_hidden_layers": -1}, ("M104", "num_hidden_layers")),
        ({"num_hidden_layers": 10**9}, ("M104", "num_hidden_layers")),
        ({"rms_norm_eps": float("nan")}, ("M104", "rms_norm_eps")),
        ({"rope_theta": None}, ("M104", "rope_theta")),
        ({"rope_parameters": [1]}, ("M104", "rope_parameters")),
        ({"eos_token_id": [1, "x"]}, ("M104", "eos_token_id")),
        ({"hidden_act": "silu"}, ("M105", "hidden_act")),
        ({"hidden_activation": "relu"}, ("M105", "hidden_activation")),
        ({"attention_bias": True}, ("M105", "attention_bias")),
        ({"attention_dropout": 0.1}, ("M105", "attention_dropout")),
        ({"tie_word_embeddings": False}, ("M105", "tie_word_embeddings")),
        ({"use_bidirectional_attention": True}, ("M105", "use_bidirectional_attention")),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, ("M105", "rope_scaling.factor")),
        ({"rope_scaling": {"rope_type": "yarn"}}, ("M105", "rope_scaling.rope_type")),
        ({"hidden_size": 10**400}, ("M104", "hidden_size")),
        ({"rope_parameters": {"rope_type": "yarn"}}, ("M105", "rope_parameters.rope_type")),
        ({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}}, ("M105", "rope_theta")),
        ({"num_key_value_heads": 3}, ("M105", "num_key_value_heads")),
        ({"head_dim": 5}, ("M105", "head_dim")),
        ({"eos_token_id": 260}, ("M105", "eos_token_id")),
    ],
)
def test_a_wrong_key_is_named(tiny_mapping: dict[str, Any], change: dict[str, Any], expected: tuple[str, str]) -> None:
    """Each error has its code and names its key, and nothing else is reported."""
    assert codes(tiny_mapping | change) == [expected]


@pytest.mark.parametrize("pattern", [{}, {"sliding_window_pattern": 6}])
@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text"])
def test_a_billion_layers_are_refused_at_once(
    tiny_mapping: dict[str, Any], model_type: str, pattern: dict[str, int]
) -> None:
    """An absurd number of layers is refused before layer_types is built for them."""
    found = codes(tiny_mapping | {"model_type": model_type, "num_hidden_layers": 10**9, "sliding_window": 8} | pattern)
    assert ("M104", "num_hidden_layers") in found


def test_all_findings_come_at_once(tiny_mapping: dict[str, Any]) -> None:
    """Three mistakes, three findings, one exception; a near key is suggested."""
    wrong = tiny_mapping | {"hiden_size": 1, "hidden_act": "silu", "head_dim": "x"}
    assert {code for code, _ in codes(wrong)} == {"M102", "M104", "M105"}
    with pytest.raises(InputInvalid, match='did you mean "hidden_size"'):
        config_from_hf(wrong)


# --- the published models: their config.json as facts (sizes from the papers and model cards, keys as the transformers
# --- of that day wrote them), not the files themselves ---

COMMON_4 = {
    "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
    "initializer_range": 0.02, "rms_norm_eps": 1e-06, "use_cache": True, "head_dim": 256,
}  # fmt: skip
GEMMA_7B = GEMMA_2B | {
    "hidden_size": 3072, "intermediate_size": 24576, "num_attention_heads": 16, "num_hidden_layers": 28,
    "num_key_value_heads": 16,
}  # fmt: skip
GEMMA_2_2B = COMMON_4 | {
    "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "attn_logit_softcapping": 50.0,
    "cache_implementation": "hybrid", "final_logit_softcapping": 30.0, "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "intermediate_size": 9216,
    "max_position_embeddings": 8192, "num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256, "rope_theta": 10000.0, "sliding_window": 4096, "torch_dtype": "float32",
    "transformers_version": "4.42.4", "vocab_size": 256000,
}  # fmt: skip
GEMMA_2_9B = GEMMA_2_2B | {
    "hidden_size": 3584, "intermediate_size": 14336, "num_attention_heads": 16, "num_hidden_layers": 42,
    "num_key_value_heads": 8, "sliding_window_size": 4096,
}  # fmt: skip
GEMMA_3_1B = COMMON_4 | {
    "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "attn_logit_softcapping": None,
    "cache_implementation": "hybrid", "eos_token_id": [1, 106], "final_logit_softcapping": None,
    "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "intermediate_size": 6912,
    "max_position_embeddings": 32768, "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1,
    "query_pre_attn_scalar": 256, "rope_local_base_freq": 10000, "rope_scaling": None, "rope_theta": 1000000,
    "sliding_window": 512, "sliding_window_pattern": 6, "torch_dtype": "bfloat16", "vocab_size": 262144,
}  # fmt: skip
GEMMA_3_270M = GEMMA_3_1B | {
    "hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18, "eos_token_id": 1,
    "_sliding_window_pattern": 6, "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 3,
    "use_bidirectional_attention": False,
}  # fmt: skip
del GEMMA_3_270M["sliding_window_pattern"]
GEMMA_3_4B = {
    "architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999, "eoi_token_index": 256000,
    "eos_token_id": [1, 106], "image_token_index": 262144, "initializer_range": 0.02, "mm_tokens_per_image": 256,
    "model_type": "gemma3", "torch_dtype": "bfloat16", "vision_config": {"model_type": "siglip_vision_model"},
    "text_config": {
        "hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024,
    },
}  # fmt: skip
PUBLISHED = {
    "google/gemma-2b": (GEMMA_2B, 2_506_172_416),
    "google/gemma-7b": (GEMMA_7B, 8_537_680_896),
    "google/gemma-2-2b": (GEMMA_2_2B, 2_614_341_888),
    "google/gemma-2-9b": (GEMMA_2_9B, 9_241_705_984),
    "google/gemma-3-270m": (GEMMA_3_270M, 268_098_176),
    "google/gemma-3-1b-pt": (GEMMA_3_1B, 999_885_952),
    "google/gemma-3-4b-pt": (GEMMA_3_4B, 3_880_263_168),  # of 4,300,079,472 with the vision tower and its projector
}


def layer_params(mapping: dict[str, Any]) -> int:
    """Parameters by the papers' tables, written without the engine's: matrices and norms."""
    text = {"vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}
    text |= mapping.get("text_config", mapping)
    width, heads, dim = text["hidden_size"], text["num_attention_heads"], text["head_dim"]
    attention = 2 * width * heads * dim + 2 * width * text["num_key_value_heads"] * dim
    norms = {"gemma": 2 * width, "gemma2": 4 * width, "gemma3_text": 4 * width + 2 * dim}[text["model_type"]]
    layer = attention + 3 * width * text["intermediate_size"] + norms
    return int(text["vocab_size"] * width + text["num_hidden_layers"] * layer + width)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_number_of_parameters(name: str) -> None:
    """The engine's table, the papers' arithmetic, the plan's shapes and the published number agree."""
    mapping, published = PUBLISHED[name]
    assert param_count(config_from_hf(mapping)) == layer_params(mapping) == published
    assert shapes.param_count(shapes.KNOWN_CONFIGS[name]) == published
    assert shapes.param_count(config_from_hf(mapping).to_hf()) == published


def test_the_plan_knows_the_shapes_of_every_family(kinds: dict[str, dict[str, Any]]) -> None:
    """The arithmetic of `plan`, which has no JAX, counts the same tensors that the trainer makes."""
    assert set(shapes.FAMILY_NORMS) == set(FAMILIES)
    limits = inspect.signature(even_block).parameters
    assert limits["most_logits"].default == working_memory.MOST_LOGITS
    assert limits["most_gradients"].default == working_memory.MOST_GRADIENTS
    for kind, mapping in kinds.items():
        config = config_from_hf(mapping)
        stacked = FAMILIES[mapping["model_type"]].weight_shapes(config)
        ours = [
            row
            for name, shape in stacked.items()
            for row in ([shape[1:]] * shape[0] if name.startswith("layers.") else [shape])
        ]
        assert sorted(ours) == sorted(shapes.weight_shapes(mapping)), kind


def test_published_layers_are_as_the_papers_say() -> None:
    """Windows, rotary bases and scales of the published models."""
    two, three, four = (config_from_hf(one) for one in (GEMMA_2_9B, GEMMA_3_1B, GEMMA_3_4B))
    assert two.layer_windows() == (4096, None) * 21
    assert three.layer_windows() == ((512,) * 5 + (None,)) * 4 + (512, 512)
    assert four.layer_windows() == ((1024,) * 5 + (None,)) * 5 + (1024,) * 4
    assert config_from_hf(GEMMA_3_270M).layer_windows() == ((512,) * 5 + (None,)) * 3
    assert three.ropes() == ((1e4, 1.0), (1e6, 1.0))
    assert four.ropes() == ((1e4, 1.0), (1e6, 8.0))
    assert three.layer_ropes() == ((0,) * 5 + (1,)) * 4 + (0, 0)
    assert (two.attention_softcap, two.final_softcap) == (50.0, 30.0)
    assert (four.vocab_size, four.num_attention_heads, four.more_eos_ids) == (262_208, 8, (106,))


def in_style_5(mapping: dict[str, Any]) -> dict[str, Any]:
    """The full mapping that transformers 5 makes from one in the style of 4."""
    from transformers import CONFIG_MAPPING

    full: dict[str, Any] = CONFIG_MAPPING[mapping["model_type"]].from_dict(mapping).to_dict()
    return full


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PUBLISHED)
def test_both_styles_of_the_published_models_give_one_config(name: str) -> None:
    """The mapping that transformers 5 makes from the published one, with all defaults, is read as the same model."""
    mapping, _ = PUBLISHED[name]
    new = in_style_5(mapping)
    assert "rope_theta" not in new
    assert config_from_hf(new) == config_from_hf(mapping)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PUBLISHED)
def test_transformers_takes_back_what_is_written(name: str) -> None:
    """transformers' own class accepts our mapping, gives back the same values, and from those comes the same config."""
    config = config_from_hf(PUBLISHED[name][0])
    ours = config.to_hf(dtype="bfloat16")
    theirs = in_style_5(ours)
    # For transformers 4, or our own name for a value of rope_parameters.
    for key in ("rope_theta", "rope_local_base_freq", "rope_factor"):
        ours.pop(key, None)
    assert {key: theirs[key] for key in ours} == ours
    assert config_from_hf(theirs) == config


FAMILY_BASE = {key: value for key, value in GEMMA_3_1B.items() if key not in ("sliding_window_pattern", "rope_scaling")}


@pytest.mark.parametrize(
    ("base", "change", "expected"),
    [
        (GEMMA_2_9B, {"sliding_window_size": 2048}, ("M105", "sliding_window")),
        (GEMMA_2_9B, {"layer_types": ["sliding_attention"]}, ("M105", "layer_types")),
        (GEMMA_2_9B, {"layer_types": ["chunked_attention"] * 42}, ("M105", "layer_types")),
        (GEMMA_2_9B, {"layer_types": "sliding_attention"}, ("M104", "layer_types")),
        (GEMMA_2_2B, {"sliding_window": 0}, ("M104", "sliding_window")),
        (GEMMA_2_9B, {"query_pre_attn_scalar": None}, ("M104", "query_pre_attn_scalar")),
        (GEMMA_2_9B, {"attn_logit_softcapping": "50"}, ("M104", "attn_logit_softcapping")),
        (GEMMA_2_9B, {"rope_local_base_freq": 1e4}, ("M102", "rope_local_base_freq")),
        (GEMMA_2_9B, {"hidden_activation": "silu"}, ("M105", "hidden_activation")),
        (FAMILY_BASE, {"final_logit_softcapping": 30.0}, ("M105", "final_logit_softcapping")),
        (FAMILY_BASE, {"use_bidirectional_attention": True}, ("M105", "use_bidirectional_attention")),
        (FAMILY_BASE, {"rope_scaling": {"rope_type": "yarn", "factor": 8.0}}, ("M105", "rope_scaling.rope_type")),
        (FAMILY_BASE, {"rope_scaling": {"factor": 8.0}}, ("M105", "rope_scaling.factor")),
        (FAMILY_BASE, {"rope_scaling": 8.0}, ("M104", "rope_scaling")),
        (
            FAMILY_BASE,
            {"rope_parameters": {"full_attention": {"rope_theta": 5e5}}},
            ("M105", "rope_theta"),
        ),
        (
            FAMILY_BASE,
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
            ("M105", "rope_parameters.sliding_attention.factor"),
        ),
        (GEMMA_3_4B, {"tie_word_embeddings": False}, ("M105", "tie_word_embeddings")),
        (GEMMA_3_4B, {"text_config": {"model_type": "qwen3"}}, ("M105", "text_config.model_type")),
    ],
)
def test_a_wrong_key_of_a_later_family_is_named(
    base: dict[str, Any], change: dict[str, Any], expected: tuple[str, str]
) -> None:
    """The same for what Gemma 2 and 3 add."""
    found = codes(base | change)
    assert expected in found
    assert {code for code, _ in found} == {expected[0]}


GOLDEN_MESSAGES = {
    "family": ({"model_type": "gemma4"}, """\
error[M101]: the configuration has the unknown model_type 'gemma4' (known: gemma, gemma2, gemma3, gemma3_text)
  --> config.json
   = help: did you mean "gemma"?"""),
    "none": ({}, """\
error[M101]: the configuration has no model_type (known: gemma, gemma2, gemma3, gemma3_text)
  --> config.json
   = help: use a model of one of these families: gemma, gemma2, gemma3, gemma3_text"""),
    "unknown": (GEMMA_2_2B | {"slidng_window": 1}, """\
error[M102]: unknown key "slidng_window" in the configuration of a gemma2 model
  --> config.json
   = help: did you mean "sliding_window"?"""),
    "missing": ({key: value for key, value in GEMMA_3_4B.items() if key != "text_config"}, """\
error[M103]: key "text_config" is missing
  --> config.json
   = help: the text part alone has "model_type": "gemma3_text\""""),
    "kind": (GEMMA_2B | {"hidden_size": "2048"}, """\
error[M104]: "hidden_size": must be a number, not '2048'
  --> config.json"""),
    "other": (GEMMA_2_9B | {"layer_types": ["sliding_attention"]}, """\
error[M105]: "layer_types" names 1 layers, num_hidden_layers is 42
  --> config.json"""),
    "two": (GEMMA_2_9B | {"sliding_window_size": 8}, """\
error[M105]: two windows: "sliding_window" is 4096 and "sliding_window_size" is 8
  --> config.json"""),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN_MESSAGES)
def test_the_message_is_the_recorded_one(name: str) -> None:
    """The text a person reads: code, message, source position, hint."""
    mapping, expected = GOLDEN_MESSAGES[name]
    with pytest.raises(InputInvalid) as caught:
        config_from_hf(mapping)
    assert str(caught.value) == expected
