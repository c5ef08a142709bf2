"""The data of a training run: rows tokenised, fitted to ``seq_len``, split into training and eval rows, and packed.

In: rows.jsonl, a tokenizer, arguments, a cache folder. Out: :class:`Data`, whose arrays are all memory-mapped: the token
store, and the packing plan beside it, keyed by what it is made from (the tokens' digest, the arguments that shape it, and
the planning code).

    data = load_data(Path("rows.jsonl"), tokenizer, args, cache=Path("cache"), render="reasoning@v1")
    data.packed.take([0, 1])
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.canonical import digest_json
from engine.errors import InputInvalid
from engine.protocol.events.inputs import TokensDamaged
from engine.protocol.train_args import TrainArgs, names_affecting
from engine.trainer.code_digest import code_digest
from engine.trainer.input_pipeline.array_store import Arrays, ArrayWriter, open_or_build
from engine.trainer.input_pipeline.long_rows import Pieces, handle_long_rows
from engine.trainer.input_pipeline.packing import Packed, PackPlan, permutation, plan_pieces
from engine.trainer.input_pipeline.token_store import KEY_CHARS, open_store
from engine.trainer.input_pipeline.token_table import TokenTable
from engine.trainer.process import Emit
from engine.trainer.text.tokenizer import Tokenizer

WITHHOLDING_STREAM = (1 << 63) + 1  # differs from the streams of packing and of every epoch
FORMAT = 1
MADE_BY = tuple(f"engine.trainer.input_pipeline.{name}" for name in ("token_table", "long_rows", "packing", "dataset"))
COLUMNS = {"heads": "<i8", "starts": "<i8", "lengths": "<i4", "offsets": "<i8"}  # of a PackPlan


@dataclass(frozen=True, slots=True)
class Data:
    """Packed training sequences, the rows withheld for the eval loss, counts of long rows, and digests of it all.

    ``n_boundary_merges``: rows that, tokenised as one text, would have a token across prompt and answer.
    """

    packed: Packed
    withheld: Packed | None
    n_rows: int
    n_withheld: int
    n_dropped: int
    n_truncated: int
    n_split: int
    n_dropped_pieces: int
    longest: int
    n_boundary_merges: int
    rows_digest: str
    tokens_digest: str
    plan_digest: str
    was_cached: bool


def load_data(
    path: Path,
    tokenizer: Tokenizer,
    args: TrainArgs,
    *,
    cache: Path,
    render: str,
    emit: Emit = lambda _: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Data:
    """Open or build the token store and the plan.

    Raises InputInvalid T110 to T114, T117, M304 to M308; RunFailed T119; Stopped. Events: those of
    :func:`engine.trainer.input_pipeline.token_store.open_store`.
    """
    store = open_store(path, tokenizer, cache, render=render, emit=emit, stopping=stopping)
    key = {
        "format": FORMAT,
        "tokens": store.digest,
        "code": code_digest(*MADE_BY),
        **{name: getattr(args, name) for name in names_affecting("packing_plan")},
    }
    folder = cache / "plans" / digest_json(key)[:KEY_CHARS]
    plan, _ = open_or_build(
        folder,
        lambda: _plan(store.table, args, folder),
        lambda reason: emit(TokensDamaged(reason)),
    )
    facts = dict(plan.facts)
    targets, eval_targets = facts.pop("n_targets"), facts.pop("n_eval_targets")
    withheld = _packed(store.table, plan, "eval_", eval_targets, args.seq_len) if facts["n_withheld"] else None
    return Data(
        packed=_packed(store.table, plan, "", targets, args.seq_len),
        withheld=withheld,
        rows_digest=store.rows_digest,
        tokens_digest=store.digest,
        plan_digest=digest_json([plan.digest, facts, targets, eval_targets]),
        was_cached=store.was_cached,
        **facts,
    )


def _packed(table: TokenTable, plan: Arrays, prefix: str, targets: int, seq_len: int) -> Packed:
    columns = {name: plan.arrays[f"{prefix}{name}"] for name in COLUMNS}
    return Packed(table, PackPlan(**columns, n_targets=targets), seq_len)


def _plan(table: TokenTable, args: TrainArgs, folder: Path) -> Arrays:
    """Fit, withhold, pack, and store. Raises InputInvalid T113, T114, T117."""
    fitted = handle_long_rows(table, args.seq_len, args.on_long_row)
    if args.eval_rows >= fitted.n_rows:
        raise InputInvalid(
            "T117",
            f"eval_rows is {args.eval_rows}, which leaves none of {fitted.n_rows} rows to train on",
            hint="lower eval_rows",
        )
    withheld, training = withhold(fitted.pieces, args.eval_rows, args.seed)
    plans = {
        "": plan_pieces(training, args.seq_len, packing=args.packing, seed=args.seed),
        "eval_": plan_pieces(withheld, args.seq_len, packing=args.packing),
    }
    facts = {
        "n_rows": fitted.n_rows - args.eval_rows,
        "n_withheld": args.eval_rows,
        "n_dropped": fitted.n_dropped,
        "n_truncated": fitted.n_truncated,
        "n_split": fitted.n_split,
        "n_dropped_pieces": fitted.n_dropped_pieces,
        "longest": int(fitted.pieces.lengths.max()),
        "n_boundary_merges": int(np.count_nonzero(table.boundary_merges)),
        "n_targets": plans[""].n_targets,
        "n_eval_targets": plans["eval_"].n_targets,
    }
    with ArrayWriter(
        folder, {f"{prefix}{name}": dtype for prefix in plans for name, dtype in COLUMNS.items()}
    ) as writer:
        for prefix, plan in plans.items():
            for name in COLUMNS:
                writer.append(f"{prefix}{name}", getattr(plan, name))
        return writer.publish(facts)


def withhold(pieces: Pieces, count: int, seed: int) -> tuple[Pieces, Pieces]:
    """(withheld, training): which rows is a pure function of seed and number of rows; the pieces of a row stay together."""
    rows = pieces.rows[np.diff(pieces.rows, prepend=-1) != 0]  # in file order, each once
    is_withheld = np.isin(pieces.rows, rows[permutation(len(rows), seed, WITHHOLDING_STREAM)[:count]])
    return pieces.take(is_withheld), pieces.take(~is_withheld)
