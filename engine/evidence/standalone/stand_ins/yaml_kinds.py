"""The kinds of events that the reader of YAML gives, named as the library names them."""

from __future__ import annotations

from dataclasses import dataclass

from engine.evidence.standalone.stand_ins.yaml_error import Mark


@dataclass
class YamlEvent:
    """One event; each kind has the attributes that it needs."""

    start_mark: Mark
    end_mark: Mark
    anchor: str | None = None
    tag: str | None = None
    value: str = ""
    style: str | None = None
    version: tuple[int, int] | None = None
    tags: object = None


class StreamStartEvent(YamlEvent):
    """The text begins."""


class StreamEndEvent(YamlEvent):
    """The text ends."""


class DocumentStartEvent(YamlEvent):
    """A document begins."""


class DocumentEndEvent(YamlEvent):
    """A document ends."""


class AliasEvent(YamlEvent):
    """``*name``."""


class ScalarEvent(YamlEvent):
    """A value that is neither list nor mapping."""


class SequenceStartEvent(YamlEvent):
    """A list begins."""


class SequenceEndEvent(YamlEvent):
    """A list ends."""


class MappingStartEvent(YamlEvent):
    """A mapping begins."""


class MappingEndEvent(YamlEvent):
    """A mapping ends."""
