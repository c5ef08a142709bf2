"""Traces, people's rows, lineage, datasets on disk, eval sets: pure Python, no JAX, one public module.

In: names of builders, or JSONL that people wrote. Out: rows that the trainer can use,
the manifest that binds them, items to score on, and reports for ``runspec dataset check`` and
``runspec evalset check``.

    traces = build("dev-reasoning-v2", seed=42)
    prepared = prepare(trace_rows(traces), read_eval_set(path), on_duplicate="fail", on_overlap="fail")
    write_dataset(out, prepared, source=builder_source("dev-reasoning-v2", seed=42))

An island: of the engine it imports only ``errors`` and ``canonical``. Builders are imported when
they are called, so that checking a file is quick.
"""

from __future__ import annotations

from engine.data.builders import BUILDERS, Builder, build, builder_source, trace_rows
from engine.data.check import DatasetReport, Tokenize, Tokenized, check_dataset, marked
from engine.data.evalset import EvalSetReport, check_eval_set, read_eval_set, without_repeats
from engine.data.lineage import Match, Prepared, find_duplicates, find_overlaps, prepare
from engine.data.manifest import DatasetSource, Written, build_id, make_manifest, write_dataset
from engine.data.model import (
    Conversation,
    DatasetRow,
    EvalItem,
    Message,
    Policy,
    PromptCompletion,
    RenderedRow,
    RenderedSegment,
    RowFormat,
    Trace,
    TraceStep,
)
from engine.data.render import RENDER_OF, completion_of, prompt_messages, render_prompt, render_row, render_rows
from engine.data.rows import FIELDS, check_mapping, read_rows
from engine.data.text import normalise_prompt

__all__ = [
    "BUILDERS",
    "FIELDS",
    "RENDER_OF",
    "Builder",
    "Conversation",
    "DatasetReport",
    "DatasetRow",
    "DatasetSource",
    "EvalItem",
    "EvalSetReport",
    "Match",
    "Message",
    "Policy",
    "Prepared",
    "PromptCompletion",
    "RenderedRow",
    "RenderedSegment",
    "RowFormat",
    "Tokenize",
    "Tokenized",
    "Trace",
    "TraceStep",
    "Written",
    "build",
    "build_id",
    "builder_source",
    "check_dataset",
    "check_eval_set",
    "check_mapping",
    "completion_of",
    "find_duplicates",
    "find_overlaps",
    "make_manifest",
    "marked",
    "normalise_prompt",
    "prepare",
    "prompt_messages",
    "read_eval_set",
    "read_rows",
    "render_prompt",
    "render_row",
    "render_rows",
    "trace_rows",
    "without_repeats",
    "write_dataset",
]
