"""The parity law: the real `kaggle` command, kagglesdk and kagglehub against the platform see a Kaggle.

Slow, and skipped where they are not installed. They run in processes of their own whose every proxy is the platform, which
refuses all other hosts: a request that would leave this machine fails the test.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kaggle.platform.parity import bodies, differences
from tests.kaggle.platform.plain import Plain
from tests.kaggle.platform.platform import Platform
from tests.kaggle.platform.real_client import NOTEBOOK, RealClient
from tests.kaggle.platform.session.scripted import Script

pytestmark = pytest.mark.slow

EXCHANGE: list[dict[str, Any]] = json.loads(Path(__file__).with_name("exchange.json").read_text(encoding="utf-8"))
FILES = {"evidence/run_manifest.json": "{}", "package.zip": b"twelve bytes"}
VERSION = "someone/my-run/3"


def _recorded(operation: str) -> list[dict[str, Any]]:
    return [entry["request"] for entry in EXCHANGE if entry["path"].endswith(f"/{operation}")]


def _asked(kaggle: Platform, operation: str) -> list[Any]:
    return bodies(kaggle.requests, operation)


@pytest.fixture
def pushed(kaggle: Platform, real: RealClient) -> RealClient:
    """The real command has pushed the recording's notebook as version 3."""
    kaggle.add_dataset("someone/engine-wheel", {"engine.whl": b""})
    kaggle.add_model("google/gemma/flax/2b/2", {"tokenizer.model": b""})
    api = Plain(kaggle)
    for slug in ("earlier-run", "my-run", "my-run"):
        api.push(slug)
    kaggle.requests.clear()
    kaggle.script(Script(files=FILES, log=["hello", (2.0, "warn\n", "stderr")], queued_polls=1, running_polls=1))
    metadata = NOTEBOOK["metadata"]
    assert isinstance(metadata, dict)
    notebook = {**NOTEBOOK, "metadata": {**metadata, "kaggle": {"accelerator": "nvidiaTeslaT4"}}}
    folder = real.notebook(
        json.dumps(notebook),
        dataset_sources=["someone/engine-wheel"], kernel_sources=["someone/earlier-run"],
        model_sources=["google/gemma/flax/2b/2"], docker_image_pinning_type="original",
    )  # fmt: skip
    ran = real.run("kernels", "push", "-p", folder, "-t", "3600", "--accelerator", "NvidiaTeslaT4")
    said = (
        "Kernel version 3 successfully pushed.  Please check progress at https://www.kaggle.com/code/someone/my-run\n"
    )
    assert (ran.code, ran.out) == (0, said), ran.err
    return real


def test_push_status_output_logs(kaggle: Platform, pushed: RealClient) -> None:
    """Three words, the files with their bytes, the log in both forms; every request is the recorded one."""
    words = [pushed.run("kernels", "status", VERSION).out.split(".")[-1].strip('"\n') for _ in range(3)]
    assert words == ["QUEUED", "RUNNING", "COMPLETE"]
    ran = pushed.run("kernels", "output", VERSION, "-p", "out")
    assert ran.code == 0, ran.err
    out = pushed.folder / "out"
    found = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    log = found.pop("my-run.log")
    assert found == {"evidence/run_manifest.json": b"{}", "package.zip": b"twelve bytes"}
    assert json.loads(log) == json.loads(pushed.run("kernels", "logs", VERSION).out)
    assert pushed.run("kernels", "logs", "-f", VERSION).out == "hello\nwarn\n"
    for operation in ("SaveKernel", "GetKernelSessionStatus"):
        assert _asked(kaggle, operation) == _recorded(operation)
    first_page, _, logs_only = _recorded("ListKernelSessionOutput")
    assert _asked(kaggle, "ListKernelSessionOutput") == [first_page, logs_only]
    downloads = [one for one in kaggle.requests if one.operation == "Download"]
    assert {one.auth for one in downloads} == {"none"}
    assert next(one for one in kaggle.requests if one.operation == "IntrospectToken").body == {"token": "<redacted>"}
    assert {one.headers["accept"] for one in kaggle.requests if one.operation == "LogStream"} == {
        "text/event-stream, */*"
    }


def test_quota_files_pull(kaggle: Platform, pushed: RealClient) -> None:
    """The other three questions of the recording, and a pulled notebook that is the pushed one."""
    kaggle.quota.used["GPU"] = 36000.0
    for _ in range(3):
        kaggle.session(VERSION).poll()
    assert "10.00h  20.00h     30.00h" in pushed.run("quota").out
    assert "package.zip                   12" in pushed.run("kernels", "files", VERSION).out
    assert pushed.run("kernels", "pull", "-m", VERSION, "-p", "pulled").code == 0
    pulled = pushed.folder / "pulled"
    assert (pulled / "my-run.ipynb").read_text() == kaggle.version(VERSION).text
    metadata = json.loads((pulled / "kernel-metadata.json").read_text())
    assert (metadata["id"], metadata["machine_shape"], metadata["model_sources"]) == (
        "someone/my-run", "NvidiaTeslaT4", ["google/gemma/flax/2b/2"],
    )  # fmt: skip
    for operation in ("GetAcceleratorQuotaStatistics", "ListKernelFiles", "GetKernel"):
        assert _asked(kaggle, operation) == _recorded(operation)


def test_pages_are_followed(kaggle: Platform, real: RealClient) -> None:
    """45 files in pages of 20 arrive, each once."""
    kaggle.script(Script(files={f"f{number:02}.txt": str(number) for number in range(45)}))
    Plain(kaggle).push()
    assert real.run("kernels", "output", "someone/my-run", "-p", "out", seconds=120).code == 0
    found = {path.name: path.read_text() for path in (real.folder / "out").iterdir()}
    assert found == {f"f{number:02}.txt": str(number) for number in range(45)}
    assert [body["pageToken"] for body in _asked(kaggle, "ListKernelSessionOutput")] == ["", "p20", "p40"]


def test_a_dataset(kaggle: Platform, real: RealClient) -> None:
    """Created, ready, a second version, and a taken slug with exit code 0; the requests are the recorded ones."""
    folder = real.dataset()
    created = real.run("datasets", "create", "-p", folder)
    assert "Your private Dataset is being created" in created.out, created.err
    assert real.run("datasets", "status", "someone/my-data").out == "ready"
    assert real.run("datasets", "version", "-p", folder, "-m", "v2").code == 0
    taken = real.run("datasets", "create", "-p", folder)
    assert (taken.code, taken.out[:23]) == (0, "Dataset creation error:")
    dataset = kaggle.world.datasets["someone/my-data"]
    assert [[file.read() for file in files] for files in dataset.versions] == [[b"hi\n"], [b"hi\n"]]
    redacted = json.loads(
        json.dumps([_recorded("CreateDataset"), _recorded("CreateDatasetVersion")]).replace("blob-token", "<redacted>")
    )
    assert [_asked(kaggle, "CreateDataset"), _asked(kaggle, "CreateDatasetVersion")] == redacted
    assert set(_asked(kaggle, "StartBlobUpload")[0]) == set(_recorded("StartBlobUpload")[0])


def test_a_log_is_followed_through_broken_connections(kaggle: Platform, real: RealClient) -> None:
    """Each time the stream is cut the command comes back, gets everything again, and prints each line once."""
    kaggle.world.stream_idle_seconds = 0.3
    kaggle.script(Script(log=[(0, "one\n"), (0.5, "two\n"), (2, "three\n")], running_seconds=4))
    Plain(kaggle).push()
    ran = real.run("kernels", "logs", "-f", "someone/my-run")
    assert (ran.code, ran.out) == (0, "one\ntwo\nthree\n")
    assert len([one for one in kaggle.requests if one.operation == "LogStream"]) > 1


@pytest.mark.parametrize("kind", ["token", "key", "oauth", "expired oauth"])
def test_credentials(kaggle: Platform, real: RealClient, kind: str) -> None:
    """Each kind is sent as recorded; an OAuth token that expired ten minutes ago is used as it is, and refused in the middle."""
    Plain(kaggle).push()
    variables, folder = {}, real.home / ".kaggle"
    folder.mkdir()
    if kind == "key":
        variables = {"KAGGLE_USERNAME": "someone", "KAGGLE_KEY": kaggle.key}
    elif kind != "token":
        seconds = -600.0 if kind == "expired oauth" else 3600.0
        (folder / "credentials.json").write_text(json.dumps(kaggle.oauth(seconds=seconds)))
    real.token = kaggle.token if kind == "token" else None
    kaggle.requests.clear()
    ran = real.run("kernels", "status", "someone/my-run/1", **variables)
    assert ran.code == (1 if kind == "expired oauth" else 0), (ran.out, ran.err)
    asked = [(one.operation, one.auth, one.status) for one in kaggle.requests]
    bearer, basic = "<redacted:Bearer>", "<redacted:Basic>"
    assert (
        asked
        == {
            "token": [("IntrospectToken", bearer, 200), ("GetKernelSessionStatus", bearer, 200)],
            "key": [("GetKernelSessionStatus", basic, 200)],
            "oauth": [("GetKernelSessionStatus", bearer, 200)],
            "expired oauth": [("GetKernelSessionStatus", bearer, 401)],
        }[kind]
    )


def _python(kaggle: Platform, home: Path, code: str) -> subprocess.CompletedProcess[str]:
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=kaggle.client_env(home), cwd=home,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


SDK = """
from kagglesdk import KaggleClient
from kagglesdk.kernels.types.kernels_api_service import (
    ApiGetKernelSessionStatusRequest, ApiListKernelsRequest, ApiSaveKernelRequest
)
with KaggleClient() as client:
    request = ApiSaveKernelRequest()
    request.slug, request.new_title, request.text = "someone/my-run", "My run", "{}"
    answer = client.kernels.kernels_api_client.save_kernel(request)
    print(answer.version_number, answer.kernel_id, answer.url)
    request = ApiGetKernelSessionStatusRequest()
    request.user_name, request.kernel_slug, request.version_label = "someone", "my-run", "v1"
    print(client.kernels.kernels_api_client.get_kernel_session_status(request).status.name)
    request = ApiListKernelsRequest()
    request.user = "someone"
    print([one.ref for one in client.kernels.kernels_api_client.list_kernels(request).kernels])
"""


def test_kagglesdk_alone(kaggle: Platform, real: RealClient) -> None:
    """Without the command: a push, its word, the list of kernels."""
    done = _python(kaggle, real.home, SDK)
    number = kaggle.kernels["someone/my-run"].number
    real.run("kernels", "push", "-p", real.notebook())
    by_sdk, by_command = bodies(kaggle.requests, "SaveKernel")
    assert set(differences(by_sdk, by_command)) == {
        "enableGpu", "enableInternet", "enableTpu", "isPrivate", "kernelType", "language", "text",
    }  # fmt: skip
    said = f"1 {number} https://www.kaggle.com/code/someone/my-run\nCOMPLETE\n['someone/my-run']\n"
    assert (done.returncode, done.stdout) == (0, said), done.stderr


@pytest.mark.parametrize("n_files", [3, 30])
def test_kagglehub_fetches_a_model(kaggle: Platform, real: RealClient, n_files: int) -> None:
    """File by file up to 25, as an archive beyond; into the recorded cache folder."""
    pytest.importorskip("kagglehub", reason="kagglehub is not installed here")
    files = {f"x/part-{number:02}.bin": bytes([number]) * 1000 for number in range(n_files)}
    kaggle.add_model("google/gemma/transformers/2b/3", files)
    code = "import kagglehub; print(kagglehub.model_download('google/gemma/transformers/2b'))"
    done = _python(kaggle, real.home, code)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.split("\n")[-2])
    assert folder.parts[-6:] == ("models", "google", "gemma", "transformers", "2b", "3")
    assert {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.bin")} == files
    asked = [one.operation for one in kaggle.requests if one.operation == "DownloadModelInstanceVersion"]
    assert len(asked) == (n_files if n_files <= 25 else 1)
