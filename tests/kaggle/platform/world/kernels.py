"""Kernels and their versions, as a push makes them.

>>> title_slug("My run, third try")
'my-run-third-try'
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.kaggle.platform.web.messages import ApiError, Json
from tests.kaggle.platform.world.clock import stamp
from tests.kaggle.platform.world.quota import GPU, TPU, Machine
from tests.kaggle.platform.world.sessions import Session

SOURCE_KINDS = ("datasetDataSources", "competitionDataSources", "kernelDataSources", "modelDataSources")


def title_slug(title: str) -> str:
    """The slug that a title becomes."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


@dataclass
class KernelVersion:
    """One version: the source as it was pushed, what is attached, the machine, the session that runs it (None: only saved)."""

    kernel: Kernel
    number: int
    text: str
    request: Json
    sources: dict[str, list[str]]
    machine: Machine
    limit: float
    pushed_at: datetime
    session: Session | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """As GetKernel and ListKernels show it; empty lists are left out."""
        kernel = self.kernel
        shown: dict[str, Any] = {
            "id": kernel.number,
            "ref": kernel.ref,
            "title": kernel.title,
            "author": kernel.owner,
            "slug": kernel.slug,
            "lastRunTime": stamp(self.pushed_at),
            "language": self.request.get("language", "python"),
            "kernelType": self.request.get("kernelType", "notebook"),
            "isPrivate": kernel.is_private,
            "enableGpu": self.machine.kind == GPU,
            "enableTpu": self.machine.kind == TPU,
            "enableInternet": self.request.get("enableInternet", False),
            "currentVersionNumber": kernel.latest.number,
            "dockerImage": self.machine.image,
        }
        shown |= {"machineShape": self.machine.shape} if self.machine.shape else {}
        return shown | {kind: names for kind, names in self.sources.items() if names}


@dataclass
class Kernel:
    """A notebook with its versions; ``attached_secrets``: labels of secrets that its sessions may read."""

    owner: str
    slug: str
    title: str
    number: int
    is_private: bool
    versions: list[KernelVersion] = field(default_factory=list)
    attached_secrets: set[str] = field(default_factory=set)

    @property
    def ref(self) -> str:
        """``owner/slug``."""
        return f"{self.owner}/{self.slug}"

    @property
    def url(self) -> str:
        """The page."""
        return f"https://www.kaggle.com/code/{self.ref}"

    @property
    def latest(self) -> KernelVersion:
        """The newest version."""
        return self.versions[-1]

    def version(self, label: str | int | None) -> KernelVersion:
        """By label (``v3``), by number, or the newest. 404 for one that is not there; a label that is a bare number is none."""
        if label in (None, ""):
            return self.latest
        found = re.fullmatch(r"v(\d+)", label) if isinstance(label, str) else None
        number = int(found[1]) if found else label
        for version in self.versions:
            if version.number == number:
                return version
        raise ApiError(404, "Not found")
