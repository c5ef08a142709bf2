"""The kinds of events that the reader of YAML gives, named as the library names them."""

from __future__ import annotations

from dataclasses import dataclass

from engine.evidence.standalone.stand_ins.yaml_error import Mark


@dataclass
class Event:
    """One event; each kind has the attributes that it needs."""

    start_mark: Mark
    end_mark: Mark
    anchor: str | None = None
    tag: str | None = None
    value: str = ""
    style: str | None = None
    version: tuple[int, int] | None = None
    tags: object = None


class StreamStartEvent(Event):
    """The text begins."""


class StreamEndEvent(Event):
    """The text ends."""


class DocumentStartEvent(Event):
    """A document begins."""


class DocumentEndEvent(Event):
    """A document ends."""


class AliasEvent(Event):
    """``*name``."""


class ScalarEvent(Event):
    """A value that is neither list nor mapping."""


class SequenceStartEvent(Event):
    """A list begins."""


class SequenceEndEvent(Event):
    """A list ends."""


class MappingStartEvent(Event):
    """A mapping begins."""


class MappingEndEvent(Event):
    """A mapping ends."""
