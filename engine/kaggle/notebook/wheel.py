"""The engine as a wheel, for a dataset: what a notebook without the engine in it looks for.

In: the files of :func:`engine.kaggle.notebook.embed.engine_files`. Out: the bytes of a wheel, the same for the same files. The digest
that the notebook checks is over the files, so that any other wheel of the same engine serves as well.

    name, data = wheel(engine_files())       # "runspec_engine-0.1.0-py3-none-any.whl", b"PK…"
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Mapping

from engine import __version__

NAME = "runspec_engine"
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)


def wheel(files: Mapping[str, bytes]) -> tuple[str, bytes]:
    """Its name and its bytes."""
    info = f"{NAME}-{__version__}.dist-info"
    inside = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: runspec-engine\nVersion: {__version__}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: runspec\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": b"[console_scripts]\nrunspec = engine.__main__:main\n",
    }
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in sorted(inside.items()))
    inside[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in inside.items():
            archive.writestr(zipfile.ZipInfo(name, _FIRST_DAY), data, zipfile.ZIP_DEFLATED)
    return f"{NAME}-{__version__}-py3-none-any.whl", buffer.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
