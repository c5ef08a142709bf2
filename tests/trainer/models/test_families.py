"""The later families from a run-spec to trained weights, through the trainer's own process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.protocol.codec import to_json
from engine.runspec import load_spec
from engine.steps.registry import HANDLERS
from engine.trainer.weights import load_folder
from engine.trainer_process.jobs import model_source

# Every key that a family adds to `model.config`, and one layer of each kind.
MORE = {
    "gemma2": "sliding_window: 8, layer_types: [sliding_attention, full_attention], query_pre_attn_scalar: 8, "
    "attn_logit_softcapping: 20, final_logit_softcapping: null",
    "gemma3_text": "sliding_window: 8, layer_types: [sliding_attention, full_attention], query_pre_attn_scalar: 8, "
    "rope_local_base_freq: 500",
}
SPEC = """\
version: 1
run_version: families
model:
  id: runspec/tiny
  init: random
  tokenizer: chars
  config: {{model_type: {family}, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2,
           num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8, max_position_embeddings: 128, {more}}}
dataset: quickstart-reasoning
eval_set: evalsets/items.jsonl
steps:
  - {{id: dataset, uses: build_dataset}}
  - {{id: train, uses: train_sft, with: {{num_train_steps: 2, seq_len: 48}}}}
"""


@pytest.mark.parametrize("family", [pytest.param("gemma2", marks=pytest.mark.slow), "gemma3_text"])
def test_a_run_spec_trains_a_later_family(
    make_job: Callable[..., dict[str, Any]], child: Callable[..., Any], tmp_path: Path, family: str
) -> None:
    """The declared model is trained for two steps and saved: every key arrives, the weights change, none is NaN."""
    for name in (".runspec", "evalsets"):
        (tmp_path / name).mkdir()
    (tmp_path / "evalsets" / "items.jsonl").write_text("{}\n")
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC.format(family=family, more=MORE[family]))
    spec = load_spec(path, kinds=HANDLERS)
    job = make_job(num_train_steps=2, save_every_steps=2, warmup_steps=0) | {
        "model": to_json(model_source(spec.model, tmp_path))
    }
    run = child(job)
    assert run.finish() == 0
    losses = [event["loss"] for event in run.events if event["event"] == "train_step"]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    model, config, _ = load_folder(Path(job["out"]) / "model")
    assert family == config.MODEL_TYPE
    assert config.layer_windows() == (8, None)
    assert config.query_scale == pytest.approx(8**-0.5)
    assert (config.attention_softcap, config.final_softcap) == ((20.0, None) if family == "gemma2" else (None, None))
    assert [rope.theta for rope in config.ropes()] == ([1e4] if family == "gemma2" else [500.0, 1e6])
    for name, array in model.weights().items():
        assert np.isfinite(np.asarray(array)).all(), name
        if name.endswith("norm"):
            assert np.asarray(array).any(), name  # they begin at 0
