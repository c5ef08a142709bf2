"""Sessions that run the pushed notebook in a real kernel: what it finds, what it leaves, how it ends."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from pathlib import Path

import pytest

from tests.kaggle.platform.notebooks import notebook
from tests.kaggle.platform.plain import Plain
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.session.real import SESSION_VARIABLE, RealKernel, RealSession, processes_with
from tests.kaggle.platform.session.scripted import Script

pytestmark = [
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("nbclient", "ipykernel")),
        reason="nbclient and ipykernel are not installed here",
    ),
    pytest.mark.skipif(
        not Path("/proc/self/environ").exists(), reason="processes are found by /proc, which is not here"
    ),
]

LOOK_AROUND = """
import json, os, sys
from pathlib import Path
root = Path(os.environ["RUNSPEC_KAGGLE_ROOT"])
found = sorted(path.relative_to(root / "input").as_posix() for path in (root / "input").rglob("*") if path.is_file())
print(json.dumps({"input": found, "cwd": os.getcwd() == str(root / "working"), "env": sorted(os.environ)}))
print("to stderr", file=sys.stderr)
"""
ASK = """
import urllib.request
def ask(path, **body):
    headers = {
        "X-Kaggle-Authorization": "Bearer " + os.environ["KAGGLE_USER_SECRETS_TOKEN"],
        "X-KAGGLE-PROXY-DATA": os.environ["KAGGLE_DATA_PROXY_TOKEN"],
    }
    url = os.environ["KAGGLE_URL_BASE"] + path
    return json.load(urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)))
print(len(ask("/requests/GetUserSecretByLabelRequest", Label="HF_TOKEN")["result"]["secret"]))
ref = {"OwnerSlug": "google", "ModelSlug": "gemma", "Framework": "flax", "InstanceSlug": "2b", "VersionNumber": "2"}
mounted = ask("/kaggle-jwt-handler/AttachDatasourceUsingJwtRequest", modelRef=ref)["result"]["mountSlug"]
print((root / "input" / mounted / "tokenizer.model").read_text())
"""
LEAVE = """
Path("evidence").mkdir()
Path("evidence/a.txt").write_text("made here")
Path("link").symlink_to("/etc/hostname")
(Path(os.environ["RUNSPEC_SCRATCH"])).mkdir(parents=True)
(Path(os.environ["RUNSPEC_SCRATCH"]) / "heavy.bin").write_text("stays")
"""


def _real(kaggle: Platform, ref: str = "someone/my-run") -> RealSession:
    session = kaggle.session(ref)
    assert isinstance(session, RealSession)
    return session


def test_a_notebook_runs(kaggle: Platform, api: Plain) -> None:
    """Sources in both layouts, the variables, secrets and attached models; its folder becomes the output, its prints the log."""
    kaggle.add_dataset("someone/my-data", {"a/b.txt": "data"})
    kaggle.add_model("google/gemma/transformers/2b/3", {"config.json": "{}"})
    kaggle.add_model("google/gemma/flax/2b/2", {"tokenizer.model": "pieces"})
    kaggle.script(Script(files={"session/session.json": "{}"}))
    api.push("earlier-run")
    kaggle.world.push_detaches_secrets = False
    kaggle.script(RealKernel(), kernel="someone/my-run")
    api.push(kernelExecutionType="QUICK_SAVE")
    kaggle.add_secret("HF_TOKEN", "made-up-secret", attach_to="someone/my-run")
    api.push(
        text=notebook(LOOK_AROUND, ASK, LEAVE), datasetDataSources=["someone/my-data"],
        modelDataSources=["google/gemma/transformers/2b/3"], kernelDataSources=["someone/earlier-run"],
    )  # fmt: skip
    assert kaggle.wait("someone/my-run") == "COMPLETE", _real(kaggle).runner_said
    answer = api.about("ListKernelSessionOutput").json
    assert {file["fileName"]: api.get(file["url"]).body for file in answer["files"]} == {"evidence/a.txt": b"made here"}
    log = json.loads(answer["log"])
    assert [entry["stream_name"] for entry in log if "to stderr" in entry["data"]] == ["stderr"]
    assert [entry["time"] for entry in log] == sorted(entry["time"] for entry in log)
    lines = "".join(entry["data"] for entry in log if entry["stream_name"] == "stdout").split("\n")
    seen = json.loads(lines[0])
    assert seen["input"] == [
        "datasets/someone/my-data/a/b.txt", "earlier-run/session/session.json", "gemma/Transformers/2b/3/config.json",
        "models/google/gemma/transformers/2b/3/config.json", "my-data/a/b.txt",
        "notebooks/someone/earlier-run/session/session.json",
    ]  # fmt: skip
    assert seen["cwd"]
    assert {"KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_DOCKER_IMAGE", "KAGGLE_GCP_ZONE"} <= set(seen["env"])
    assert not {"PYTHONPATH", "ISTPUVM", "PYTEST_CURRENT_TEST"} & set(seen["env"])
    assert lines[1:3] == ["14", "pieces"]
    assert (_real(kaggle).root / "tmp" / "runspec" / "heavy.bin").exists()


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["1/0", "import os; os.kill(os.getpid(), 9)"])
def test_a_cell_that_fails_is_an_error(kaggle: Platform, api: Plain, cell: str) -> None:
    """An exception, and a kernel that dies; the output until then stays, the cells after it do not run."""
    kaggle.script(RealKernel())
    api.push(text=notebook("open('a.txt', 'w').write('a'); print('before')", cell, "open('b.txt', 'w').write('b')"))
    assert kaggle.wait("someone/my-run") == "ERROR"
    answer = api.about("ListKernelSessionOutput").json
    assert [file["fileName"] for file in answer["files"]] == ["a.txt"]
    data = "".join(entry["data"] for entry in json.loads(answer["log"]))
    assert "before" in data
    assert "ZeroDivisionError" in data or "died" in data


WAITS = notebook(
    "import subprocess, time, sys\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
    "open('a.txt', 'w').write('a'); print('on', flush=True); time.sleep(600)"
)


def _until_it_prints(kaggle: Platform) -> str:
    session = _real(kaggle)
    until = time.monotonic() + 60
    while not session.log() and time.monotonic() < until:
        time.sleep(0.05)
    mark = f"{SESSION_VARIABLE}={session._mark}"
    assert len(processes_with(mark)) >= 3
    return mark


@pytest.mark.slow
@pytest.mark.parametrize("how", ["limit", "cancel", "close"])
def test_the_end_kills_everything(kaggle: Platform, api: Plain, how: str) -> None:
    """At the limit, by a cancellation, with the platform: the kernel and its children are gone, output and log too."""
    kaggle.script(RealKernel())
    api.push(text=WAITS, sessionTimeoutSeconds=3600)
    mark = _until_it_prints(kaggle)
    if how == "limit":
        kaggle.clock.advance(3600)
        assert api.status() == "CANCEL_ACKNOWLEDGED"
    elif how == "cancel":
        api.call("CancelKernelSession", kernelSessionId=_real(kaggle).number)
        assert [api.status(), api.status()] == ["CANCEL_REQUESTED", "CANCEL_ACKNOWLEDGED"]
    else:
        kaggle.world.close()
    assert processes_with(mark) == []
    if how != "close":
        assert api.about("ListKernelSessionOutput").json == {}


@pytest.mark.slow
def test_a_tpu_session_and_the_trap(kaggle: Platform, api: Plain) -> None:
    """The TPU image sets its variables; on another image they are not there, and no answer says so."""
    kaggle.script(RealKernel(env={"EXTRA": "yes"}))
    cell = "import os; print(os.environ.get('ISTPUVM'), os.environ['KAGGLE_DOCKER_IMAGE'].split('@')[0], os.environ['EXTRA'])"
    said = []
    for failure in (None, "tpu_on_cpu_image"):
        if failure:
            kaggle.fail(failure)
        api.push(text=notebook(cell), machineShape="TpuV5E8")
        assert kaggle.wait("someone/my-run") == "COMPLETE"
        said.append(_real(kaggle).log()[0].data.split())
    assert said == [["1", "gcr.io/kaggle-images/python-tpuvm", "yes"], ["None", "gcr.io/kaggle-images/python", "yes"]]


@pytest.mark.slow
def test_nothing_but_loopback(kaggle: Platform, api: Plain) -> None:
    """What a cell asks of the internet is refused at once, by a client that honours proxies and by pip."""
    kaggle.script(RealKernel())
    cell = """
import subprocess, sys, urllib.request
try:
    urllib.request.urlopen("https://www.kaggle.com", timeout=20)
except OSError as error:
    print("refused", type(error).__name__)
print(subprocess.run([sys.executable, "-m", "pip", "download", "-q", "no-such-package-here"], capture_output=True).returncode)
"""
    began = time.monotonic()
    api.push(text=notebook(cell))
    assert kaggle.wait("someone/my-run") == "COMPLETE"
    assert "".join(entry.data for entry in _real(kaggle).log()).split() == ["refused", "URLError", "1"]
    assert time.monotonic() - began < 60
    assert os.environ.get("PIP_NO_INDEX") is None


@pytest.mark.slow
def test_kagglehub_inside_a_session(kaggle: Platform, api: Plain) -> None:
    """It asks for the mount, finds the folder, and waits for ever for one that never comes."""
    pytest.importorskip("kagglehub", reason="kagglehub is not installed here")
    kaggle.add_model("google/gemma/transformers/2b/3", {"config.json": "{}"})
    kaggle.script(RealKernel())
    cell = "import kagglehub, os; print(sorted(os.listdir(kagglehub.model_download('google/gemma/transformers/2b/3'))))"
    api.push(text=notebook(cell))
    assert kaggle.wait("someone/my-run") == "COMPLETE", _real(kaggle).log()
    assert [entry.data for entry in _real(kaggle).log() if entry.stream_name == "stdout"] == ["['config.json']\n"]
    kaggle.fail("never_mounted")
    api.push(text=notebook(cell), sessionTimeoutSeconds=3600)
    until = time.monotonic() + 60
    while [one.operation for one in kaggle.requests].count("AttachDatasource") < 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert kaggle.wait("someone/my-run", seconds=2) == "RUNNING"
    kaggle.clock.advance(3600)
    assert api.status() == "CANCEL_ACKNOWLEDGED"
    asked = [one for one in kaggle.requests if one.operation == "AttachDatasource"]
    assert [one.auth for one in asked] == ["<redacted:X-Kaggle-Authorization>"] * 2
    assert asked[0].body["modelRef"]["VersionNumber"] == "3"
