"""A model folder with a Gemma-like tokenizer and a chat template: loaded, trained on a chat, generated from, saved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.canonical import digest_text
from engine.data import Conversation, DatasetRow, EvalItem, Message, render_row
from engine.errors import InputInvalid
from engine.trainer.generation.generate import run_generate
from engine.trainer.generation.sampler import generate
from engine.trainer.inputs import load_model
from engine.trainer.models import config_from_hf, create
from engine.trainer.text.encoding import prompt_ids
from engine.trainer.text.tokenizer import Tokenizer, build_chars
from engine.trainer.train import run_train
from engine.trainer.weights import load_folder, save_companions, save_folder
from engine.trainer_process.jobs import write_prompts
from tests.fixtures.events import generate_job, log_into, model_source, train_job

MICRO = {
    "model_type": "gemma", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 128,
}  # fmt: skip
ARGS = {
    "num_train_steps": 2, "per_device_batch_size": 2, "grad_accum_steps": 1, "seq_len": 64, "optimizer": "adamw",
    "learning_rate": 1e-3, "lr_schedule": "constant", "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": 1.0,
    "adam_b1": 0.9, "adam_b2": 0.999, "adam_eps": 1e-8, "dtype": "float32", "packing": True, "on_long_row": "fail",
    "eval_rows": 0, "eval_every_steps": 0, "save_every_steps": 2, "keep_checkpoints": 1, "log_every_steps": 1, "seed": 1,
}  # fmt: skip
GREEDY = {
    "max_new_tokens": 3, "batch_size": 1, "seed": 0, "temperature": 0.0, "top_k": None, "top_p": 1.0, "stop": [],
}  # fmt: skip
NEVER = lambda: False  # noqa: E731


def pretrained(path: Path) -> dict[str, Any]:
    """The ``model`` of a job."""
    return {"init": "pretrained", "id": "m", "revision": None, "path": str(path), "config": None, "tokenizer": None}


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[Tokenizer, int], Path]:
    """A saved model whose embedding has so many rows."""

    def make(tokenizer: Tokenizer, rows: int) -> Path:
        config = config_from_hf({**MICRO, "vocab_size": rows, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0})
        save_folder(tmp_path / "model", create(config, seed=0), config, tokenizer, dtype="float32")
        return tmp_path / "model"

    return make


def test_a_tokenizer_with_more_tokens_than_the_embedding(folder: Any, tokenizers_by_name: dict[str, Tokenizer]) -> None:
    """M207 with both numbers."""
    path = folder(tokenizers_by_name["gemma"], 767)
    with pytest.raises(InputInvalid) as caught:
        load_folder(path)
    assert str(caught.value) == (
        "error[M207]: the tokenizer has 768 tokens, the model's vocab_size is 767\n"
        f"  --> {path}\n"
        "   = help: set vocab_size to at least 768, or use the tokenizer the model came with"
    )


def test_a_tokenizer_with_far_fewer(folder: Any) -> None:
    """M207: more rows than padding explains, so the tokenizer is another model's."""
    path = folder(build_chars(), 260 + 1025)
    with pytest.raises(InputInvalid) as caught:
        load_folder(path)
    assert str(caught.value) == (
        "error[M207]: the tokenizer has only 260 tokens, the model's vocab_size is 1285\n"
        f"  --> {path}\n"
        "   = help: use the tokenizer the model came with"
    )


@pytest.mark.parametrize("rows", [768, 832])
def test_what_fits(folder: Any, tokenizers_by_name: dict[str, Tokenizer], rows: int) -> None:
    """The same size, though the tokenizer has one more token that no text produces (as Gemma 3's), and a padded one."""
    _, config, tokenizer = load_folder(folder(tokenizers_by_name["gemma"], rows))
    assert (config.vocab_size, tokenizer.vocab_size) == (rows, 768)


def test_a_chat_is_trained_and_generated_by_the_models_own_template(
    folder: Any, tokenizers_by_name: dict[str, Tokenizer], tmp_path: Path
) -> None:
    """Started event and report name the template and the number of merges; the saved model stops at the end of a turn."""
    gemma = tokenizers_by_name["gemma"]
    model = folder(gemma, 768)
    says = [Conversation((Message("user", f"{one} "), Message("assistant", f"yes {one}"))) for one in ("a", "b", "c")]
    lines = [json.dumps(render_row(DatasetRow(f"r{at}", body)).as_json()) for at, body in enumerate(says)]
    lines.append(
        json.dumps({"id": "m", "segments": [{"text": "Go:\n", "train": False}, {"text": "\nx", "train": True}]})
    )
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    job = {
        "model": pretrained(model),
        "rows": str(tmp_path / "rows.jsonl"), "render": "messages@v1", "work": str(tmp_path / "work"),
        "out": str(tmp_path / "out"), "device": "cpu", "args": ARGS,
    }  # fmt: skip
    events: list[dict[str, Any]] = []
    report = run_train(train_job(job), log_into(events), NEVER)
    for facts in (report, events[0]):
        assert (facts["n_boundary_merges"], facts["chat_template_sha256"]) == (1, gemma.chat_sha256)
    saved = tmp_path / "out" / "model"
    assert json.loads((saved / "generation_config.json").read_text())["eos_token_id"] == [1, 10]
    assert Tokenizer.load(saved).chat_sha256 == gemma.chat_sha256

    write_prompts(tmp_path / "prompts.jsonl", [EvalItem("i", "a ", "4")], "messages@v1")
    asked = run_generate(
        generate_job({"model_dir": str(saved), "prompts": str(tmp_path / "prompts.jsonl"), "out": str(tmp_path / "predictions.jsonl"),
         "report": str(tmp_path / "report.json"), "work": str(tmp_path), "device": "cpu", "args": GREEDY}),
        lambda _: None, NEVER,
    )  # fmt: skip
    (row,) = map(json.loads, (tmp_path / "predictions.jsonl").read_text().splitlines())
    assert row["prompt_tokens"] == len(prompt_ids("", [{"role": "user", "content": "a"}], gemma))
    assert asked["chat_template_sha256"] == gemma.chat_sha256
    assert asked["chat_template"] == gemma.template_text()
    assert row["prompt"] == "<start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\n"
    assert row["prompt_sha256"] == digest_text(row["prompt"])
    assert report["rendered_by"] == f"the model's chat template, SHA-256 {gemma.chat_sha256}"


def test_generation_stops_at_every_end(folder: Any, tokenizers_by_name: dict[str, Tokenizer], tmp_path: Path) -> None:
    """An id that only generation_config.json names ends the answer too."""
    path = folder(tokenizers_by_name["gemma"], 768)
    (tmp_path / "prompts.jsonl").write_text('{"id": "i", "prompt": "a"}\n')

    def answer() -> dict[str, Any]:
        job = {"model_dir": str(path), "prompts": str(tmp_path / "prompts.jsonl"), "out": str(tmp_path / "out.jsonl"),
               "report": str(tmp_path / "report.json"), "work": str(tmp_path), "args": GREEDY}  # fmt: skip
        run_generate(generate_job(job), lambda _: None, NEVER)
        found: dict[str, Any] = json.loads((tmp_path / "out.jsonl").read_text())
        return found

    model, _, tokenizer = load_folder(path)
    options: dict[str, Any] = {"max_new_tokens": 3, "batch_size": 1, "ends": {1: "eos"}, "pad_id": 0}
    (free,) = generate(model, [prompt_ids("a", None, tokenizer)], **options)
    assert answer()["new_tokens"] > 1
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, free.ids[0]]}))
    assert (answer()["new_tokens"], answer()["finish_reason"], answer()["text"]) == (1, "eos", "")


def test_a_bases_generation_config_is_exported(
    folder: Any, tokenizers_by_name: dict[str, Tokenizer], tmp_path: Path
) -> None:
    """Its ends beside the model's own, its sampling defaults unchanged; the program that wrote it is left out."""
    path = folder(tokenizers_by_name["gemma"], 768)
    theirs = {"eos_token_id": [1, 20], "temperature": 0.7, "transformers_version": "4.1", "_from_model_config": True}
    (path / "generation_config.json").write_text(json.dumps(theirs))
    model = load_model(model_source(pretrained(path)), "float32", 0, print, NEVER)
    save_companions(tmp_path / "b", model.config, model.tokenizer, dtype="float32", generation=model.generation)
    written = json.loads((tmp_path / "b" / "generation_config.json").read_text())
    assert written == {"bos_token_id": 2, "eos_token_id": [1, 10, 20], "pad_token_id": 0, "temperature": 0.7}
    save_companions(tmp_path / "c", model.config, model.tokenizer, dtype="float32", generation=written)
    assert (tmp_path / "b" / "generation_config.json").read_bytes() == (
        tmp_path / "c" / "generation_config.json"
    ).read_bytes()


def test_an_end_outside_the_vocabulary_is_refused_before_training(
    folder: Any, tokenizers_by_name: dict[str, Tokenizer]
) -> None:
    """M309 names the base's own file."""
    path = folder(tokenizers_by_name["gemma"], 768)
    (path / "generation_config.json").write_text('{"eos_token_id": 99999}')
    with pytest.raises(InputInvalid, match=r"M309[\s\S]*99999[\s\S]*generation_config\.json"):
        load_model(model_source(pretrained(path)), "float32", 0, print, NEVER)


def test_special_ids_that_differ_are_told(folder: Any, tokenizers_by_name: dict[str, Tokenizer]) -> None:
    """A tuned model's tokenizer may name another EOS than its config.json: a note, not an error."""
    path = folder(tokenizers_by_name["gemma"], 768)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"bos_token_id": 5, "eos_token_id": 77}))
    told: list[str] = []
    load_folder(path, tell=told.append)
    assert [sentence.split(":")[0] for sentence in told] == [
        "config.json names bos_token_id 5, the tokenizer 2",
        "config.json names eos_token_id 77, the tokenizer 1",
    ]
