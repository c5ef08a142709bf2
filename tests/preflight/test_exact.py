"""The exact price: the compiler runs in a child, its answers are cached, and an estimate is called an estimate."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.commands.plan import price_text
from engine.errors import InputInvalid, Where
from engine.extras import compilers_command
from engine.preflight import TARGETS, exact, price, shardings
from engine.preflight.shardings import shardings_text
from engine.protocol.jobs import PriceJob, train_args
from engine.runspec.model import DatasetSpec, EvidenceSpec, ModelSpec, PackageSpec, Spec, StepSpec
from engine.trainer.cost.machines import PLUGIN_FILES
from engine.trainer_process.host import Host

GIB = 1 << 30
TINY = {
    "model_type": "gemma", "vocab_size": 260, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
}  # fmt: skip
ARGS = {
    "num_train_steps": 12, "per_device_batch_size": 2, "grad_accum_steps": 1, "seq_len": 16, "optimizer": "adafactor",
    "learning_rate": 4e-3, "lr_schedule": "constant", "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": None,
    "adam_b1": 0.9, "adam_b2": 0.999, "adam_eps": 1e-8, "dtype": "float32", "packing": True, "on_long_row": "fail",
    "eval_rows": 0, "eval_every_steps": 0, "save_every_steps": 3, "keep_checkpoints": 2, "log_every_steps": 1,
    "seed": 42,
}  # fmt: skip
HANDLERS = {"train_sft": SimpleNamespace(makes="checkpoint")}
REPORT = {
    "machine": "v5e-8", "source": "tpu-compiler", "devices": 8, "needed_bytes": 4 * GIB, "peak_bytes": 4 * GIB,
    "argument_bytes": GIB, "state_bytes": GIB, "output_bytes": GIB, "alias_bytes": GIB, "temp_bytes": 3 * GIB,
    "code_bytes": 0, "fits": True, "how": {"remat": "dots"},
}  # fmt: skip


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    """A spec whose model is a micro Gemma, in a project without compilers."""
    monkeypatch.delenv(exact.VARIABLE, raising=False)
    train = StepSpec("train", "train_sft", ARGS, ARGS, None, Where("s.yaml", 1, 1))
    return Spec(
        version=1, run_version="v", notes="", device="auto", model=ModelSpec("tiny", init="random", config=TINY),
        dataset=DatasetSpec(name="d"), eval_set="e.jsonl", steps=(train,),
        evidence=EvidenceSpec("submission_runs/v"), package=PackageSpec("v"), path=tmp_path / "s.yaml",
        root=tmp_path, data=b"", digest="",
    )  # fmt: skip


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> list[PriceJob]:
    """A compiler that answers REPORT at once; the jobs that it got."""
    asked: list[PriceJob] = []

    def answer(job: PriceJob, host: Host) -> dict[str, Any]:
        asked.append(job)
        return REPORT

    monkeypatch.setattr(exact, "run_trainer", answer)
    return asked


def test_the_compiler_of_this_machine_runs_for_real(tmp_path):
    """A child compiles for the CPU; its report is cached, and names the buffers that live at the peak."""
    (tmp_path / "dump").mkdir()
    # Long enough that the gaps between buffers, some 20 kB whatever the size, are small beside it.
    job = replace(exact.job_for("cpu", TINY, ARGS | {"seq_len": 64}, None), dump=str(tmp_path / "dump"))
    assert exact.cached_answer(tmp_path, job) is None
    report = exact.ask(tmp_path, job)
    assert exact.cached_answer(tmp_path, job) == report
    assert report["source"] == "cpu-compiler"
    # The sum is the allocator's peak, but for the gaps between buffers (they are padded to 64 bytes).
    assert report["live_bytes"] == pytest.approx(report["peak_bytes"], rel=0.1)
    embedding = next(buffer for buffer in report["live"] if buffer["op"].startswith("state['params']['embed']"))
    assert (embedding["size"], embedding["shape"], embedding["kind"]) == (260 * 16 * 4, "f32[260,16]", "argument")


def test_the_compiler_runs_once_and_its_answer_is_cached(spec, compiler):
    """Without exact: the estimate. With it: the compiler, after a note. From then on: the cached answer."""
    said: list[str] = []
    assert price(spec, HANDLERS, "kaggle-v5e-8")["memory"]["source"] == "analytic"
    assert compiler == []
    first = price(spec, HANDLERS, "kaggle-v5e-8", exact=said.append)["memory"]
    again = price(spec, HANDLERS, "kaggle-v5e-8", exact=said.append)["memory"]
    plain = price(spec, HANDLERS, "kaggle-v5e-8")["memory"]
    assert first == again == plain
    assert len(compiler) == 1
    assert said == ["compiling the train step for kaggle-v5e-8: up to a minute or two; the answer is cached"]
    assert (first["source"], first["fits"], first["peak_bytes_per_device"]) == ("tpu-compiler", True, 4 * GIB)
    assert first["limit_bytes_per_device"] == TARGETS["kaggle-v5e-8"].machine.device_bytes
    assert first["remat"] == "dots"
    assert first["terms"]["temp_bytes"] == 3 * GIB
    assert price(spec, HANDLERS, "kaggle-t4")["memory"]["source"] == "analytic"  # another machine, another answer


def test_the_more_expensive_of_two_training_steps_counts(spec, monkeypatch):
    """Two training steps are compiled separately; the memory is that of the larger one."""
    small = {**ARGS, "seq_len": 8}
    steps = (spec.steps[0], dataclasses.replace(spec.steps[0], id="more", args=small, declared=small))

    def answer(job: PriceJob, host: Host) -> dict[str, Any]:
        return REPORT | dict.fromkeys(("needed_bytes", "peak_bytes"), job.args.seq_len * GIB // 4)

    monkeypatch.setattr(exact, "run_trainer", answer)
    cost = price(dataclasses.replace(spec, steps=steps), HANDLERS, "kaggle-v5e-8", exact=lambda _: None)
    assert cost["memory"]["peak_bytes_per_device"] == 4 * GIB


def test_what_does_not_compile_does_not_fit(spec, monkeypatch):
    """The TPU's compiler refuses the program: the bytes it would need are the peak, and there are no terms."""
    refusal = {**REPORT, "peak_bytes": None, "needed_bytes": 28 * GIB, "fits": False}
    monkeypatch.setattr(exact, "run_trainer", lambda *_: refusal)
    memory = price(spec, HANDLERS, "kaggle-v5e-8", exact=lambda _: None)["memory"]
    assert (memory["fits"], memory["peak_bytes_per_device"], memory["terms"]) == (False, 28 * GIB, None)


def test_what_a_person_reads(spec, compiler):
    """An estimate is called an estimate and says how to get the exact figure; a compiler's answer names the compiler."""
    estimate = price_text(price(spec, HANDLERS, "kaggle-v5e-8")).splitlines()[0]
    answer = price_text(price(spec, HANDLERS, "kaggle-v5e-8", exact=lambda _: None)).splitlines()[0]
    assert estimate.startswith("memory  fits: about ")
    assert estimate.endswith(
        "on kaggle-v5e-8, 8 devices, remat: none (an estimate; runspec plan --exact asks the compiler)"
    )
    assert answer == (
        "memory  fits: 4.00 GiB of 15.75 GiB per device on kaggle-v5e-8, 8 devices, remat: dots (says the tpu-compiler)"
    )
    gpu = price_text(price(spec, HANDLERS, "l4")).splitlines()[0]
    assert "of 19.83 GiB (90% of 22.03 GiB) per device on l4, 1 device, remat: none" in gpu


def test_a_refusal_below_the_limit_says_the_rule(spec, monkeypatch):
    """ "148.0 MiB of 149.3 MiB" and "does NOT fit" contradict each other for who does not know that gaps take a part."""
    memory = price(spec, HANDLERS, "kaggle-v5e-8")["memory"]
    close = {**price(spec, HANDLERS, "kaggle-v5e-8"), "memory": {**memory, "fits": False,
             "peak_bytes_per_device": 99, "limit_bytes_per_device": 100}}  # fmt: skip
    rule = "of which a program can use 96% (the rest is lost in gaps between arrays), per device"
    assert rule in price_text(close)
    far = {**close, "memory": {**close["memory"], "peak_bytes_per_device": 101}}
    assert "gaps between arrays" not in price_text(far)


def test_without_the_compiler_exact_is_an_error_that_says_what_to_type(spec):
    """--exact without the compiler is T151: an estimate would be a silent replacement."""
    with pytest.raises(InputInvalid) as caught:
        price(spec, HANDLERS, "kaggle-t4", exact=lambda _: None)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "T151"
    assert diagnostic.message == "the gpu compiler is missing: no folder of compilers is named"
    assert (
        diagnostic.hint
        == f"{compilers_command(spec.root)} (1.3 GB), or name a folder that has them in RUNSPEC_COMPILERS"
    )


def test_a_half_installed_compiler_is_refused_with_what_it_lacks(spec, monkeypatch, tmp_path):
    """The message names the file that the folder of RUNSPEC_COMPILERS lacks."""
    monkeypatch.setenv(exact.VARIABLE, str(tmp_path))
    with pytest.raises(InputInvalid) as caught:
        price(spec, HANDLERS, "kaggle-v5e-8", exact=lambda _: None)
    assert caught.value.diagnostics[0].message == (
        f"the tpu compiler is missing: {tmp_path} lacks {PLUGIN_FILES['tpu'][0]}"
    )


def test_where_the_compilers_are_looked_for(monkeypatch, tmp_path):
    """The environment's folder, else the project's own, else nowhere."""
    monkeypatch.delenv(exact.VARIABLE, raising=False)
    assert exact.compilers_folder(tmp_path) is None
    (tmp_path / ".compilers").mkdir()
    assert exact.compilers_folder(tmp_path) == tmp_path / ".compilers"
    monkeypatch.setenv(exact.VARIABLE, "/elsewhere")
    assert exact.compilers_folder(tmp_path) == Path("/elsewhere")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"args": train_args({**ARGS, "seq_len": 32})}, False),
        ({"args": train_args({**ARGS, "optimizer": "adamw"})}, False),
        ({"config": {**TINY, "hidden_size": 32}}, False),
        ({"machine": "t4x2"}, False),
        ({"limit_bytes": 4_000_000_000}, False),
        ({"targets_per_row": 3}, False),
        ({"compilers": "b"}, False),
        ({"args": train_args({**ARGS, "num_train_steps": 999, "learning_rate": 1.0, "seed": 7})}, True),
    ],
)
def test_the_cache_key_is_what_can_change_the_answer(tmp_path, monkeypatch, change, same):
    """Another length, optimizer, model, machine or compiler is another key; another seed is not."""
    monkeypatch.chdir(tmp_path)
    for folder, version in (("a", "1.0"), ("b", "2.0"), ("c", "1.0")):
        (tmp_path / folder / f"libtpu-{version}.dist-info").mkdir(parents=True)
    job = exact.job_for("t4", TINY, ARGS, Path("a"))
    assert (exact._key(job) == exact._key(replace(job, **change))) is same
    assert exact._key(job) == exact._key(replace(job, compilers="c"))  # the same compiler elsewhere


def test_an_answer_of_other_code_is_not_used(tmp_path, monkeypatch):
    """The trainer's source is part of the key: the digests of all its Python files."""
    job = exact.job_for("cpu", TINY, ARGS, None)
    before = exact._key(job)
    monkeypatch.setattr(exact, "digest_tree", lambda _: {"train_step.py": "changed", "notes.txt": "not code"})
    assert exact._key(job) != before


def test_a_training_step_of_another_package_is_estimated_and_not_compiled(spec):
    """With arguments that the trainer does not know the estimate works, and --exact is refused with the field's name."""
    strange = _with(spec, {"warmth": 3})
    assert price(strange, HANDLERS, "kaggle-v5e-8")["memory"]["source"] == "analytic"
    with pytest.raises(InputInvalid, match='unknown field "warmth"'):
        price(strange, HANDLERS, "kaggle-v5e-8", exact=lambda _: None)


def test_an_answer_is_kept_only_where_that_is_possible_and_believed_only_as_it_was_written(tmp_path, monkeypatch):
    """The price is the compiler's whether or not it can be kept; one changed digit makes it none."""
    job = exact.job_for("cpu", TINY, ARGS, None)
    monkeypatch.setattr(exact, "run_trainer", lambda *_: REPORT)
    path = exact._cache_path(tmp_path, job)
    path.mkdir(parents=True)  # in the way of the file
    assert exact.ask(tmp_path, job) == REPORT
    assert exact.cached_answer(tmp_path, job) is None
    path.rmdir()
    assert exact.ask(tmp_path, job) == REPORT
    assert exact.cached_answer(tmp_path, job) == REPORT
    text = path.read_text()
    path.write_text(text.replace(str(REPORT["needed_bytes"]), "1" + str(REPORT["needed_bytes"])[1:]))
    assert path.read_text() != text
    assert exact.cached_answer(tmp_path, job) is None


@pytest.mark.parametrize("text", ["", "[1]", '{"needed_bytes"', "{}", '{"needed_bytes": 1}'])
def test_a_damaged_answer_is_compiled_again(tmp_path, text):
    """A cache file that cannot be read counts as absent."""
    job = exact.job_for("cpu", TINY, ARGS, None)
    path = exact._cache_path(tmp_path, job)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert exact.cached_answer(tmp_path, job) is None


MESH = {"mesh": {"fsdp": 4, "tp": 2}, "global_batch_size": 10}


def _with(spec: Spec, changes: dict[str, Any]) -> Spec:
    args = {**ARGS, **changes}
    return dataclasses.replace(spec, steps=(dataclasses.replace(spec.steps[0], args=args, declared=args),))


def test_the_table_shows_how_every_weight_is_sharded(spec):
    """The golden table of a micro Gemma with two heads and one kv head, ten sequences over fsdp 4."""
    assert (
        shardings_text("train", shardings(_with(spec, MESH), HANDLERS, "kaggle-v5e-8")["train"])
        == """\
train: mesh {fsdp: 4, tp: 2}; a train step takes 10 sequences, in 2 x 8 rows, 6 of them empty
  weight            cut         MiB per device  optimizer
  embed             V/4 D                 0.00       0.00
  layers.attn_norm  L D/4                 0.00       0.00
  layers.q          L D/4 NH/2            0.00       0.00
  layers.k          L D/4 KH              0.00       0.00  1 kv head: replicated within a tp group
  layers.v          L D/4 KH              0.00       0.00  1 kv head: replicated within a tp group
  layers.o          L NH/2 D/4            0.00       0.00
  layers.mlp_norm   L D/4                 0.00       0.00
  layers.gate       L D/4 F/2             0.00       0.00
  layers.up         L D/4 F/2             0.00       0.00
  layers.down       L F/2 D/4             0.00       0.00
  norm              D/4                   0.00       0.00
  together                                0.01       0.01"""
    )


def test_a_mesh_of_another_size_is_an_error_of_the_plan(spec):
    """A mesh of four by two on two devices is T164, before anything runs."""
    with pytest.raises(InputInvalid, match=r"the mesh {fsdp: 4, tp: 2} needs 8 devices, and there are 2") as error:
        shardings(_with(spec, MESH), HANDLERS, "kaggle-t4x2")
    assert error.value.code == "T164"
