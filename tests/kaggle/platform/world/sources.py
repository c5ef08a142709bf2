"""What a kernel can have attached: datasets, models, competitions (outputs of kernels are with the kernels).

>>> model_ref("google/gemma/Transformers/2b/3")
('google', 'gemma', 'transformers', '2b', 3)
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from tests.kaggle.platform.web.messages import ApiError
from tests.kaggle.platform.world.files import StoredFile, stored


@dataclass
class Dataset:
    """A dataset and the files of each version. ``ready_at``: when the newest is done being processed."""

    owner: str
    slug: str
    title: str
    is_private: bool
    versions: list[list[StoredFile]]
    ready_at: datetime
    notes: list[str] = field(default_factory=list)

    @property
    def ref(self) -> str:
        """``owner/slug``."""
        return f"{self.owner}/{self.slug}"

    @property
    def files(self) -> list[StoredFile]:
        """Of the newest version."""
        return self.versions[-1]

    def status(self, now: datetime) -> str:
        """The word of GetDatasetStatus."""
        return "READY" if now >= self.ready_at else "BLOBS_RECEIVED"

    def add(self, files: list[StoredFile], now: datetime, seconds: float) -> None:
        """A new version."""
        self.versions.append(files)
        self.ready_at = now + timedelta(seconds=seconds)


@dataclass
class Model:
    """One version of a model's variation. ``gated``: users must consent first; ``consents``: those who have."""

    owner: str
    slug: str
    framework: str
    variation: str
    version: int
    files: list[StoredFile]
    gated: bool = False
    consents: set[str] = field(default_factory=set)

    def is_open_to(self, user: str | None) -> bool:
        """Whether the user may read the files."""
        return not self.gated or user in self.consents


def framework_word(framework: str) -> str:
    """``MODEL_FRAMEWORK_PY_TORCH``, ``PyTorch``, ``pytorch``: one word."""
    return framework.removeprefix("MODEL_FRAMEWORK_").replace("_", "").lower()


def model_ref(ref: str) -> tuple[str, str, str, str, int | None]:
    """Of ``owner/model/framework/variation`` with or without a version. 400 for anything else."""
    parts = ref.split("/")
    if len(parts) not in (4, 5) or not all(parts) or (len(parts) == 5 and not parts[4].isdecimal()):
        raise ApiError(400, f"Invalid model instance specification {ref}")
    version = int(parts[4]) if len(parts) == 5 else None
    return parts[0], parts[1], framework_word(parts[2]), parts[3], version


def unpacked(name: str, content: bytes, now: datetime) -> list[StoredFile]:
    """An uploaded file as the dataset has it: archives (.zip, .tar) become folders, a wheel stays a file."""
    suffix = PurePosixPath(name).suffix
    stem = PurePosixPath(name).stem
    if suffix == ".zip" and zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            return [stored(f"{stem}/{member.filename}", archive.read(member), now) for member in members]
    if suffix == ".tar":
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            found = [(member.name, archive.extractfile(member)) for member in archive.getmembers() if member.isfile()]
            return [stored(f"{stem}/{member}", file.read(), now) for member, file in found if file]
    return [stored(name, content, now)]
