"""Prompts that the model's own chat template rendered: V10 without running a stranger's template.

In: the evidence, the template's text, the items that were asked. Out: the check's answer. Each row of predictions.jsonl
has the text that was asked and its digest; the record has the template and its digest, the same for training and
generation. A template writes the same text around every question: that frame is taken from the longest questions
and must be the frame of all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from engine.canonical import digest_text
from engine.data import normalise_prompt
from engine.evidence.contents import Answer, Evidence
from engine.scoring import ScoringItem

FRAMES_OF = 3  # items whose texts may show the frame
MOST_FRAMES = 8  # of one item and form: a question of one letter, or of none, stands at every place of its text
MOST_VOTES = 64  # items that decide which frame it is; then all must fit it


def by_chat_template(evidence: Evidence, template: str, items: Sequence[ScoringItem]) -> Answer:
    """Digests agree, and every asked text is an item's question in the one frame."""
    recorded = evidence.step("generate")["facts"]["chat_template_sha256"]
    trained = evidence.step("train_sft")["facts"]["chat_template_sha256"]
    problems = [] if digest_text(template) == recorded else ["chat_template is not the text of its digest"]
    if trained != recorded:
        problems.append("training and generation used different chat templates")
    asked: dict[str, str] = {}
    for row in evidence.rows("predictions.jsonl"):
        text = row.get("prompt")
        if row["text"] is None and row["prompt_sha256"] is None:  # no prediction
            continue
        if not isinstance(text, str) or digest_text(text) != row["prompt_sha256"]:
            problems.append(f"{row['id']}: its prompt is not the text of prompt_sha256")
        else:
            asked[row["id"]] = text
    framed = _framed([item for item in items if item.id in asked], asked)
    if framed is None and not problems:
        return (
            "n/a",
            "the chat template rewrites questions: digests of texts and template agree, the texts are recorded",
        )
    problems += framed or []
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        return "fail", "; ".join(problems[:3]) + more
    return "pass", f"rendered by the model's chat template {recorded[:12]}…"


def _framed(items: Sequence[ScoringItem], asked: Mapping[str, str]) -> list[str] | None:
    """Items whose text is not their question in the frame of the others; None where no frame can be told."""
    if not items:
        return []
    longest = sorted(items, key=lambda item: -len(item.prompt))[:FRAMES_OF]
    # A question such as "user" stands in the frame too, and a text may be forged: the frame is the one that fits most.
    frames = {frame for item in longest for frame in _frames(item.prompt, asked[item.id])}
    voters = items[:: -(-len(items) // MOST_VOTES)]
    best = max(
        sorted(frames),
        key=lambda frame: sum(_fits(item.prompt, asked[item.id], *frame) for item in voters),
        default=None,
    )
    if best is None:
        return None
    strangers = [item.id for item in items if not _fits(item.prompt, asked[item.id], *best)]
    return [f"{id_} was generated from another prompt" for id_ in strangers]


def _frames(prompt: str, text: str) -> Iterator[tuple[str, str]]:
    """What may stand before and after a question in its text."""
    for form in dict.fromkeys(_forms(prompt)):
        start = text.find(form)
        for _ in range(MOST_FRAMES):
            if start < 0:
                break
            yield text[:start], text[start + len(form) :]
            start = text.find(form, start + 1)


def _forms(prompt: str) -> tuple[str, ...]:
    """How a template may write a question: as it is, without space around it, inside JSON."""
    quoted = tuple(
        json.dumps(text, ensure_ascii=ascii_)[1:-1] for text in (prompt, prompt.strip()) for ascii_ in (False, True)
    )
    return (prompt, prompt.strip(), *quoted)


def _fits(prompt: str, text: str, before: str, after: str) -> bool:
    if not (text.startswith(before) and text.endswith(after) and len(text) >= len(before) + len(after)):
        return False
    middle = text[len(before) : len(text) - len(after)]
    return any(normalise_prompt(middle) == normalise_prompt(form) for form in _forms(prompt))
