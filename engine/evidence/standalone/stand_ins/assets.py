"""The schemas and templates inside verify.py, with the four things that the checks ask of a path.

>>> asset("schemas", "no.json").is_file()
False
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EmbeddedFile:
    """A file, or a folder, by its parts."""

    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        """The last part."""
        return self.parts[-1]

    def joinpath(self, *parts: str) -> EmbeddedFile:
        """Something inside."""
        return EmbeddedFile((*self.parts, *parts))

    def __truediv__(self, part: str) -> EmbeddedFile:
        return self.joinpath(part)

    def is_file(self) -> bool:
        """Whether verify.py has it."""
        return "/".join(self.parts) in _texts()

    def read_text(self, encoding: str = "utf-8") -> str:  # noqa: ARG002 - as a path has it
        """Its text. Raises FileNotFoundError."""
        try:
            return _texts()["/".join(self.parts)]
        except KeyError:
            raise FileNotFoundError("/".join(self.parts)) from None


def asset(folder: str, *parts: str) -> EmbeddedFile:
    """As :func:`engine.assets.asset`."""
    return EmbeddedFile((folder, *parts))


def _texts() -> Mapping[str, str]:
    """What the file that runs has: its loader puts it here."""
    texts: Mapping[str, str] = globals().get("ASSETS", {})
    return texts
