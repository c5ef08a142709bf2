"""Git LFS pointers: the hundred bytes that stand for a large file in a clone made without git-lfs.

In: the beginning of a file. Out: whether it is a pointer; readers then say so instead of "damaged".

    if is_pointer(path.read_bytes()[:HEAD_BYTES]): raise InputInvalid(..., NOT_HERE, hint=GET_IT)

Source: the Git LFS specification (spec.md of its docs).
"""

from __future__ import annotations

FIRST_LINE = b"version https://git-lfs.github.com/spec/"
HEAD_BYTES = len(FIRST_LINE)
NOT_HERE = "this is a Git LFS pointer, not the file itself"
GET_IT = "the clone was made without git-lfs: run `git lfs pull` in it, or name the model by its id, to download it"


def is_pointer(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a pointer.

    >>> is_pointer(b"version https://git-lfs.github.com/spec/v1\\noid sha256:9fa1")
    True
    """
    return head.startswith(FIRST_LINE)
