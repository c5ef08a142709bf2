"""Which version of a kind of step has which arguments and facts, and with which versions evidence version 2 began.

In: the record. Out: which arguments and facts a recorded step must have, and what cannot be. A default that is not there is one
that the step did not have, never one that its record leaves out: evidence of version 2 comes from the kinds of that time or later,
so there everything is there that this table does not give to a later version. Evidence of version 1 is older, and must not have
what came with version 2.

An argument or a fact that comes with a new version of a kind is one entry of :data:`SINCE`.

    >>> may_be_missing("train_sft", "lora_rank", step_version=1, evidence_version=1)
    True
    >>> may_be_missing("train_sft", "lora_rank", step_version=4, evidence_version=2)
    False
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.canonical import JsonObject
from engine.steps import Handler

# Kind -> its version when evidence version 2 began; of all others 1.
BEGAN: Mapping[str, int] = {"build_dataset": 3, "train_sft": 4, "generate": 4}
# Kinds whose version was raised when evidence version 2 began, so that evidence of version 1 cannot have it.
BEGAN_WITH_2 = ("generate",)
_AT_2 = ("lora_rank", "lora_alpha", "lora_rslora", "lora_dropout", "lora_targets", "lora_merge", "method", "attention", "master_weights",
         "max_skipped_steps", "remat", "update", "export_formats", "matmul_dtype", "export", "keep_best", "keep_every_steps",
         "on_other_devices", "profile", "report_to", "cluster", "global_batch_size", "mesh")  # fmt: skip
# Kind -> argument or fact -> the version of the kind that it came with.
SINCE: Mapping[str, Mapping[str, int]] = {
    "train_sft": {**dict.fromkeys(_AT_2, 2), "n_non_finite_evals": 4, "rendered_by": 4},
    "generate": {**dict.fromkeys(("temperature", "top_k", "top_p", "stop"), 2), "chat_template": 3, "weights": 5},
}
# Facts that came before evidence version 2, without a new version of their kind.
BEFORE_2: Mapping[str, tuple[str, ...]] = {
    "train_sft": ("n_skipped_steps", "n_non_finite_evals", "rendered_by"),
    "score": ("n_repeated_items", "on_duplicate_item"),
}
# Facts that came with evidence version 3, without a new version of their kind.
BEFORE_3: Mapping[str, tuple[str, ...]] = {"train_sft": ("sessions",)}


def may_be_missing(kind: str, name: str, *, step_version: int, evidence_version: int) -> bool:
    """Whether a step of this version may have been without an argument or a fact of today."""
    came = SINCE.get(kind, {}).get(name, 1)
    earlier = (BEFORE_2.get(kind, ()) if evidence_version == 1 else ()) + (
        BEFORE_3.get(kind, ()) if evidence_version < 3 else ()
    )
    return step_version < came or name in earlier


ENGINE_OF_1 = "0.1.0"  # the only engine that wrote evidence of version 1
OF_2_ALONE = ("processor",)  # of the environment


def traces_of_version_2(record: JsonObject) -> list[str]:
    """What evidence of version 1 cannot have: it would have been taken back to the weaker rules."""
    if record["schema_version"] != 1:
        return []
    environment = record["environment"]
    found = [f"environment.{name}, which came with version 2" for name in OF_2_ALONE if name in environment]
    if environment["engine"] != ENGINE_OF_1:
        found.append(f"engine {environment['engine']!r:.40}, which writes version 2")
    return [f"the record says version 1, and has {what}" for what in found]


def impossible_versions(record: JsonObject, kinds: Mapping[str, Handler]) -> Iterator[str]:
    """Versions of kinds that no engine had together with this version of evidence."""
    is_first = record["schema_version"] == 1
    for step in record["steps"]:
        kind, version = step["uses"], step["ingredients"]["version"]
        began, latest = BEGAN.get(kind, 1), kinds[kind].version
        least = 1 if is_first else began
        most = began - 1 if is_first and kind in BEGAN_WITH_2 else began if is_first else latest
        if not least <= version <= most:
            yield f"step {step['id']}: {kind} version {version!r:.20} does not go with evidence version {record['schema_version']}"
