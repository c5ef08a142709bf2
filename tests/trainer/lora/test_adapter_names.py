"""Adapters are named as the modules of transformers' class for the base are: PEFT reads past any other name."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from engine.errors import InputInvalid
from engine.model_config import config_from_hf
from engine.trainer.lora.adapter_files import load_adapter, modules_of, save_adapter
from engine.trainer.lora.adapters import TARGETS, LoraArgs, LoraParam, attach
from engine.trainer.models import create, family_of
from engine.trainer.models.decoder import Decoder

SIZES: dict[str, Any] = {
    "vocab_size": 260, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "sliding_window": 8,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "gemma": {"model_type": "gemma", **{key: value for key, value in SIZES.items() if key != "sliding_window"}},
    "gemma2": {"model_type": "gemma2", **SIZES},
    "gemma3_text": {"model_type": "gemma3_text", **SIZES},
    "gemma3": {"model_type": "gemma3", "text_config": SIZES, "vision_config": {"model_type": "siglip_vision_model"}},
}
BASE = {"id": "acme/tiny", "name_or_path": "models/tiny", "revision": None, "weights": "w"}
IN_THE_TOWER = "model.vision_tower.encoder.layers.0.self_attn.q_proj"


def model_of(kind: str, *targets: str) -> Decoder:
    """A model with adapters that have an effect."""
    model = create(config_from_hf(CONFIGS[kind]), seed=0)
    graph, adapters, rest = nnx.split(
        attach(model, LoraArgs(2, 4.0, targets=targets or tuple(TARGETS)), seed=1), LoraParam, ...
    )
    moved = jax.tree.map(lambda leaf: leaf + 0.05 * jax.random.normal(jax.random.key(2), leaf.shape), adapters)
    both: Decoder = nnx.merge(graph, moved, rest)
    return both


def class_embedding(kind: str) -> str:
    """Where transformers' class for AutoModelForCausalLM has the embedding, from its source: importing it needs torch."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[kind]
    family = kind.removesuffix("_text")
    found = importlib.util.find_spec(f"transformers.models.{family}")
    assert found is not None
    assert found.submodule_search_locations
    source = Path(found.submodule_search_locations[0]) / f"modeling_{family}.py"
    (own,) = (
        node
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )
    (tied,) = (
        node.value
        for node in own.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_tied_weights_keys"
    )
    return str(ast.literal_eval(tied)["lm_head.weight"])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", CONFIGS)
def test_the_names_are_those_of_transformers_class(kind: str, tmp_path: Path) -> None:
    """Its own tied key says where its text part is; PEFT puts base_model.model before it."""
    text_part = class_embedding(kind).removesuffix("embed_tokens.weight")
    save_adapter(tmp_path, model_of(kind), base=BASE)
    names = set(safetensors.numpy.load_file(tmp_path / "adapter_model.safetensors"))
    places = {"gate": "mlp", "up": "mlp", "down": "mlp"}
    assert names == {
        f"base_model.model.{text_part}layers.{layer}.{places.get(ours, 'self_attn')}.{target}.lora_{letter}.weight"
        for layer in (0, 1)
        for target, ours in TARGETS.items()
        for letter in "AB"
    }


@pytest.mark.parametrize("kind", CONFIGS)
def test_peft_finds_these_modules_and_no_others(kind: str, tmp_path: Path) -> None:
    """A list of last words; for a larger model, whose image part has the same last words, a pattern of the whole name."""
    model = model_of(kind, "q_proj", "down_proj")
    save_adapter(tmp_path, model, base=BASE)
    written = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]

    def chosen(name: str) -> bool:  # as peft.tuners.tuners_utils.check_target_module_exists
        if isinstance(written, str):
            return re.fullmatch(written, name) is not None
        return any(name.endswith(f".{word}") for word in written)

    modules = modules_of(model)
    assert [target for target, names in modules.items() if all(map(chosen, names))] == ["q_proj", "down_proj"]
    assert not any(chosen(name) for target in ("k_proj", "gate_proj") for name in modules[target])
    assert not (kind == "gemma3" and chosen(IN_THE_TOWER))


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_written_is_read_back(kind: str, tmp_path: Path) -> None:
    """The same adapters and the same targets."""
    model = model_of(kind, "v_proj", "up_proj")
    save_adapter(tmp_path, model, base=BASE)
    back = load_adapter(tmp_path, create(config_from_hf(CONFIGS[kind]), seed=0), base=BASE)
    ours, theirs = model.lora.weights(), back.lora.weights()
    assert list(ours) == list(theirs) == ["v.a", "v.b", "up.a", "up.b"]
    assert all(jnp.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("prefix", ["model.", "language_model.model.", "model.language_model."])
@pytest.mark.parametrize("kind", ["gemma3_text", "gemma3"])
def test_adapters_of_another_nesting_of_the_same_text_part_are_read(kind: str, prefix: str, tmp_path: Path) -> None:
    """Older releases of transformers had the text part elsewhere; of the text part alone the adapters fit too."""
    model = model_of(kind, "q_proj")
    save_adapter(tmp_path, model, base=BASE)
    own = "model.language_model." if kind == "gemma3" else "model."
    path = tmp_path / "adapter_model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    renamed = {
        name.replace(f"base_model.model.{own}", f"base_model.model.{prefix}"): one for name, one in tensors.items()
    }
    safetensors.numpy.save_file(renamed, path)
    back = load_adapter(tmp_path, create(config_from_hf(CONFIGS[kind]), seed=0))
    np.testing.assert_array_equal(back.lora.weights()["q.b"], model.lora.weights()["q.b"])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("all-linear", list(TARGETS)),
        (["self_attn.q_proj", "v_proj"], ["q_proj", "v_proj"]),
        (r".*\.(q_proj|o_proj)", ["q_proj", "o_proj"]),
        (r"model\.layers\.\d+\.mlp\..*", ["gate_proj", "up_proj", "down_proj"]),
        ([], '"target_modules" must name projections of this family'),
        (["q_proj", "embed_tokens"], "not 'embed_tokens'"),
        (["model.layers.0.self_attn.q_proj"], '"target_modules" has "q_proj" in some layers only'),
        (r".*\.layers\.1\..*v_proj", '"target_modules" has "v_proj" in some layers only'),
        ("(", '"target_modules" is no regular expression'),
        (7, '"target_modules" must name projections of this family'),
    ],
)
def test_target_modules_mean_what_they_mean_to_peft(written: Any, expected: list[str] | str, tmp_path: Path) -> None:
    """A word is the end of a name, a text a pattern of whole names; what we cannot hold is refused."""
    targets = expected if isinstance(expected, list) else ["q_proj"]
    save_adapter(tmp_path, model_of("gemma", *targets), base=BASE)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_modules": written}))
    base = create(config_from_hf(CONFIGS["gemma"]), seed=0)
    if isinstance(expected, str):
        with pytest.raises(InputInvalid) as caught:
            load_adapter(tmp_path, base)
        assert caught.value.code == "M603"
        assert expected in caught.value.diagnostics[0].message
        return
    read = load_adapter(tmp_path, base).lora.args.targets
    assert list(read) == expected


def test_peft_is_told_the_path_of_a_local_base(tmp_path: Path) -> None:
    """The run-spec's label of it is no place to load from; runspec_base.json has the label."""
    save_adapter(tmp_path, model_of("gemma", "q_proj"), base=BASE)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "models/tiny"
    kept = json.loads((tmp_path / "runspec_base.json").read_text())
    assert (kept["id"], "name_or_path" in kept) == ("acme/tiny", False)


def test_the_family_says_where_the_text_part_is() -> None:
    """Only a family with larger models has another place."""
    assert family_of(config_from_hf(CONFIGS["gemma3"])).NESTED_PREFIX == ("model.", "model.language_model.")
