"""The bytes of a package: members sorted, stamped 1980-01-01, of mode 0644, stored, in one folder named after the run.

In: names and bytes. Out: the archive; the same for the same evidence, wherever and whenever. Stored, because compressed
bytes would depend on the machine's zlib. ``package`` writes them, and ``verify`` computes them again.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

STAMP = (1980, 1, 1, 0, 0, 0)
MODE = 0o100644


def zip_bytes(files: Mapping[str, bytes], folder: str) -> bytes:
    """The archive.

    >>> zip_bytes({"a.txt": b"1"}, "run") == zip_bytes({"a.txt": b"1"}, "run")
    True
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(f"{folder}/{name}", STAMP)
            info.external_attr = MODE << 16
            info.create_system = 3
            archive.writestr(info, files[name], zipfile.ZIP_STORED)
    return buffer.getvalue()
