"""The least that an evidence folder has where a session leaves a witness of it: a record and the list of digests.

In: a folder that is to be. Out: the folder, with the files named.

    some_evidence(tmp_path / "evidence", "only_1.json")
"""

from __future__ import annotations

import json
from pathlib import Path

from engine.canonical import digest_bytes


def some_evidence(folder: Path, *names: str) -> Path:
    """``names``: files beside the record, each ``{}``."""
    folder.mkdir()
    record = {"run_version": "tiny_v1", "templates": {}, "environment": {"kaggle": {"nonce": "0" * 32}}}
    contents = {"run_record.json": json.dumps(record), **dict.fromkeys(names, "{}")}
    for name, text in contents.items():
        (folder / name).write_text(text)
    lines = [f"{digest_bytes(text.encode())}  {name}\n" for name, text in sorted(contents.items())]
    (folder / "manifest-sha256.txt").write_text("".join(lines))
    return folder
