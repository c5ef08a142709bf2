"""Adapters over the text part of a larger Gemma 3, loaded by the real peft over the class that AutoModelForCausalLM gives."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Gemma3Config

from engine.trainer.lora.adapter_files import load_adapter, save_adapter
from engine.trainer.lora.adapters import LoraArgs, LoraParam, attach
from engine.trainer.text.tokenizer import build_chars
from engine.trainer.weights import load_folder

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's and transformers' own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

TEXT = {
    "vocab_size": 272, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128, "sliding_window": 8,
    "query_pre_attn_scalar": 8,
}  # fmt: skip
VISION = {
    "model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
}  # fmt: skip
TOKENS = np.random.default_rng(0).integers(4, 260, (1, 21))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A larger Gemma 3 as transformers saves it."""
    torch.manual_seed(0)
    config = Gemma3Config(text_config=TEXT, vision_config=VISION, mm_tokens_per_image=4, image_token_index=271,
                          boi_token_index=265, eoi_token_index=266)  # fmt: skip
    path = tmp_path_factory.mktemp("larger")
    AutoModelForCausalLM.from_config(config).float().save_pretrained(path)
    build_chars().save(path)
    assert "text_config" in json.loads((path / "config.json").read_text())
    return path


def theirs(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def logits_of(model: Any) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = model(input_ids=torch.from_numpy(TOKENS).long()).logits.float().numpy()
    return found


def ours_of(model: Any) -> np.ndarray:
    positions = jnp.arange(TOKENS.shape[1], dtype=jnp.int32)[None, :]
    return np.asarray(jax.jit(lambda tokens: model(tokens, positions=positions))(jnp.asarray(TOKENS, jnp.int32)))


def test_peft_loads_every_matrix_and_computes_what_we_do(folder: Path, tmp_path: Path) -> None:
    """No key is missing or unexpected, each lora_B has its values, and the logits are ours within 1e-5."""
    from flax import nnx

    model, _, _ = load_folder(folder)
    graph, adapters, rest = nnx.split(attach(model, LoraArgs(4, 16.0), seed=1), LoraParam, ...)
    drawn = jax.tree.map(lambda leaf: leaf + 0.02 * jax.random.normal(jax.random.key(2), leaf.shape), adapters)
    adapted = nnx.merge(graph, drawn, rest)
    save_adapter(
        tmp_path, adapted, base={"id": "larger", "name_or_path": str(folder), "revision": None, "weights": "w"}
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        peft = PeftModel.from_pretrained(theirs(folder), tmp_path).eval()
    assert [str(one.message) for one in caught if "adapter" in str(one.message)] == []
    given = {name: weight for name, weight in peft.state_dict().items() if "lora_B" in name}
    assert len(given) == 7 * TEXT["num_hidden_layers"]
    assert all(float(weight.abs().max()) > 0 for weight in given.values())
    np.testing.assert_allclose(ours_of(adapted), logits_of(peft), atol=1e-5, rtol=0)
    assert float(np.abs(logits_of(peft) - logits_of(theirs(folder))).max()) > 1e-2


def test_we_load_what_peft_saves(folder: Path, tmp_path: Path) -> None:
    """Over the same class, its own pattern of target modules, its own names."""
    torch.manual_seed(1)
    pattern = r"model\.language_model\.layers\.\d+\.self_attn\.(q_proj|v_proj)"
    peft = get_peft_model(theirs(folder), LoraConfig(r=3, lora_alpha=6, target_modules=pattern, task_type="CAUSAL_LM"))
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    peft.save_pretrained(tmp_path)
    model, _, _ = load_folder(folder)
    np.testing.assert_allclose(ours_of(load_adapter(tmp_path, model)), logits_of(peft.eval()), atol=1e-5, rtol=0)
