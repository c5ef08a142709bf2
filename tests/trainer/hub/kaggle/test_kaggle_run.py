"""End to end: a run-spec that names a model on Kaggle, mounted in a stand-in for a session, and its evidence."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from engine.trainer.models import config_from_hf, create
from tests.fixtures.flax_variation import sentencepiece_model, write_variation

REPOSITORY = Path(__file__).parents[4]
HANDLE = "acme/tiny-gemma/transformers/micro/3"
SPEC = """\
# yaml-language-server: $schema=../schemas/runspec.schema.json
version: 1
run_version: mounted_v1
device: cpu
model: {kaggle: acme/tiny-gemma/Transformers/micro/3}
dataset: {path: rows.jsonl, format: prompt_completion}
eval_set: evalsets/four.jsonl
steps:
  - {id: dataset, uses: build_dataset}
  - {id: train, uses: train_sft, with: {num_train_steps: 2, per_device_batch_size: 2, seq_len: 64, warmup_steps: 1}}
  - {id: predict, uses: generate, with: {max_new_tokens: 4, batch_size: 4}}
  - {id: score, uses: score}
  - {id: summary, uses: result_summary}
evidence: {dir: submission_runs/mounted_v1}
package: {name: mounted}
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of one spec."""
    root = tmp_path / "project"
    for folder in (".runspec", "runspecs", "evalsets"):
        (root / folder).mkdir(parents=True)
    (root / "runspecs" / "mounted.yaml").write_text(SPEC)
    items = (REPOSITORY / "evalsets" / "quickstart.jsonl").read_text().splitlines()[:4]
    (root / "evalsets" / "four.jsonl").write_text("".join(f"{item}\n" for item in items))
    rows = [{"prompt": f"What is {n} + 1?", "completion": str(n + 1)} for n in range(1000, 1012)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture
def mount(tmp_path: Path, safetensors_files: Mapping[str, bytes]) -> Path:
    """The model in a stand-in for a session, in the layout of before."""
    folder = tmp_path / "kaggle" / "input" / "tiny-gemma" / "Transformers" / "micro" / "3"
    folder.mkdir(parents=True)
    for name, data in safetensors_files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def run(project: Path, tmp_path: Path) -> Run:
    """``run("plan", …)``: the command line in a process of its own, without a network."""
    left_out = ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in left_out} | {
        "RUNSPEC_KAGGLE_ROOT": str(tmp_path / "kaggle"), "KAGGLEHUB_CACHE": str(tmp_path / "cache"), "JAX_PLATFORMS": "cpu",
        "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY), "RUNSPEC_KAGGLE_API": "http://127.0.0.1:9/api/v1",
    }  # fmt: skip

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "engine", *words], cwd=project, env=environment,
                              capture_output=True, text=True, timeout=150, check=False)  # fmt: skip

    return call


@pytest.mark.slow
def test_a_run_from_a_mount_names_the_version_and_every_file(run: Run, project: Path, mount: Path) -> None:
    """Trained, packaged and verified without a token: the parts of the name and the digests stand wherever the model is named."""
    done = run("run", "runspecs/mounted.yaml")
    assert done.returncode == 0, done.stderr
    assert f"{HANDLE} is mounted in this session: " in done.stderr
    evidence = project / "submission_runs" / "mounted_v1"
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in mount.iterdir()}
    parts = {"owner": "acme", "model": "tiny-gemma", "framework": "transformers", "variation": "micro", "version": 3}
    manifest, record = (json.loads((evidence / name).read_text()) for name in ("run_manifest.json", "run_record.json"))
    assert manifest["model_kaggle"] == {**parts, "place": "mount", "files": files}
    assert manifest["model_id"] == HANDLE
    assert manifest["not_applicable"]["model_revision"].startswith("the weights come from Kaggle")
    assert {step["id"]: step["facts"] for step in record["steps"]}["train"]["model_kaggle"] == manifest["model_kaggle"]
    statement = json.loads((evidence / "provenance.intoto.json").read_text())
    (model,) = [
        row for row in statement["predicate"]["buildDefinition"]["resolvedDependencies"] if row["name"] == HANDLE
    ]
    assert model["uri"] == f"https://www.kaggle.com/models/{HANDLE}"
    assert model["annotations"] == parts
    assert f"| base | {HANDLE}, from the weights of {HANDLE} on Kaggle |" in (evidence / "model_card.md").read_text()
    assert (
        "(on Kaggle acme/tiny-gemma/transformers/micro, version 3): "
        in (evidence / "kaggle_output_log.txt").read_text()
    )
    verified = run("verify", str(evidence))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert f"model: {HANDLE}, {HANDLE} on Kaggle" in run("status", "mounted_v1").stdout
    again = run("verify", str(evidence), "--rerun-steps", "1")
    assert again.returncode == 0, again.stdout + again.stderr
    weights = mount / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    again = run("verify", str(evidence), "--rerun-steps", "1")
    assert (again.returncode, "error[U160]: the base that mounted_v1 was trained from" in again.stderr) == (2, True)
    # Another version, said in both files: the run-spec still names this one.
    for name in ("run_record.json", "train_report.json"):
        path = evidence / name
        path.write_text(path.read_text().replace('"version": 3', '"version": 4'))
    forged = json.loads(run("verify", str(evidence), "--json").stdout)
    facts = next(check for check in forged["checks"] if check["id"] == "V27")
    assert facts["status"] == "fail"
    assert "model_kaggle.version: 3 -> 4" in facts["detail"]


@pytest.mark.slow
def test_a_run_from_a_flax_variation(run: Run, project: Path, tmp_path: Path) -> None:
    """An orbax folder beside a SentencePiece model, as Kaggle mounts it: trained, packaged, verified; the rows that were cut are recorded."""
    spec = project / "runspecs" / "mounted.yaml"
    spec.write_text(spec.read_text().replace("acme/tiny-gemma/Transformers/micro/3", "acme/tiny-gemma/flax/micro/2"))
    config = config_from_hf({
        "model_type": "gemma", "vocab_size": 340, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    })  # fmt: skip
    mount = tmp_path / "kaggle" / "input" / "models/acme/tiny-gemma/flax/micro/2"
    write_variation(mount, create(config, seed=1, param_dtype="float32"))
    (mount / "tokenizer.model").write_bytes(sentencepiece_model())
    assert run("validate", "runspecs/mounted.yaml").returncode == 0
    done = run("run", "runspecs/mounted.yaml")
    assert done.returncode == 0, done.stderr
    assert "not read: 128 rows at the end of the embedding, which no token has" in done.stderr
    evidence = project / "submission_runs" / "mounted_v1"
    report = json.loads((evidence / "train_report.json").read_text())
    assert report["embedding_rows_cut"] == 128
    names = {path.relative_to(mount).as_posix() for path in mount.rglob("*") if path.is_file()}
    assert set(report["model_kaggle"]["files"]) == names
    verified = run("verify", str(evidence))
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_plan_and_validate_know_the_mount(run: Run, mount: Path) -> None:
    """The shapes are those of its config.json; a folder that lacks its weights is said before a run."""
    plan = json.loads(run("plan", "runspecs/mounted.yaml", "--json").stdout)
    assert plan["memory"]["params"] == 6512
    (mount / "model.safetensors").unlink()
    refused = run("validate", "runspecs/mounted.yaml")
    assert refused.returncode == 2
    assert "model.kaggle is not a complete model: there is no weights" in refused.stdout + refused.stderr


@pytest.mark.slow
def test_a_session_without_the_mount_says_how_to_attach_it(run: Run) -> None:
    """M410, exit 2, before anything is asked of a network."""
    done = run("run", "runspecs/mounted.yaml", "--to", "train")
    assert done.returncode == 2
    assert f"error[M410]: {HANDLE} is not mounted in this session" in done.stderr
