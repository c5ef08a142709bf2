"""What a journal says of the running attempt, and apart from it of the last complete run."""

from __future__ import annotations

from typing import Any

from engine.pipeline.attempts import story_of

STEPS = {"dataset": "build_dataset", "train": "train_sft", "score": "score"}


class Journal:
    """Events with a clock that counts them."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def add(self, event: str, **facts: Any) -> Journal:
        self.events.append({"event": event, "time": f"t{len(self.events)}", **facts})
        return self

    def begin(self) -> Journal:
        return self.add("run_started", session="s", steps=STEPS)

    def start(self, step: str) -> Journal:
        return self.add("step_started", id=step, uses=STEPS[step])

    def publish(self, step: str, fingerprint: str, event: str = "step_finished") -> Journal:
        return self.add(
            event, id=step, uses=STEPS[step], fingerprint=fingerprint, type=f"{step}_made", path=fingerprint
        )

    def complete(self, seed: str) -> Journal:
        self.begin()
        for step in STEPS:
            self.start(step).publish(step, f"{step}-{seed}")
        return self.add("evidence_rendered").add("verified")


def _rows(rows: Any) -> list[tuple[str, str, str | None]] | None:
    return rows and [(row["id"], row["state"], row.get("fingerprint")) for row in rows]


def test_a_complete_run_is_one_story() -> None:
    """Every step is finished, in the run-spec's order, and nothing stands apart."""
    story = story_of(Journal().complete("42").events)
    assert _rows(story.steps) == [(step, "finished", f"{step}-42") for step in STEPS]
    assert (story.complete, story.verified_at) == (None, None)


def test_while_it_trains_nothing_of_the_last_run_is_mixed_in() -> None:
    """The step that was skipped counts for the attempt, the later ones are waiting; the verified run stands apart."""
    story = story_of(Journal().complete("42").begin().start("train").events)
    assert _rows(story.steps) == [
        ("dataset", "finished", "dataset-42"), ("train", "started", None), ("score", "waiting", None)
    ]  # fmt: skip
    assert _rows(story.complete) == [(step, "finished", f"{step}-42") for step in STEPS]
    assert story.verified_at == "t8"


def test_a_first_attempt_has_only_itself() -> None:
    """Without a verified run before it, waiting steps are known from the run-spec that was started."""
    story = story_of(Journal().begin().start("dataset").events)
    assert _rows(story.steps) == [("dataset", "started", None), ("train", "waiting", None), ("score", "waiting", None)]
    assert story.complete is None


def test_a_resumed_attempt_keeps_what_the_interrupted_one_published() -> None:
    """The dataset of the first attempt is not made again; training is."""
    journal = (
        Journal().begin().start("dataset").publish("dataset", "d").start("train").add("run_interrupted", id="train")
    )
    story = story_of(journal.begin().start("train").events)
    assert _rows(story.steps) == [("dataset", "finished", "d"), ("train", "started", None), ("score", "waiting", None)]


def test_a_failed_attempt_is_said_and_superseded_by_verified_evidence() -> None:
    """A later failure is the state of the attempt; evidence that is verified again rests on what was published."""
    journal = Journal().complete("42").begin().start("train").add("step_failed", id="train")
    story = story_of(journal.events)
    assert _rows(story.steps) == [
        ("dataset", "finished", "dataset-42"), ("train", "failed", None), ("score", "waiting", None)
    ]  # fmt: skip
    assert [row["uses"] for row in story.steps] == list(STEPS.values())
    assert _rows(story_of(journal.add("verified").events).steps) == _rows(story.complete)


def test_an_artifact_that_is_taken_over_counts() -> None:
    """Back to the first arguments: the journal says `reused` and the story has the first artifacts."""
    journal = Journal().complete("42").complete("43").begin()
    for step in STEPS:
        journal.publish(step, f"{step}-42", "step_reused")
    story = story_of(journal.add("verified").events)
    assert _rows(story.steps) == [(step, "reused", f"{step}-42") for step in STEPS]


def test_a_journal_of_an_earlier_version_has_no_list_of_steps() -> None:
    """Then the order is that of the first events, and steps that were never reached are not known."""
    journal = Journal().add("run_started", session="s").start("dataset").publish("dataset", "d").start("train")
    assert _rows(story_of(journal.events).steps) == [("dataset", "finished", "d"), ("train", "started", None)]
