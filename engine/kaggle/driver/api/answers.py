"""What the platform answers, read once into values: fields of another type than they should be are a refusal, never a crash.

In: the JSON of an answer. Out: :class:`PushAnswer`, :class:`Kernel`, :class:`SessionStatus`, :class:`Quota`, rows of output files; or
:class:`Refusal`, which says what kind of refusal it is.

    >>> read_push({"versionNumber": 3, "url": "u", "invalidModelSources": ["a/b"]}).invalid
    {'model': ('a/b',)}
    >>> read_quota({"gpuQuota": {"timeUsed": "36000s", "totalTimeAllowed": "108000s"}})["gpu"].left_seconds
    72000.0
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from engine.canonical import JsonMapping
from engine.kaggle.driver.api.phases import Phase, phase_of
from engine.printable import one_line

RefusalKind = Literal[
    "credentials", "forbidden", "missing", "limited", "server", "rejected", "unreachable", "unreadable"
]
LONGEST_TEXT = 300  # characters of the platform's own words that are shown
SOURCES = ("dataset", "competition", "kernel", "model")


class Refusal(Exception):
    """A call that got no usable answer. ``kind`` decides what is done; ``status`` is 0 where there was no answer at all."""

    def __init__(self, kind: RefusalKind, status: int, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.kind, self.status, self.message, self.wait = kind, status, short(message), wait

    @property
    def is_passing(self) -> bool:
        """Whether the same call may do better later."""
        return self.kind in ("limited", "server", "unreachable", "unreadable")

    def __str__(self) -> str:
        return f"HTTP {self.status}: {self.message}" if self.status else self.message


def short(text: str) -> str:
    """Words of a stranger for a line of ours."""
    line = one_line(text.strip())
    return line if len(line) <= LONGEST_TEXT else f"{line[:LONGEST_TEXT]}…"


def kind_of(status: int) -> RefusalKind:
    """
    >>> [kind_of(status) for status in (401, 403, 404, 429, 502, 400)]
    ['credentials', 'forbidden', 'missing', 'limited', 'server', 'rejected']
    """
    known: Mapping[int, RefusalKind] = {
        401: "credentials",
        403: "forbidden",
        404: "missing",
        410: "missing",
        429: "limited",
    }
    return known.get(status) or ("server" if status >= 500 or status == 408 else "rejected")


@dataclass(frozen=True, slots=True)
class PushAnswer:
    """``error``: the platform's text where it refused. ``invalid``: kind of source -> what it left out of the run."""

    version: int | None
    url: str
    ref: str
    kernel_id: int | None
    error: str
    invalid: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A notebook as it is saved there: its newest version's number, and the source of the version that was asked for."""

    version: int
    kernel_id: int | None
    title: str
    machine_shape: str
    docker_image: str
    source: str
    is_private: bool = True  # where the platform does not say it, nobody else is taken to see it


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """``word``: as the platform wrote it."""

    phase: Phase
    word: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Quota:
    """Seconds of one kind of accelerator this week."""

    allowed: float
    used: float
    reserved: float

    @property
    def left_seconds(self) -> float:
        """What a session may still take."""
        return max(self.allowed - self.used - self.reserved, 0.0)


@dataclass(frozen=True, slots=True)
class OutputFile:
    """``url`` is signed: whoever has it has the file, so it is never shown or written down."""

    name: str
    url: str = field(repr=False)


def read_push(answer: JsonMapping) -> PushAnswer:
    """Of SaveKernel. A version number of 0, or none, is None."""
    invalid = {
        name: tuple(map(str, names)) for name in SOURCES if (names := answer.get(f"invalid{name.title()}Sources"))
    }
    return PushAnswer(
        version=_whole(answer, "versionNumber") or None,
        url=_text(answer, "url"),
        ref=_text(answer, "ref"),
        kernel_id=_whole(answer, "kernelId") or None,
        error=short(_text(answer, "error")),
        invalid=invalid,
    )


def read_kernel(answer: JsonMapping) -> Kernel:
    """Of GetKernel."""
    metadata, blob = _object(answer, "metadata"), _object(answer, "blob")
    return Kernel(
        version=_whole(metadata, "currentVersionNumber"),
        kernel_id=_whole(metadata, "id") or None,
        title=_text(metadata, "title"),
        machine_shape=_text(metadata, "machineShape"),
        docker_image=_text(metadata, "dockerImage"),
        source=_text(blob, "source"),
        is_private=metadata.get("isPrivate", False) is not False,
    )


def read_status(answer: JsonMapping) -> SessionStatus:
    """Of GetKernelSessionStatus."""
    raw = answer.get("status")
    word = "(nothing)" if raw is None else short(str(raw))
    return SessionStatus(phase_of(raw), word, short(_text(answer, "failureMessage")))


def read_quota(answer: JsonMapping) -> dict[str, Quota]:
    """Kind of accelerator -> its quota; one that the answer leaves out is left out."""
    quotas = {}
    for kind in ("gpu", "tpu"):
        part = _object(answer, f"{kind}Quota")
        allowed = _seconds(part.get("totalTimeAllowed"))
        if allowed is not None:
            used, reserved = (_seconds(part.get(name)) or 0.0 for name in ("timeUsed", "timeReserved"))
            quotas[kind] = Quota(allowed, used, reserved)
    return quotas


def read_quota_end(answer: JsonMapping) -> str:
    """When the week's quota begins again, as the platform writes it."""
    return short(_text(answer, "quotaRefreshTime"))


def read_outputs(answer: JsonMapping) -> list[OutputFile]:
    """A page of ListKernelSessionOutput."""
    return [OutputFile(_text(row, "fileName"), _text(row, "url")) for row in rows_of(answer, "files")]


def rows_of(answer: JsonMapping, key: str) -> list[JsonMapping]:
    """The objects of a list; absent is empty."""
    value = answer.get(key) or []
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise Refusal("unreadable", 200, f"the answer's {key} are no list of objects")
    return value


def text_of(answer: JsonMapping, key: str) -> str:
    """A text; absent is empty."""
    return _text(answer, key)


def _text(values: JsonMapping, key: str) -> str:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise Refusal("unreadable", 200, f"the answer's {key} is no text")
    return value or ""


def _whole(values: JsonMapping, key: str) -> int:
    value = values.get(key)
    if isinstance(value, str) and value.isdigit():  # how JSON writes whole numbers of 64 bits
        return int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise Refusal("unreadable", 200, f"the answer's {key} is no whole number")
    return value or 0


def _object(values: JsonMapping, key: str) -> JsonMapping:
    value = values.get(key)
    return value if isinstance(value, Mapping) else {}


def _seconds(value: object) -> float | None:
    """``"36000s"``, ``"1.5s"``."""
    try:
        return float(str(value).removesuffix("s")) if value is not None else None
    except ValueError:
        return None
