"""A project of light steps (:mod:`tests.campaign.light_steps`) for the campaigns: real processes, real files, a second a run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from engine.temporary import NAME

REPOSITORY = Path(__file__).parent.parent.parent
DRIVER = REPOSITORY / "tests" / "campaign" / "light_steps.py"
SPEC = """\
version: 1
run_version: light_v1
model:
  id: runspec/none
  init: random
  tokenizer: chars
  config: {model_type: gemma, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1,
           num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8, max_position_embeddings: 64}
dataset: quickstart-reasoning
eval_set: evalsets/items.jsonl
steps:
  - {id: dataset, uses: build_dataset, with: {num_rows: 20}}
  - {id: train, uses: train_sft,
     with: {num_train_steps: 4, per_device_batch_size: 2, seq_len: 64, optimizer: adafactor, learning_rate: 1.0e-3,
            lr_schedule: constant, warmup_steps: 0}}
  - {id: predict, uses: generate, with: {max_new_tokens: 8}}
  - {id: score, uses: score}
  - {id: summary, uses: result_summary}
evidence: {files: [run_manifest.json, eval_summary.json, kaggle_output_log.txt]}
package: {name: light}
"""
RUN = ("run", "runspecs/spec.yaml")
SECONDS = 120


@dataclass(frozen=True)
class Done:
    """How a command ended; ``code`` is negative for the signal that killed it."""

    code: int
    out: str
    err: str


class LightProject:
    """A folder with the run-spec, and the commands in it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def fresh(cls, root: Path) -> LightProject:
        """With nothing run yet."""
        for folder in (".runspec", "runspecs", "evalsets"):
            (root / folder).mkdir(parents=True)
        items = (REPOSITORY / "evalsets" / "quickstart.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (root / "evalsets" / "items.jsonl").write_text("".join(items[:8]))
        (root / "runspecs" / "spec.yaml").write_text(SPEC)
        return cls(root)

    def copy(self, root: Path) -> LightProject:
        """The same project elsewhere."""
        shutil.copytree(self.root, root, symlinks=True)
        return LightProject(root)

    def start(
        self, *words: str, before: tuple[str, ...] = (), user: int | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        """Begin a command. ``before``: words of the driver; ``user``: the number of the user it runs as."""
        return subprocess.Popen(
            [sys.executable, str(DRIVER), *before, *words], cwd=self.root, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, user=user, group=user,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        )  # fmt: skip

    def do(self, *words: str, before: tuple[str, ...] = (), user: int | None = None, **environment: str) -> Done:
        """A command to its end."""
        process = self.start(*words, before=before, user=user, **environment)
        out, err = process.communicate(timeout=SECONDS)
        return Done(process.returncode, out, err)

    def do_without_rights(self, *words: str) -> Done:
        """A command that permissions bind, also where the tests are run as root."""
        prefix = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
        done = subprocess.run(
            [*prefix, sys.executable, str(DRIVER), *words], cwd=self.root, text=True, capture_output=True, check=False,
            timeout=SECONDS, env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def calls(self, *words: str) -> int:
        """How many calls that change files the command makes. Does it."""
        file = self.root.parent / f"{self.root.name}.calls"
        assert self.do(*words, before=("count", str(file))).code == 0
        return int(file.read_text())

    def kill_at(self, call: int, *words: str) -> bool:
        """The command, killed right before that call; False where it ended before."""
        return self.do(*words, before=("at", str(call))).code == -signal.SIGKILL

    def kill_after(self, seconds: float, *words: str) -> bool:
        """The command, killed after so long; False where it ended before."""
        process = self.start(*words)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return process.returncode == -signal.SIGKILL

    def hit(self, draw: random.Random, calls: int, seconds: float, *words: str) -> bool:
        """Kill the command at a random moment: of its calls, or (one in four, or without any) of its time."""
        if not calls or draw.random() < 0.25:
            return self.kill_after(draw.uniform(0.0, seconds), *words)
        return self.kill_at(draw.randint(1, calls), *words)

    def litter(self) -> list[str]:
        """What is there and belongs to nobody: temporary files, folders in the staging area, half a copy."""
        everything = [path.relative_to(self.root) for path in self.root.rglob("*") if ".git" not in path.parts]
        found = [
            path
            for path in everything
            if NAME.fullmatch(path.name) or path.parent.name == "staging" or path.name.startswith(".partial-")
        ]
        return sorted(map(str, found))
