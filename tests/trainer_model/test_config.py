"""config.json in both styles, and every way to be wrong."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import InputInvalid
from engine.trainer.models import config_from_hf

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


def test_rotary_base_is_read_from_either_place(tiny_mapping: dict[str, Any]) -> None:
    """Both places, either or neither."""
    assert config_from_hf(tiny_mapping).rope_theta == 10000.0
    assert config_from_hf(tiny_mapping | {"rope_theta": 5e5}).rope_theta == 5e5
    assert config_from_hf(tiny_mapping | {"rope_parameters": {"rope_theta": 5e5}}).rope_theta == 5e5
    both = {"rope_theta": 5e5, "rope_parameters": {"rope_theta": 500000}}
    assert config_from_hf(tiny_mapping | both).rope_theta == 5e5


@pytest.mark.parametrize("model_type", [None, "gemma4", "llama", 3, "gema"])
def test_unknown_family_lists_the_known(model_type: Any) -> None:
    """M101 names what was asked for and what there is."""
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
        ({"rope_scaling": {"type": "linear", "factor": 2}}, ("M105", "rope_scaling")),
        ({"rope_parameters": {"rope_type": "yarn"}}, ("M105", "rope_parameters.rope_type")),
        ({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 1e6}}, ("M105", "rope_theta")),
        ({"num_key_value_heads": 3}, ("M105", "num_key_value_heads")),
        ({"head_dim": 5}, ("M105", "head_dim")),
        ({"eos_token_id": 260}, ("M105", "eos_token_id")),
    ],
)
def test_a_wrong_key_is_named(tiny_mapping: dict[str, Any], change: dict[str, Any], expected: tuple[str, str]) -> None:
    """Each way to be wrong has its code and names its key, and nothing else is reported."""
    assert codes(tiny_mapping | change) == [expected]


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_hidden_layers", "head_dim", "num_key_value_heads"])
def test_a_missing_size_is_named(tiny_mapping: dict[str, Any], key: str) -> None:
    """Sizes have no default: a forgotten one is M103."""
    assert codes({name: value for name, value in tiny_mapping.items() if name != key}) == [("M103", key)]


def test_all_findings_come_at_once(tiny_mapping: dict[str, Any]) -> None:
    """Three mistakes, three findings, one exception; a near key is suggested."""
    wrong = tiny_mapping | {"hiden_size": 1, "hidden_act": "silu", "head_dim": "x"}
    assert {code for code, _ in codes(wrong)} == {"M102", "M104", "M105"}
    with pytest.raises(InputInvalid, match='did you mean "hidden_size"'):
        config_from_hf(wrong)
