"""Events and figures in a person's words: shared by the live display and the plain lines.

>>> describe({"event": "train_step", "train_step": 10, "num_train_steps": 300, "loss": 2.5})
'train step 10/300 · loss 2.5000'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

# Which facts of a finished step are worth a person's line, in this order.
SHOWN_FACTS = (
    "n_rows",
    "n_duplicates",
    "n_overlap",
    "n_dropped",
    "params",
    "final_loss",
    "final_eval_loss",
    "n_items",
    "n_scored",
    "primary_score",
    "tokens_per_second",
    "mfu",
    "killed_at",
    "resumed_from",
)


def duration(seconds: float) -> str:
    """``48s``, ``1m 53s``, ``2h 05m``.

    >>> duration(113.4)
    '1m 53s'
    """
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02}m"


def number(value: Any) -> str:
    """A figure for people: 4 decimals below 100, thousands separated above.

    >>> number(0.95), number(7_300.4), number(730_112)
    ('0.9500', '7,300', '730,112')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:,.0f}"


def size(count: float) -> str:
    """Bytes for people, in the powers of ten that downloads and disks are sold in.

    >>> size(512), size(15_300_000), size(5_012_345_678)
    ('512 B', '15.3 MB', '5.01 GB')
    """
    for unit, scale, digits in (("GB", 1e9, 2), ("MB", 1e6, 1), ("kB", 1e3, 1)):
        if count >= scale:
            return f"{count / scale:.{digits}f} {unit}"
    return f"{count:.0f} B"


def _progress(event: Mapping[str, Any], what: str, done: str, total: str) -> str:
    count = f"{event.get(done, '?')}"
    if event.get(total) is not None:
        count += f"/{event[total]}"
    parts = [f"{what} {count}"]
    if event.get("loss") is not None:
        parts.append(f"loss {number(event['loss'])}")
    if event.get("tokens_per_second") is not None:
        parts.append(f"{event['tokens_per_second']:,.0f} tokens/s")
    if event.get("seconds_left") is not None:
        parts.append(f"{duration(event['seconds_left'])} left")
    return " · ".join(parts)


def _started(event: Mapping[str, Any]) -> str:
    parts = [str(event[key]) for key in ("device_kind", "platform") if event.get(key)][:1]
    devices = event.get("devices") or ()
    if len(devices) > 1:
        parts.append(f"{len(devices)} devices")
    if event.get("params") is not None:
        parts.append(f"{number(event['params'])} parameters")
    if event.get("n_rows") is not None:
        parts.append(f"{number(event['n_rows'])} rows")
    if event.get("real_token_share") is not None:
        parts.append(f"{100 * event['real_token_share']:.0f} % of each batch are real tokens")
    return "on " + ", ".join(parts) if parts else "started"


def _download(event: Mapping[str, Any]) -> str:
    parts = [f"fetched {size(event['done_bytes'])} of {size(event['total_bytes'])}", str(event["file"])]
    if event.get("bytes_per_second") is not None:
        parts.append(f"{size(event['bytes_per_second'])}/s")
    if event.get("seconds_left"):
        parts.append(f"{duration(event['seconds_left'])} left")
    return " · ".join(parts)


def _resolved(event: Mapping[str, Any]) -> str:
    missing = event["missing_bytes"]
    there = f"{size(missing)} of {size(event['total_bytes'])} to fetch" if missing else "all in the cache"
    return f"{_at(event)} is commit {event['commit'][:12]}: {event['n_files']} files, {there}"


def _at(event: Mapping[str, Any]) -> str:
    return f"{event['id']} at {event['revision'] or 'its default revision'}"


_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "note": lambda event: str(event["text"]),
    "started": _started,
    "train_step": lambda event: _progress(event, "train step", "train_step", "num_train_steps"),
    "generated": lambda event: _progress(event, "generated", "done", "total"),
    "download": _download,
    "resolved": _resolved,
    "hub_retry": lambda event: f"{event['reason']}; trying again in {duration(event['wait_seconds'])}",
    "hub_offline": lambda event: (
        f"the hub cannot be reached: using the earlier download of {_at(event)}, commit {event['commit'][:12]}"
    ),
    "hub_bad_file": lambda event: f"{event['file']} in the cache is damaged; it is removed and fetched again",
    "tokenizing": lambda event: f"tokenized {number(event['done'])}/{number(event['total'])} rows",
    "tokens_damaged": lambda event: f"the tokenized rows in the cache are unusable ({event['reason']}); made again",
    "reporting": lambda event: f"{event['writer']}: {event['where']}",
    "writer_failed": lambda event: f"{event['writer']} gets no more rows, the training goes on: {event['reason']}",
    "profiled": lambda event: f"traced train steps {event['first']} to {event['last']}: {event['path']}",
    "compiled": lambda event: f"compiled in {duration(event['seconds'])}",
    "skipped": lambda event: (
        f"train step {event['train_step']} was skipped, its loss or a gradient is no number "
        f"({event['in_a_row']} in a row; {event['most']} are borne)"
    ),
    "eval": lambda event: f"evaluated after train step {event['train_step']}: loss {number(event['eval_loss'])}",
    "checkpoint": lambda event: f"checkpoint at train step {event['train_step']}",
    "resharded": lambda event: (
        f"went on from {event['was']} to {event['now']}, the same batches in {event['micro_batches']} micro-batches: "
        "no longer bit for bit the uninterrupted training"
    ),
    "restored": lambda event: f"went on from the checkpoint of train step {event['train_step']}",
    "fallback": lambda event: (
        f"the checkpoint of train step {event['train_step']} is unusable: {event.get('reason', 'damaged')}"
    ),
    "ready_to_die": lambda event: f"checkpoint {event['train_step']} is safe; killing the trainer on purpose",
    "stopped": lambda event: f"stopped after train step {event['train_step']}; state saved",
}
_SILENT = frozenset({"finished", "devices", "error"})  # the runner says these in its own words
# Events that come often: their words on the live display, and the fields that say how far.
PROGRESS: Mapping[str, tuple[str, str, str]] = {
    "train_step": ("train step", "train_step", "num_train_steps"),
    "generated": ("generated", "done", "total"),
    "tokenizing": ("tokenized", "done", "total"),
    "download": ("fetching", "done_bytes", "total_bytes"),
}


def describe(event: Mapping[str, Any]) -> str | None:
    """One line about a live event, or None where the runner speaks for it. Unknown events show as they are.

    An event that lacks a field (a plug-in's, say) is shown raw rather than failing the run it reports on.
    """
    name = str(event.get("event", ""))
    if name in _SILENT:
        return None
    facts = " · ".join(f"{key} {number(value)}" for key, value in event.items() if key != "event")
    raw = " · ".join(part for part in (name, facts) if part)
    if name not in _WORDS:
        return raw or None
    try:
        return _WORDS[name](event)
    except (KeyError, TypeError, ValueError):
        return raw


def shown_facts(facts: Mapping[str, Any]) -> str:
    """`` · n_rows 550 · final_loss 0.1234``: the facts worth a line, or nothing."""
    shown = [name for name in SHOWN_FACTS if isinstance(facts.get(name), int | float)]
    return "".join(f" · {name} {number(facts[name])}" for name in shown)
