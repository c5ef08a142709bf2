"""End to end: a run-spec that names a model (and a dataset) on the hub, a real run, and its evidence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]
SPEC = """\
# yaml-language-server: $schema=../schemas/runspec.schema.json
version: 1
run_version: hub_v1
device: cpu
model: {id: acme/tiny-gemma, revision: flax}
dataset: {hub: acme/rows, revision: main, format: prompt_completion}
eval_set: evalsets/four.jsonl
steps:
  - {id: dataset, uses: build_dataset}
  - {id: train, uses: train_sft, with: {num_train_steps: 2, per_device_batch_size: 2, seq_len: 64, warmup_steps: 1}}
  - {id: predict, uses: generate, with: {max_new_tokens: 4, batch_size: 4}}
  - {id: score, uses: score}
  - {id: summary, uses: result_summary}
evidence: {dir: submission_runs/hub_v1}
package: {name: hub}
"""


@pytest.fixture
def project(tmp_path: Path, hub: Any, name: str, token: str) -> Path:
    """A project of one spec; on the hub a gated model that the token may read, and a dataset."""
    root = tmp_path / "project"
    for folder in (".runspec", "runspecs", "evalsets"):
        (root / folder).mkdir(parents=True)
    (root / "runspecs" / "hub.yaml").write_text(SPEC)
    items = [json.loads(line) for line in (REPOSITORY / "evalsets" / "quickstart.jsonl").read_text().splitlines()[:4]]
    (root / "evalsets" / "four.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    rows = [{"prompt": f"What is {n} + 1?", "completion": str(n + 1)} for n in range(1000, 1012)]
    hub.add("acme/rows", {"main": {"data/train.jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode()}})
    hub.repos[name].access, hub.repos[name].members = "gated", frozenset({token})
    return root


@pytest.fixture
def run(project: Path, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run("plan", …)``: the command line in a process of its own."""

    def call(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "engine", *words], cwd=project, env={**environment, **changes},
            capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip

    return call


def _texts(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in root.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(root)), path.read_bytes()


def test_a_run_from_the_hub_names_the_commits(
    hub: Any, run: Callable[..., Any], project: Path, name: str, token: str, environment: Mapping[str, str]
) -> None:
    """Fetched, trained, proved: the evidence has the declared branch and the fetched commit."""
    done = run("run", "runspecs/hub.yaml")
    assert done.returncode == 0, done.stderr
    commit = hub.repos[name].commit("flax")
    evidence = project / "submission_runs" / "hub_v1"
    manifest, record = (json.loads((evidence / file).read_text()) for file in ("run_manifest.json", "run_record.json"))
    for document in (manifest, record):
        assert (document["model_revision_declared"], document["model_revision"]) == ("flax", commit)
    facts = {step["id"]: step["facts"] for step in record["steps"]}
    assert facts["train"]["model_commit"] == commit
    assert facts["dataset"]["dataset_commit"] == hub.repos["acme/rows"].commit("main")
    log = (evidence / "kaggle_output_log.txt").read_text()
    assert f"acme/tiny-gemma (revision flax, commit {commit}): " in log
    assert f"acme/tiny-gemma at flax is commit {commit[:12]}: 6 files, " in done.stderr
    assert "fetched " in done.stderr
    assert [path for path, data in _texts(project) if token.encode() in data] == []
    assert token not in done.stdout + done.stderr


@pytest.mark.slow
def test_another_project_runs_without_network(hub: Any, run: Callable[..., Any], project: Path, name: str) -> None:
    """The next project uses offline what one has fetched: the cache is the machine's, not the project's."""
    assert run("run", "runspecs/hub.yaml", "--to", "train").returncode == 0
    shutil.rmtree(project / ".runspec")
    (project / ".runspec").mkdir()
    done = run("run", "runspecs/hub.yaml", "--to", "train", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    commit = hub.repos[name].commit("flax")
    assert f"using the earlier download of acme/tiny-gemma at flax, commit {commit[:12]}" in done.stderr


@pytest.mark.parametrize("refused", ["acme/rows", pytest.param("acme/tiny-gemma", marks=pytest.mark.slow)])
def test_a_run_that_is_refused_says_why_and_keeps_the_token(
    hub: Any, run: Callable[..., Any], project: Path, token: str, refused: str
) -> None:
    """Gated, and the account has no access: exit 8, M401, and the token is in no file and on no stream."""
    hub.repos[refused].access, hub.repos[refused].members = "gated", frozenset()
    hub.statuses = [(500, {})]
    done = run("run", "runspecs/hub.yaml", "--to", "train")
    assert done.returncode == 8, done.stderr
    assert f"error[M401]: the hub refuses {refused} at revision " in done.stderr
    page = f"datasets/{refused}" if refused == "acme/rows" else refused
    assert f"accept the licence at {hub.url}/{page}, signed in to the account" in done.stderr
    assert "the hub answers HTTP 500; trying again in 1.0s" in done.stderr
    assert [path for path, data in _texts(project) if token.encode() in data] == []
    assert token not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("job", "code", "says"),
    [
        (
            {"hub": "acme/rows", "revision": "mian", "any_of": ["train.jsonl"]},
            "M402",
            'did you mean "main"?\nit has: main',
        ),
        ({"hub": "acme/rowz", "revision": None, "any_of": ["train.jsonl"]}, "M402", "check dataset.hub"),
        (
            {"hub": "acme/rows", "revision": None, "any_of": ["a.jsonl", "b.jsonl"]},
            "M409",
            "files of this kind: data/train.jsonl",
        ),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_datasets_file_fails_as_clearly(
    start_child: Callable[..., Any], environment: Mapping[str, str], token: str, tmp_path: Path,
    job: Mapping[str, Any], code: str, says: str,
) -> None:  # fmt: skip
    """The same errors as for a model; the child's streams and its job have no token."""
    with start_child(job, environment) as child:
        out, err = child.stdout.read(), child.stderr.read()
    event = json.loads(out.splitlines()[-1])
    assert event["diagnostics"][0]["code"] == code
    assert says in event["diagnostics"][0]["hint"]
    assert child.returncode == 2
    assert err == ""
    assert token not in out + (tmp_path / "job.json").read_text()
