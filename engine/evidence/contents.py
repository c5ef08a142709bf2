"""The files of a bundle as values, parsed when a check first asks for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from engine.evidence.bundle import Bundle


@dataclass(frozen=True)
class Evidence:
    """The files of a bundle, parsed when first asked for. A missing or broken one raises :class:`Broken`."""

    bundle: Bundle

    def data(self, name: str) -> bytes:
        """The bytes of a file."""
        if name not in self.bundle.files:
            raise Broken(f"{name} is missing")
        return self.bundle.files[name]

    def text(self, name: str) -> str:
        """A file as text."""
        try:
            return self.data(name).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Broken(f"{name} is not UTF-8") from error

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file that is an object."""
        try:
            value = json.loads(self.text(name))
        except (ValueError, RecursionError) as error:
            raise Broken(f"{name} is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise Broken(f"{name} is not a JSON object")
        return value

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The objects of a JSONL file."""
        try:
            rows = [json.loads(line) for line in self.text(name).split("\n") if line]
        except (ValueError, RecursionError) as error:
            raise Broken(f"{name} is not JSONL: {error}") from error
        if not all(isinstance(row, dict) for row in rows):
            raise Broken(f"{name} has a line that is no object")
        return rows

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """run_manifest.json."""
        return self.json("run_manifest.json")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """eval_summary.json."""
        return self.json("eval_summary.json")

    @cached_property
    def record(self) -> dict[str, Any]:
        """run_record.json."""
        return self.json("run_record.json")

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """metrics.jsonl."""
        return self.rows("metrics.jsonl")

    def step(self, uses: str) -> dict[str, Any]:
        """The last step of this kind in the record."""
        found = [step for step in self.record["steps"] if step["uses"] == uses]
        if not found:
            raise Broken(f"run_record.json has no {uses} step")
        step: dict[str, Any] = found[-1]
        return step


class Broken(Exception):
    """Something that a check needs is missing or cannot be read: the check fails, and says so."""
