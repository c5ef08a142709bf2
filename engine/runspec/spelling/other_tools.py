"""Keys of other tools that have no counterpart of the same meaning here: what to write, or why there is nothing to write.

In: an unknown key. Out: a sentence, or None. A key that only has another name here is an alias in its schema; these are
different: the nearest name would be taken with the wrong value (3 epochs are not 3 train steps).

    >>> hint_of("num_train_epochs")[:50]
    'training is counted in train steps: num_train_step'
"""

from __future__ import annotations

from collections.abc import Mapping

_STEPS = "training is counted in train steps: num_train_steps = epochs x rows / rows of a step (with packing a sequence has several)"
_DTYPE = 'write "dtype: bfloat16" or "dtype: float32"; float16 is chosen by "matmul_dtype", for devices that have nothing better'
_FOLDER = "nothing to write: steps publish into .runspec/store, `run` ends with the model's folder; evidence.dir names the evidence's"
_WHEN = 'say it in train steps: "eval_every_steps", "save_every_steps", "log_every_steps"'
_WARMUP = "warmup_steps counts train steps: it is this share x num_train_steps"
_MESH = 'write "mesh": {fsdp: N, tp: M}; `runspec docs several-devices` says which'
_BITS = (
    "quantised weights are not trained here; less memory: method: lora, dtype: bfloat16, remat (`runspec docs memory`); "
    "a generate step has weights: int8"
)
_RESUME = "nothing to write: the same `runspec run` resumes from the last checkpoint"
_UPLOAD = "nothing is uploaded; `run` ends with the model's folder, which any uploader takes (`runspec docs export`)"

_HINTS: Mapping[str, str] = {
    **dict.fromkeys(
        ("num_train_epochs", "train_epochs", "num_epochs", "max_epochs", "epochs", "n_epochs", "epoch"), _STEPS
    ),
    **dict.fromkeys(("fp16", "bf16", "half", "fp16_full_eval", "bf16_full_eval", "mixed_precision", "tf32"), _DTYPE),
    **dict.fromkeys(("output_dir", "out_dir", "save_dir", "logging_dir", "checkpoint_dir"), _FOLDER),
    **dict.fromkeys(("eval_strategy", "evaluation_strategy", "save_strategy", "logging_strategy"), _WHEN),
    **dict.fromkeys(("warmup_ratio", "warmup_fraction"), _WARMUP),
    **dict.fromkeys(("deepspeed", "fsdp", "ddp", "fsdp_config", "device_map"), _MESH),
    **dict.fromkeys(("load_in_4bit", "load_in_8bit", "quantization", "quantization_config"), _BITS),
    **dict.fromkeys(("resume_from_checkpoint", "resume", "overwrite_output_dir"), _RESUME),
    **dict.fromkeys(("push_to_hub", "hub_model_id"), _UPLOAD),
    "per_device_eval_batch_size": "evaluation takes the batch of training; of a generate step it is batch_size",
}


def hint_of(key: str) -> str | None:
    """What to do about the key, where other tools have it and this one has nothing of its meaning."""
    return _HINTS.get(key.casefold().replace("-", "_"))
