"""config.json as people's folders have it: refused is what would change the computation, the rest is read past and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputInvalid
from engine.model_config import CONFIGS, config_from_hf, read_folder, read_mapping, stored_dtype
from engine.model_config.keys import BOOKKEEPING, OLDER_DUMPS, SETTINGS_OF_OTHERS

SIZES: dict[str, Any] = {
    "vocab_size": 260, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16,
}  # fmt: skip
GEMMA_1 = {"model_type": "gemma", **SIZES}
GEMMA_3 = {"model_type": "gemma3_text", **SIZES}
NESTED = {
    "model_type": "gemma3",
    "text_config": {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1},
}
UNSLOTH = {"unsloth_fixed": True, "unsloth_version": "2025.8.1"}


def findings(mapping: dict[str, Any]) -> list[tuple[str, str]]:
    """(code, key) of each."""
    with pytest.raises(InputInvalid) as caught:
        read_mapping(mapping)
    return [(one.code, one.where.path if one.where else "") for one in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("base", "more", "read_past"),
    [
        (GEMMA_3, UNSLOTH, ["unsloth_fixed", "unsloth_version"]),
        (GEMMA_1, {"my_note": "fine", "num_experts": None}, ["my_note", "num_experts"]),
        (GEMMA_1, {"pruned_heads": {}, "top_k": 50, "torchscript": False}, ["pruned_heads", "top_k", "torchscript"]),
        (GEMMA_1, {"sep_token_id": None, "tokenizer_class": None}, ["sep_token_id", "tokenizer_class"]),
        (GEMMA_1, {"quantization_config": None, "use_qk_norm": False}, ["quantization_config", "use_qk_norm"]),
        (GEMMA_1, {"sliding_window": None, "logit_scale": 1.0}, ["logit_scale", "sliding_window"]),
        (GEMMA_1, {"architectures": ["GemmaForCausalLM"], "use_cache": True, "_name_or_path": "x"}, []),
        (NESTED, {**UNSLOTH, "vision_config": {}, "boi_token_index": 5}, ["unsloth_fixed", "unsloth_version"]),
        (
            NESTED,
            {"text_config": {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "top_k": 50}},
            ["top_k"],
        ),
    ],
)
def test_what_changes_nothing_is_read_past_and_counted(
    base: dict[str, Any], more: dict[str, Any], read_past: list[str]
) -> None:
    """The configuration is the one without them; what every file has is not worth counting."""
    reading = read_mapping(base | more)
    assert list(reading.read_past) == read_past
    assert reading.config == config_from_hf(base)
    count = len(read_past)
    assert (reading.note() or "").startswith(f"config.json: {count} key" if count else "")


@pytest.mark.parametrize("key", sorted(BOOKKEEPING | OLDER_DUMPS))
@pytest.mark.parametrize("model_type", ["gemma", "gemma2", "gemma3_text"])
def test_no_bookkeeping_is_taken_for_a_misspelling(model_type: str, key: str) -> None:
    """Whatever its value: "sep_token_id" is nearly "eos_token_id"."""
    base = {"model_type": model_type, **SIZES}
    changed = base | ({} if key == "model_type" else {key: 7})
    assert read_mapping(changed).config == config_from_hf(base)


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (GEMMA_3 | {"quantization_config": {"quant_method": "bitsandbytes"}}, ("M108", "quantization_config")),
        (GEMMA_3 | {"quantization": {"group_size": 64, "bits": 4}}, ("M108", "quantization")),
        (NESTED | {"quantization_config": {"quant_method": "gptq", "bits": 4}}, ("M108", "quantization_config")),
        (
            NESTED
            | {
                "text_config": {
                    "hidden_size": 32,
                    "num_attention_heads": 2,
                    "num_key_value_heads": 1,
                    "quant_method": "awq",
                }
            },
            ("M108", "quant_method"),
        ),
        (GEMMA_1 | {"hiden_size": 33}, ("M102", "hiden_size")),
        (GEMMA_1 | {"num_hiden_layers": 3, "num_hidden_layers": 2}, ("M102", "num_hiden_layers")),
        (GEMMA_3 | {"slidng_window": 512}, ("M102", "slidng_window")),
        (GEMMA_1 | {"sliding_window": 4096}, ("M102", "sliding_window")),
        (GEMMA_3 | {"num_experts": 8}, ("M102", "num_experts")),
        (GEMMA_3 | {"logit_scale": 0.5}, ("M102", "logit_scale")),
        (GEMMA_3 | {"hidden_act": "silu"}, ("M105", "hidden_act")),
        (GEMMA_3 | {"rope_parameters": {"rope_theta": 5e5}}, ("M105", "rope_parameters.rope_theta")),
        (GEMMA_3 | {"rope_scaling": {"type": "linear", "factor": 8.0}}, ("M105", "rope_scaling.factor")),
        (GEMMA_3 | {"layer_types": []}, ("M104", "layer_types")),
        (GEMMA_3 | {"num_attention_heads": 3, "num_key_value_heads": 1}, ("M105", "hidden_size")),
        ({"model_type": "gemma3", **SIZES}, ("M103", "text_config")),
        ({"model_type": "gemma3", "text_config": [1]}, ("M104", "text_config")),
    ],
)
def test_what_would_change_the_computation_is_refused(mapping: dict[str, Any], expected: tuple[str, str]) -> None:
    """Quantised weights, a setting of another network, a name nearly right: one finding each, with its key."""
    assert findings(mapping) == [expected]


@pytest.mark.parametrize(
    ("base", "more"),
    [
        (GEMMA_1, {"rope_scaling": {}}),
        (GEMMA_1, {"rope_scaling": {"type": "default"}}),
        (GEMMA_1, {"rope_scaling": {"rope_type": "linear", "factor": 1.0}}),
        (GEMMA_1, {"rope_parameters": {"rope_theta": 10000, "rope_type": "default", "factor": None}}),
        (GEMMA_3, {"rope_scaling": {"rope_type": "linear", "factor": 1.0}}),
        (GEMMA_1, {"pad_token_id": None, "eos_token_id": None, "bos_token_id": None}),
        (GEMMA_1, {"pad_token_id": -1}),
        (GEMMA_3, {"rope_parameters": {"rope_type": "default", "full_attention": {"rope_type": "default"}}}),
        (GEMMA_1, {"attention_dropout": None}),
        (GEMMA_3, {"hidden_act": "gelu_pytorch_tanh", "layer_types": None}),
    ],
)
def test_a_value_that_means_the_default_is_no_obstacle(base: dict[str, Any], more: dict[str, Any]) -> None:
    """Null, an empty mapping, a factor of 1: the same computation."""
    assert config_from_hf(base | more) == config_from_hf(base)


def test_every_setting_of_our_own_families_is_one_of_others_for_the_rest() -> None:
    """A Gemma 1 with a window, a Gemma 2 with local rotary bases: the table knows each key that a sister reads."""
    everywhere = set.intersection(*(one.known_keys() for one in CONFIGS.values()))
    of_some = set.union(*(one.known_keys() for one in CONFIGS.values())) - everywhere
    assert of_some - set(SETTINGS_OF_OTHERS) == {"rope_factor"}


GOLDEN = {
    "quantised": (GEMMA_3 | {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, """\
error[M108]: the weights are quantised ("quantization_config": bitsandbytes, 4 bits)
  --> config.json
   = help: training needs the numbers themselves: name the model that this one was quantised from (its card says which), \
or load it, dequantise it and save_pretrained it with the tool that made it"""),
    "setting": (GEMMA_3 | {"num_experts": 8}, """\
error[M102]: unknown key "num_experts" in the configuration of a gemma3_text model
  --> config.json
   = help: use a model without this setting: Gemma 3 does not compute with it"""),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_the_message_is_the_recorded_one(name: str) -> None:
    """Nobody is told to remove what says how the weights are to be read."""
    mapping, expected = GOLDEN[name]
    with pytest.raises(InputInvalid) as caught:
        config_from_hf(mapping)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the model folder has no config.json"),
        ("[]", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ("{", "not JSON: "),
        ("[" * 100_000, "not JSON: "),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    """Missing, cut short, of another shape."""
    if text is not None:
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputInvalid) as caught:
        read_folder(tmp_path)
    assert caught.value.code == "M106"
    assert caught.value.diagnostics[0].message.startswith(message)


def test_a_folder_in_the_way_is_refused(tmp_path: Path) -> None:
    """It is no file, and nothing is opened."""
    (tmp_path / "config.json").mkdir()
    with pytest.raises(InputInvalid, match="M106"):
        read_folder(tmp_path)


def test_a_folder_gives_its_configuration(tmp_path: Path) -> None:
    """The same reading as of the mapping."""
    (tmp_path / "config.json").write_text(json.dumps(GEMMA_3 | UNSLOTH))
    assert read_folder(tmp_path) == read_mapping(GEMMA_3 | UNSLOTH)


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_a_dtype_that_weights_are_not_read_in_is_refused_with_the_folder(tmp_path: Path, where: str) -> None:
    """Before a run, as in it; of a larger model the dtype may stand with the text part."""
    inside = NESTED["text_config"] | ({"torch_dtype": "int8"} if where == "inside" else {})
    mapping = NESTED | {"text_config": inside} | ({"dtype": "int8"} if where == "outside" else {})
    (tmp_path / "config.json").write_text(json.dumps(mapping))
    with pytest.raises(InputInvalid, match=r"M105.*dtype 'int8' is not one of float32, bfloat16, float16"):
        read_folder(tmp_path)
    assert stored_dtype(NESTED | {"text_config": inside | {"torch_dtype": "bfloat16"}}) == "bfloat16"
