"""The generate job: prompts in, predictions out; a killed job resumes.

In: a :class:`engine.protocol.jobs.GenerateJob`; ``stopping`` is called whenever rows have ended. Out:
predictions_raw.jsonl in the order of the prompt file, generate_report.json, and the report as the returned mapping.

Finished rows are appended to work/generated.jsonl and fsynced as they end. Its first line has the digest of
their inputs (model, prompts, arguments); a later call resumes after them if the inputs are the same, and starts over if
not. A row does not depend on the others, and its random draws are keyed by its id (see
:mod:`engine.trainer.generation.sampler`), so a resumed run's output equals an uninterrupted one's except for
milliseconds, sampled or not.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from engine.canonical import (
    digest_file,
    digest_json,
    digest_text,
    digest_tree,
    jsonl_bytes,
    pretty_json,
    sealed,
    unsealed,
    write_atomic,
)
from engine.model_config.decoder import DecoderConfig
from engine.protocol.checkpoint_files import ANSWERS_FILE
from engine.protocol.codec import to_json
from engine.protocol.deadline import Deadline, StopReason, steady_seconds
from engine.protocol.events.base import Finished, Note
from engine.protocol.events.generation import Generated, GenerationStarted, GenerationStopped
from engine.protocol.generate_args import GenerateArgs
from engine.protocol.jobs import GenerateJob, ModelSource, bad_job
from engine.trainer.generation.prompts import (
    Prompt,
    asked_text,
    by_template,
    check_context_length,
    encode_prompts,
    read_prompts,
)
from engine.trainer.generation.sampler import Sampler, matmul_dtype
from engine.trainer.generation.sampling import Sampling
from engine.trainer.generation.sequences import FINISH_REASONS, GeneratedSequence, StopStrings
from engine.trainer.inputs import load_model
from engine.trainer.lora.adapter_files import is_adapter, load_adapter, read_base
from engine.trainer.lora.adapters import merged
from engine.trainer.models.decoder import Decoder
from engine.trainer.process import Emit, Stopping
from engine.trainer.text.stop_tokens import GENERATION_FILE, read_generation_config, stop_ids
from engine.trainer.text.tokenizer import Tokenizer
from engine.trainer.weights import load_folder

PROGRESS_FILE, SEAL = ANSWERS_FILE, "row_sha256"
ROW_VERSION = 3  # rows of an earlier form are generated again
LEAST_SECONDS = 1e-6  # a clock that stood still
Row = dict[str, Any]


def run_generate(job: GenerateJob, emit: Emit, stopping: Stopping) -> dict[str, Any]:
    """Do the job; returns the report, or {"stopped": True, "done", "total"} after a stop request."""
    prompts = read_prompts(Path(job.prompts))
    model_dir = Path(job.model_dir)
    model, config, tokenizer = load_trained(model_dir, job.model, emit, stopping)
    model_sha256 = digest_json(digest_tree(model_dir))
    device = [jax.default_backend(), matmul_dtype(model)]
    inputs = [ROW_VERSION, model_sha256, digest_file(Path(job.prompts)), to_json(job.args), *device]
    progress = GenerationProgress(Path(job.work) / PROGRESS_FILE, digest_json(inputs))
    encoded = encode_prompts(prompts, tokenizer)
    stops = stop_ids(tokenizer, read_generation_config(model_dir), str(model_dir / GENERATION_FILE))
    ends = end_reasons(config, stops, tokenizer)
    sampler = make_sampler(model, config, job.args, ends, StopStrings(job.args.stop, tokenizer.decode), encoded)
    del model  # the sampler has its own copy layer by layer; this frees the stacked weights
    check_context_length(encoded, [prompt.id for prompt in prompts], sampler.max_new_tokens, sampler.context)
    devices = tuple(str(device) for device in jax.devices())
    emit(GenerationStarted(devices, jax.default_backend(), jax.__version__, len(prompts), len(progress.rows)))
    before, batches = len(progress.rows), BatchGuard(job.deadline)
    events = iter(()) if stopping() else _generate_rest(sampler, tokenizer, prompts, encoded, progress)
    for event in events:
        emit(event)
        if stopping() or batches.is_last():
            break
    if len(progress.rows) < len(prompts):
        reason: StopReason = "deadline" if batches.is_over or not stopping() else "request"
        emit(GenerationStopped(len(progress.rows), len(prompts), reason, len(progress.rows) - before))
        return {"stopped": True, "done": len(progress.rows), "total": len(prompts)}
    rows = [progress.rows[prompt.id] for prompt in prompts]
    template = tokenizer.template_text() if any(by_template(prompt, tokenizer) for prompt in prompts) else None
    report = _report(rows, model_sha256, template)
    write_atomic(Path(job.out), jsonl_bytes(rows))
    write_atomic(Path(job.report), pretty_json(report))
    emit(Finished(report))
    return report


def load_trained(
    folder: Path, source: ModelSource | None, emit: Emit, stopping: Stopping
) -> tuple[Decoder, DecoderConfig, Tokenizer]:
    """The trained model: its own weights, or its adapters merged into their base.

    The base comes from the same ``source`` as in training, at the commit that the adapters name.
    """
    if not is_adapter(folder):
        return load_folder(folder, tell=lambda text: emit(Note(text)))
    base = read_base(folder)
    if source is None:
        raise bad_job("generate", 'has only adapters: missing field "model", their base', str(folder))
    if base["revision"]:
        source = replace(source, revision=base["revision"])
    model = load_model(source, base["dtype"], base["seed"], emit, stopping)
    adapted = load_adapter(folder, model.module, base={**base, "weights": model.origin})
    return merged(adapted), model.config, model.tokenizer


def make_sampler(
    model: Decoder,
    config: DecoderConfig,
    args: GenerateArgs,
    ends: Mapping[int, str],
    stops: StopStrings,
    prompts: Sequence[Sequence[int]],
) -> Sampler:
    """The sampler for a generate job's arguments; ``prompts``: all of the run, also those that are done."""
    return Sampler(
        model,
        max_new_tokens=args.max_new_tokens,
        batch_size=args.batch_size,
        ends=ends,
        pad_id=config.pad_token_id,
        sampling=Sampling(args.temperature, args.top_k, args.top_p),
        seed=args.seed,
        stops=stops if stops.strings else None,
        longest=max(map(len, prompts)),
    )


def end_reasons(config: DecoderConfig, stops: Iterable[int], tokenizer: Tokenizer) -> dict[int, str]:
    """Every token id that ends an answer -> its finish reason.

    A chat model lists the end of a turn among its EOS ids ("eos_token_id": [1, 106]); here the two are distinguished.
    """
    ids = {config.eos_token_id, *config.more_eos_ids, *stops}
    turns = tokenizer.turn_end_ids - {config.eos_token_id, tokenizer.eos_id}
    return {token: "end_of_turn" if token in turns else "eos" for token in ids}


class BatchGuard:
    """Whether the next answers would come too late for the session's limit; the first ones of a session are always tried."""

    def __init__(self, deadline: Deadline | None, clock: Callable[[], float] = steady_seconds) -> None:
        self._deadline, self._clock, self._slowest, self._since = deadline, clock, 0.0, clock()

    @property
    def is_over(self) -> bool:
        """Whether the limit is reached."""
        return self._deadline is not None and not self._deadline.fits(self._clock())

    def is_last(self) -> bool:
        """Called when answers have ended: measures how long they took."""
        now = self._clock()
        self._slowest, self._since = max(self._slowest, now - self._since), now
        return self._deadline is not None and not self._deadline.fits(now, self._slowest)


class GenerationProgress:
    """Finished rows on disk: a header line, then one row a line, each with a digest of itself, each batch fsynced.

    A row that is not what was written is none: its answer is generated again.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self.rows: dict[str, Row] = {}
        header = jsonl_bytes([{"made_from": key}])
        data = path.read_bytes() if path.is_file() else b""
        if not data.startswith(header):
            write_atomic(path, header)
            return
        lines = data[len(header) :].splitlines(keepends=True)
        whole = {line: row for line in lines if (row := unsealed(line, SEAL)) is not None}
        if len(whole) < len(lines):  # a kill in the middle of a write leaves half a line
            write_atomic(path, header + b"".join(whole))
        self.rows = {row["id"]: row for row in whole.values()}

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows; they are on disk when this returns."""
        with self._path.open("ab") as stream:
            stream.write(jsonl_bytes(sealed(row, SEAL) for row in rows))
            stream.flush()
            os.fsync(stream.fileno())
        self.rows.update((row["id"], row) for row in rows)


def _generate_rest(
    sampler: Sampler,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    encoded: Sequence[Sequence[int]],
    progress: GenerationProgress,
) -> Iterator[Generated]:
    """Generate the missing rows; yields an event whenever rows have ended and are safe on disk."""
    rest = [index for index, prompt in enumerate(prompts) if prompt.id not in progress.rows]
    started, new_tokens = time.perf_counter(), 0
    names = [prompts[index].id for index in rest]
    for indices, generations in sampler.batches([encoded[index] for index in rest], names):
        done = zip((prompts[rest[index]] for index in indices), generations, strict=True)
        progress.append([_row(prompt, generation, tokenizer) for prompt, generation in done])
        new_tokens += sum(generation.new_tokens for generation in generations)
        pace = round(new_tokens / max(time.perf_counter() - started, LEAST_SECONDS), 1)
        yield Generated(len(progress.rows), len(prompts), pace)


def _row(prompt: Prompt, generation: GeneratedSequence, tokenizer: Tokenizer) -> Row:
    """With the text that the model was really asked, whichever way it was rendered: a reader needs no template to see it."""
    asked = asked_text(prompt, tokenizer)
    return {
        "id": prompt.id,
        "prompt_sha256": digest_text(asked),
        "prompt": asked,
        "text": tokenizer.decode(generation.ids) if generation.text is None else generation.text,
        "prompt_tokens": generation.prompt_tokens,
        "new_tokens": generation.new_tokens,
        "finish_reason": generation.finish_reason,
        "milliseconds": generation.milliseconds,
    }


def _report(rows: Sequence[Row], model_sha256: str, chat_template: str | None) -> dict[str, Any]:
    """The facts of the artifact. ``chat_template``: the text of the one that rendered prompts.

    The speed is over the rows' own time, so that it is right for a resumed run too."""
    new_tokens = sum(row["new_tokens"] for row in rows)
    seconds = max(sum(row["milliseconds"] for row in rows) / 1000, LEAST_SECONDS)
    reasons = Counter(row["finish_reason"] for row in rows)
    return {
        "n_items": len(rows),
        "new_tokens": new_tokens,
        "tokens_per_second": round(new_tokens / seconds, 1),
        "finish_reasons": {reason: reasons[reason] for reason in FINISH_REASONS if reasons[reason]},
        "model_sha256": model_sha256,
        "chat_template_sha256": None if chat_template is None else digest_text(chat_template),
        "chat_template": chat_template,
        "platform": jax.default_backend(),
    }
