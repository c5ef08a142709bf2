"""A model folder's files by name: what is there and is no file is named, by validation and by the trainer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import InputInvalid
from engine.model_config.folder_files import NAMES, file_in, folder_findings, read_in

SOUND = (8).to_bytes(8, "little") + b"{}      "


def _dead_link(path: Path) -> None:
    path.symlink_to("../blobs/gone")


OTHERS: tuple[tuple[Callable[[Path], None], str], ...] = (
    (_dead_link, "is a link that leads nowhere (../blobs/gone), not a file"),
    (Path.mkdir, "is a folder, not a file"),
    (os.mkfifo, "is a pipe, a socket or a device, not a file"),
)


@pytest.mark.parametrize(("make", "message"), OTHERS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_there_and_is_no_file_is_never_absent(
    tmp_path: Path, name: str, make: Callable[[Path], None], message: str
) -> None:
    """A pipe is not opened: that would wait for its writer."""
    make(tmp_path / name)
    for ask in (file_in, read_in):
        with pytest.raises(InputInvalid) as caught:
            ask(tmp_path, name)
        (found,) = caught.value.diagnostics
        assert (found.code, found.message) == ("M112", f"{name} {message}")
    if name != "config.json":  # its reader says M106
        assert [row.message for row in folder_findings(tmp_path)] == [f"{name} {message}"]


def test_a_file_is_found_through_a_link_and_what_is_not_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"{}")
    (tmp_path / "vocab.json").symlink_to("blob")
    assert file_in(tmp_path, "vocab.json") == tmp_path / "vocab.json"
    assert read_in(tmp_path, "vocab.json") == b"{}"
    assert file_in(tmp_path, "vocab.txt") is None
    assert read_in(tmp_path, "vocab.txt") is None


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:9fa1\n", "M113", "this is a Git LFS pointer"),
        (b"<!doctype html><html>Sign in</html>", "M113", "this is a web page"),
        (b"", "M113", "is empty"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "M113", "does not fit into 10 bytes"),
    ],
)  # fmt: skip
def test_weights_that_are_none_are_known_by_their_beginning(
    tmp_path: Path, content: bytes, code: str, words: str
) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    (found,) = folder_findings(tmp_path)
    assert (found.code, words in found.message) == (code, True), found.message
    (tmp_path / "model.safetensors").write_bytes(SOUND)
    assert list(folder_findings(tmp_path)) == []


def test_a_pointer_in_the_place_of_a_text_file_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (found,) = folder_findings(tmp_path)
    assert (found.code, found.message) == (
        "M113",
        "tokenizer_config.json: this is a Git LFS pointer, not the file itself",
    )
