"""A session that runs the pushed notebook in a real kernel process, in a folder that stands for /kaggle.

The folder of a session has ``working`` (becomes the output), ``input`` (attached sources), ``tmp`` (scratch), ``home`` and
``etc`` (``build_date``, ``git_commit``). Its environment has the variables of a session and nothing of the test's own: no
PYTHONPATH, no proxy but one that refuses, no package index. A time-out or a cancellation kills the kernel and all its children.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.kaggle.platform.session.mounts import mount_all
from tests.kaggle.platform.world.files import StoredFile, files_below
from tests.kaggle.platform.world.quota import TPU
from tests.kaggle.platform.world.sessions import COMPLETE, ERROR, RUNNING, LogEntry, Session

if TYPE_CHECKING:
    from tests.kaggle.platform.world.kernels import KernelVersion
    from tests.kaggle.platform.world.world import World

# Nobody listens there: whatever a notebook asks of the internet is refused at once.
NOWHERE = "http://127.0.0.1:1"
SESSION_VARIABLE = "RUNSPEC_LOOPBACK_SESSION"
KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "JAX_PLATFORMS", "XLA_FLAGS", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
EXECUTE = Path(__file__).with_name("execute.py")


@dataclass(frozen=True)
class RealKernel:
    """Run the notebook itself. ``python`` needs nbclient and ipykernel; ``env`` is added to the session's environment."""

    python: str = sys.executable
    env: Mapping[str, str] = field(default_factory=dict)

    def begin(self, number: int, version: KernelVersion, world: World) -> Session:
        """Lay out the folder and start the process."""
        return RealSession(number, self, version, world)


class RealSession(Session):
    """The process and its folder. ``executed``: the notebook as it was run, for a test to look at."""

    def __init__(self, number: int, kind: RealKernel, version: KernelVersion, world: World) -> None:
        super().__init__(number, world.clock, version.limit)
        self.root = world.folder / f"session-{number}"
        self.executed = self.root / "executed.ipynb"
        self._log_file = self.root / "log.jsonl"
        self._mark = uuid.uuid4().hex
        self._output: list[StoredFile] | None = None
        for name in ("working", "tmp", "home", "etc"):
            (self.root / name).mkdir(parents=True)
        (self.root / "etc" / "build_date").write_text(f"{world.clock.now():%Y%m%d-%H%M%S}\n")
        (self.root / "etc" / "git_commit").write_text("0" * 40 + "\n")
        mount_all(world, version.sources, self.root / "input")
        notebook = self.root / "notebook.ipynb"
        notebook.write_text(version.text, encoding="utf-8")
        with (self.root / "runner.txt").open("wb") as said:
            self._process = subprocess.Popen(
                [kind.python, "-P", str(EXECUTE), str(notebook), str(self._log_file), str(self.executed)],
                cwd=self.root / "working",
                env={**self._environment(version, world), **kind.env},
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True,
            )  # fmt: skip
        self._start(world.clock.now())

    def _environment(self, version: KernelVersion, world: World) -> dict[str, str]:
        home = str(self.root / "home")
        variables = {name: os.environ[name] for name in KEPT if name in os.environ}
        variables |= {
            "HOME": home, "TMPDIR": str(self.root / "tmp"), "PYTHONUNBUFFERED": "1", SESSION_VARIABLE: self._mark,
            "JUPYTER_CONFIG_DIR": f"{home}/.jupyter", "JUPYTER_DATA_DIR": f"{home}/.local/share/jupyter",
            "JUPYTER_RUNTIME_DIR": f"{home}/.runtime", "IPYTHONDIR": f"{home}/.ipython",
            "HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "ALL_PROXY": NOWHERE, "PIP_NO_INDEX": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "RUNSPEC_KAGGLE_ROOT": str(self.root), "RUNSPEC_SCRATCH": str(self.root / "tmp" / "runspec"),
            "KAGGLE_KERNEL_RUN_TYPE": "Batch", "KAGGLE_URL_BASE": world.url, "KAGGLE_DATA_PROXY_URL": world.url,
            "KAGGLE_DATA_PROXY_TOKEN": world.accounts.secret("proxy"), "KAGGLE_USER_SECRETS_TOKEN": world.pass_for(version),
            "KAGGLE_DOCKER_IMAGE": version.machine.image, "KAGGLE_GCP_ZONE": "us-central1-a",
            "KAGGLE_CACHE_MOUNT_FOLDER": str(self.root / "input"),
        }  # fmt: skip
        if version.machine.image_kind == TPU:
            variables |= {"ISTPUVM": "1", "TPU_PROCESS_ADDRESSES": "local"}
        return variables

    def log(self) -> Sequence[LogEntry]:
        """What the cells printed so far."""
        if self.lost or not self._log_file.exists():
            return []
        # The last line may be half written.
        lines = self._log_file.read_text(encoding="utf-8").split("\n")[:-1]
        return [LogEntry(**json.loads(line)) for line in lines]

    def output(self) -> Sequence[StoredFile]:
        """Everything below `working`."""
        if self.lost:
            return []
        if self._output is None:
            self._output = files_below(self.root / "working", self.ended_at)
        return self._output

    @property
    def runner_said(self) -> str:
        """What the process printed beside the cells: why it could not begin, say."""
        return (self.root / "runner.txt").read_text(errors="replace")

    def close(self) -> None:
        """Kill everything that carries this session's mark, until nothing does."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        while found := processes_with(f"{SESSION_VARIABLE}={self._mark}"):
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _look(self) -> None:
        code = self._process.poll()
        if self._state == RUNNING and code is not None:
            self._end(COMPLETE if code == 0 else ERROR, self._clock.now())
            self.close()


def processes_with(entry: str) -> list[int]:
    """Processes whose environment has this entry; zombies have none."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if entry.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found
