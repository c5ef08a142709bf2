"""The corruption matrix: a named check fails for every change, and no input crashes verify."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.canonical import digest_text
from engine.data import render_prompt
from engine.errors import InputInvalid
from engine.evidence import Verification, verify
from tests.examples import examples


def failed(verification: Verification) -> set[str]:
    return {check.id for check in verification.checks if check.status == "fail"} - {"V24"}


def test_good_evidence_passes_as_folder_and_as_zip(folder: Path, archive: Path) -> None:
    """The same checks, the same answers, trust level L0."""
    one, two = verify(folder), verify(archive)
    assert one.ok
    assert two.ok
    assert [(check.id, check.status) for check in one.checks] == [(check.id, check.status) for check in two.checks]
    assert one.trust_level == "L0"
    not_used = {5, 12, 14, 15, 16, 24}  # taken over by V25 to V27, or never made
    ids = [f"V{n:02d}" for n in range(1, 29) if n not in not_used]
    assert [check.id for check in one.checks] == [*ids, "V24"]


def test_any_changed_byte_of_any_file_is_found(folder: Path) -> None:
    """One byte of each file in turn."""
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        for position in (0, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
            assert failed(verify(folder)), f"{path.name}, byte {position}"
        path.write_bytes(data)
    assert verify(folder).ok


def test_any_deleted_and_any_added_file_is_found(folder: Path) -> None:
    """V02 among others."""
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        path.unlink()
        assert failed(verify(folder)), path.name
        path.write_bytes(data)
    (folder / "extra.txt").write_text("x")
    assert "V02" in failed(verify(folder))


def _set(path: str, value: Any) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        *parents, last = path.split(".")
        for part in parents:
            document = document[int(part) if part.isdigit() else part]
        document[last] = value

    return change


# file, change, a check that must fail although the forger wrote manifest-sha256.txt again
FORGERIES: dict[str, tuple[str, Callable[[Any], None], str]] = {
    "score": ("eval_summary.json", _set("primary_score", 1.0), "V25"),
    "metric": ("eval_summary.json", _set("metrics.answer_correctness", 1.0), "V25"),
    "section": ("eval_summary.json", _set("scorecard.section_scores", {"core": 1.0}), "V25"),
    "counts": ("eval_summary.json", _set("scorecard.n_skipped", 1), "V25"),
    "loss": ("eval_summary.json", _set("metrics.final_loss", 0.1), "V25"),
    "null": ("eval_summary.json", _set("primary_score", None), "V04"),
    "null_manifest": ("run_manifest.json", _set("command", None), "V03"),
    "no_reason": ("run_manifest.json", _set("not_applicable", {}), "V04"),
    "value_and_reason": ("run_manifest.json", _set("trial_id", "t1"), "V04"),
    "placeholder": ("run_manifest.json", _set("notes", "<PENDING>"), "V04"),
    "todo": ("run_manifest.json", _set("notes", "TO" + "DO later"), "V04"),
    "run": ("run_manifest.json", _set("run_version", "other_v1"), "V25"),
    "model": ("run_manifest.json", _set("model_id", "big/model"), "V25"),
    "spec": ("run_manifest.json", _set("spec_sha256", "0" * 64), "V25"),
    "overrides": ("run_manifest.json", _set("overrides", {"train.seed": 1}), "V25"),
    "declared": ("run_record.json", _set("steps.1.declared", {"log_every_steps": 3}), "V06"),
    "commit": ("run_manifest.json", _set("commit_sha", "main"), "V07"),
    "clean_and_changed": ("run_manifest.json", _set("diff_sha256", "0" * 64), "V07"),
    "evaluated": ("eval_summary.json", _set("evaluated_at", "2026-01-02T09:09:09Z"), "V25"),
    "started": ("run_record.json", _set("started_at", "2027-01-02T09:09:09Z"), "V08"),
    "model_bytes": ("run_record.json", _set("steps.2.facts.model_sha256", "b" * 64), "V27"),
    "fingerprint": ("run_record.json", _set("steps.1.fingerprint", "c" * 64), "V26"),
    "file_elsewhere": ("run_record.json", lambda record: record["steps"][2]["files"].update({"../x": "0" * 64}), "V26"),
    "ingredients": ("run_record.json", _set("steps.1.ingredients.with", {"seed": 7}), "V06"),
    "overlap": ("run_record.json", _set("steps.0.facts.n_overlap", 3), "V20"),
    "wrong_type": ("eval_summary.json", _set("scorecard", []), "V03"),
    "unknown_key": ("run_manifest.json", _set("extra", 1), "V03"),
    "step_gone": ("run_record.json", _set("steps", []), "V26"),
    "kaggle": ("run_manifest.json", _set("kaggle_notebook_url", "https://example.org/x"), "V19"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_value_is_found_even_with_a_new_manifest(folder: Path, reseal: Any, edit: Any, name: str) -> None:
    """The named check fails, not just any."""
    file, change, check = FORGERIES[name]
    edit(folder / file, change)
    reseal(folder)
    assert check in failed(verify(folder)), [
        (row.id, row.detail) for row in verify(folder).checks if row.status == "fail"
    ]


LINES: dict[str, tuple[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]], str]] = {
    "answer_changed": ("predictions.jsonl", lambda rows: [{**rows[-1], **row} if False else {**row, "text": "Answer: 5"} if row["id"] == "q4" else row for row in rows], "V11"),
    "marked_correct": ("predictions.jsonl", lambda rows: [{**row, "correct": 1.0} for row in rows], "V11"),
    "row_dropped": ("predictions.jsonl", lambda rows: rows[1:], "V09"),
    "row_twice": ("predictions.jsonl", lambda rows: [*rows, rows[0]], "V09"),
    "rows_swapped": ("predictions.jsonl", lambda rows: rows[::-1], "V09"),
    "another_prompt": ("predictions.jsonl", lambda rows: [{**row, "prompt_sha256": "0" * 64} for row in rows], "V10"),
    "easier_items": ("eval_set.jsonl", lambda rows: [{**row, "expected_answer": "no"} for row in rows], "V26"),
    "step_missing": ("metrics.jsonl", lambda rows: rows[:1] + rows[2:], "V13"),
    "step_twice": ("metrics.jsonl", lambda rows: [*rows, rows[-1]], "V13"),
    "loss_changed": ("metrics.jsonl", lambda rows: [*rows[:-1], {**rows[-1], "loss": 0.001}], "V13"),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_a_forged_line_is_found(folder: Path, reseal: Any, name: str) -> None:
    """Predictions, items and metrics."""
    file, change, check = LINES[name]
    rows = [json.loads(line) for line in (folder / file).read_text().split("\n") if line]
    (folder / file).write_text("".join(json.dumps(row) + "\n" for row in change(rows)))
    reseal(folder)
    assert check in failed(verify(folder))


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [("primary_score: 0.8000", "primary_score: 0.9000", "V25"), ("loss 0.2500", "loss 0.2400", "V25"), ("jax 0.10.2", "jax 0.11.0", "V25"),
     ("cpu:0", "tpu:0", "V25"), ("[warnings]", "[Awaiting real run]", "V04")],
)  # fmt: skip
def test_a_forged_log_is_found(folder: Path, reseal: Any, old: str, new: str, check: str) -> None:
    """Against summary, metrics and machine."""
    path = folder / "kaggle_output_log.txt"
    path.write_text(path.read_text().replace(old, new))
    reseal(folder)
    assert check in failed(verify(folder))


def test_a_secret_in_evidence_is_found_without_being_shown(folder: Path, reseal: Any) -> None:
    """V21."""
    secret = "hf_" + "z9" * 17
    (folder / "runspec.yaml").write_text(f"notes: {secret}\n")
    reseal(folder)
    verification = verify(folder)
    assert "V21" in failed(verification)
    assert secret not in str(verification)


def _zip(members: list[tuple[str, bytes]], **attributes: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            info = zipfile.ZipInfo(name)
            for key, value in attributes.items():
                setattr(info, key, value)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return buffer.getvalue()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "up": lambda: _zip([("run/../../etc/passwd", b"x")]),
    "absolute": lambda: _zip([("/etc/passwd", b"x")]),
    "backslash": lambda: _zip([("run\\..\\x", b"x")]),
    "drive": lambda: _zip([("C:/x", b"x")]),
    "deep": lambda: _zip([("run/a/b", b"x")]),
    "flat": lambda: _zip([("run_manifest.json", b"{}")]),
    "two_folders": lambda: _zip([("a/x", b"x"), ("b/y", b"y")]),
    "twice_by_case": lambda: _zip([("run/a.txt", b"x"), ("run/A.txt", b"y")]),
    "link": lambda: _zip([("run/x", b"/etc/passwd")], external_attr=0o120777 << 16),
    "bomb": lambda: _zip([("run/x", b"\0" * (64 << 20))]),
    "many": lambda: _zip([(f"run/{n}", b"") for n in range(300)]),
    "no_zip": lambda: b"this is no zip",
    "empty": lambda: b"",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_zip_is_refused_by_v01(tmp_path: Path, name: str) -> None:
    """Nothing is extracted, and no other check runs."""
    path = tmp_path / "hostile.zip"
    path.write_bytes(HOSTILE[name]())
    verification = verify(path)
    assert not verification.ok
    assert verification.checks[0].status == "fail"


def test_a_truncated_zip_is_refused(archive: Path) -> None:
    """At any of many lengths."""
    data = archive.read_bytes()
    for length in range(0, len(data), max(1, len(data) // 40)):
        archive.write_bytes(data[:length])
        assert not verify(archive).ok


def test_a_link_in_a_folder_is_refused(folder: Path) -> None:
    """V01."""
    (folder / "link").symlink_to("/etc/passwd")
    assert "V01" in failed(verify(folder))


def test_nothing_there_is_an_error_of_its_own(tmp_path: Path) -> None:
    """V00."""
    with pytest.raises(InputInvalid, match="V00"):
        verify(tmp_path / "none.zip")


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_damage_never_crashes_and_never_passes(archive: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Bytes of a good zip overwritten at random; a change that no reader can see may pass."""
    good = archive.read_bytes()
    position = data.draw(st.integers(0, len(good) - 1))
    chunk = data.draw(st.binary(min_size=1, max_size=30))
    path = tmp_path / "damaged.zip"
    path.write_bytes(good[:position] + chunk + good[position + len(chunk) :])
    verification = verify(path)
    if verification.ok:
        with zipfile.ZipFile(path) as one, zipfile.ZipFile(archive) as two:
            assert {name: one.read(name) for name in one.namelist()} == {
                name: two.read(name) for name in two.namelist()
            }


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["run_manifest.json", "eval_summary.json", "run_record.json", "metrics.jsonl", "predictions.jsonl", "scorecard.json"]),
       value=st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6))  # fmt: skip
def test_any_json_in_any_file_never_crashes(folder: Path, reseal: Any, name: str, value: Any) -> None:
    """A stranger's evidence can contain anything."""
    before = (folder / name).read_bytes()
    (folder / name).write_text(json.dumps(value) + "\n")
    reseal(folder)
    assert not verify(folder).ok
    (folder / name).write_bytes(before)
    reseal(folder)


SKIPPED = {"loss": None, "grad_norm": None, "skipped": True, "non_finite": {"loss": "NaN", "grad_norm": "NaN"}}
NO_EVAL = {"eval_loss": None, "non_finite": {"eval_loss": "Infinity"}}


def test_evidence_of_non_finite_numbers_renders_and_passes(make_record: Any, render: Any) -> None:
    """A skipped train step and an eval loss that is not finite are said in the log, and every check still holds."""
    record = make_record(changed_rows={1: SKIPPED, 2: SKIPPED, 3: NO_EVAL, 4: {"eval_loss": 0.5}},
                         n_skipped_steps=2, n_non_finite_evals=1)  # fmt: skip
    folder = render(record)
    log = (folder / "kaggle_output_log.txt").read_text()
    assert "train step 1/4  loss not finite, skipped  learning rate 0.001\n" in log
    assert "train step 3/4  loss 0.3333  learning rate 0.001  eval loss not finite\n" in log
    assert "train step 4/4  loss 0.2500  learning rate 0.001  eval loss 0.5000\n" in log
    assert "2 train steps had a non-finite loss or gradient and changed nothing" in log
    assert "1 eval losses were not finite; none of them counts as best" in log
    assert failed(verify(folder)) == set()


@pytest.mark.parametrize(
    ("policy", "score", "n_items", "verb"),
    [("keep", 5 / 6, 6, "which counts each time"), ("drop", 4 / 5, 5, "which is not asked again")],
)
def test_a_question_that_stands_twice_is_counted(
    make_record: Any, render: Any, policy: str, score: float, n_items: int, verb: str
) -> None:
    """Kept: both items are scored; dropped: the first alone. The log counts it, and every check follows the policy."""
    folder = render(make_record(on_duplicate=policy))
    summary = json.loads((folder / "eval_summary.json").read_text())
    assert (summary["primary_score"], summary["scorecard"]["n_items"]) == (score, n_items)
    assert (
        f"1 items of the eval set repeat an earlier question, {verb}" in (folder / "kaggle_output_log.txt").read_text()
    )
    assert failed(verify(folder)) == set()


def test_a_prediction_that_the_policy_leaves_out_is_found(make_record: Any, render: Any, reseal: Any) -> None:
    """Under drop, an answer to the repeated item is one too many."""
    folder = render(make_record(on_duplicate="drop"))
    path = folder / "predictions.jsonl"
    first = json.loads(path.read_text().split("\n")[0])
    path.write_text(path.read_text() + json.dumps({**first, "id": "again"}) + "\n")
    reseal(folder)
    assert "V09" in failed(verify(folder))


TEMPLATE = "{{ bos_token }}{% for m in messages %}<u>{{ m.content | trim }}</u>{% endfor %}<a>"


def by_template(make_record: Any, render: Any, frame: str = "<u>{}</u><a>", **changes: Any) -> Path:
    """Evidence of a model that rendered each question by its own chat template."""
    template = {"chat_template": TEMPLATE, "chat_template_sha256": digest_text(TEMPLATE), **changes}
    path: Path = render(make_record(frame=frame, template=template))
    return path


def test_prompts_of_a_chat_template_are_checked_by_their_texts(make_record: Any, render: Any) -> None:
    """Each text is its question in the one frame, and has the digest that is recorded; nothing runs the template."""
    folder = by_template(make_record, render)
    check = next(check for check in verify(folder).checks if check.id == "V10")
    assert (check.status, check.detail) == (
        "pass",
        f"rendered by the model's chat template {digest_text(TEMPLATE)[:12]}…",
    )
    assert failed(verify(folder)) == set()
    row = json.loads((folder / "predictions.jsonl").read_text().split("\n")[0])
    assert row["prompt"] == "<u>0 + 1 = ?</u><a>"
    assert row["prompt_sha256"] == digest_text(row["prompt"])


@pytest.mark.parametrize(
    ("edit", "detail"),
    [
        (
            lambda rows: [{**rows[0], "prompt": "<u>0 + 1 = ? Say 1.</u><a>"}, *rows[1:]],
            "q0: its prompt is not the text of",
        ),
        (
            lambda rows: [resigned(rows[0], "<u>0 + 1 = ? Say 1.</u><a>"), *rows[1:]],
            "q0 was generated from another prompt",
        ),
        (
            lambda rows: [*rows[:2], resigned(rows[2], "hint: 3 <u>2 + 1 = ?</u><a>"), *rows[3:]],
            "q2 was generated from",
        ),
        (
            lambda rows: [{key: row[key] for key in row if key != "prompt"} for row in rows],
            "q0: its prompt is not the text",
        ),
    ],
)
def test_another_prompt_than_the_items_is_found(
    make_record: Any, render: Any, reseal: Any, edit: Any, detail: str
) -> None:
    """Another text, one with its digest made to fit, one in another frame, none at all: V10 names the item."""
    folder = by_template(make_record, render)
    path = folder / "predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in edit(rows)))
    reseal(folder)
    check = next(check for check in verify(folder).checks if check.id == "V10")
    assert check.status == "fail"
    assert check.detail.startswith(detail)


@pytest.mark.parametrize(
    ("edit", "detail"),
    [
        (
            lambda rows: [{**rows[0], "prompt": "1 + 1 = ?"}, *rows[1:]],
            "q0: its prompt is not the text of prompt_sha256",
        ),
        (lambda rows: [resigned(rows[0], "1 + 1 = ?"), *rows[1:]], "q0 was generated from another prompt"),
        (
            lambda rows: [{key: row[key] for key in row if key != "prompt"} for row in rows],
            "q0: its prompt is not the text of prompt_sha256",
        ),
    ],
)
def test_what_a_render_asked_is_in_the_row(record: Any, render: Any, reseal: Any, edit: Any, detail: str) -> None:
    """Without a chat template too, each row has the text that was asked: the item's question in the dataset's render."""
    folder = render(record)
    path = folder / "predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    used = json.loads((folder / "run_record.json").read_text())["steps"][1]["facts"]["render"]
    assert [row["prompt"] for row in rows] == [render_prompt(used, f"{n} + 1 = ?") for n in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in edit(rows)))
    reseal(folder)
    check = next(check for check in verify(folder).checks if check.id == "V10")
    assert check.status == "fail"
    assert check.detail.startswith(detail)


def resigned(row: dict[str, Any], prompt: str) -> dict[str, Any]:
    """The row with another prompt and its digest."""
    return {**row, "prompt": prompt, "prompt_sha256": digest_text(prompt)}


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"chat_template": TEMPLATE + " "}, "chat_template is not the text of its digest"),
        (
            {"chat_template": "x", "chat_template_sha256": digest_text("x")},
            "training and generation used different chat templates",
        ),
    ],
)
def test_another_template_is_found(make_record: Any, render: Any, changes: dict[str, str], detail: str) -> None:
    """The template's text is that of its digest, which is the same for training and generation."""
    check = next(check for check in verify(by_template(make_record, render, **changes)).checks if check.id == "V10")
    assert (check.status, check.detail) == ("fail", detail)


def test_a_template_that_rewrites_questions_is_not_judged(make_record: Any, render: Any) -> None:
    """Where no question stands in its text, only the digests are compared, and V10 says so."""
    check = next(
        check for check in verify(by_template(make_record, render, frame="<u></u>")).checks if check.id == "V10"
    )
    assert check.status == "n/a"
