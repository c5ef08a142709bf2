"""A model from the Hugging Face hub to a local folder, and the commit it is at.

What goes in: a model id, a revision (branch, tag or commit; None: the hub's default branch), a cache
folder (None: the library's own). What comes out: the folder with config.json, tokenizer files and weights
in one format, and the 40-hex commit.

    folder, commit = fetch("google/gemma-2b", "flax", None)

Only what :mod:`engine.trainer.weights` reads is fetched: safetensors where the revision has them, else
Flax msgpack, never both, never PyTorch pickles. Without network an earlier download of the same revision
serves. Messages hold the id, the revision and the HTTP status: never a header, an address or a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from engine.errors import InputInvalid, RemoteRefused, RunspecError, Where
from engine.trainer.tokenizer import COMPANION_FILES, CONFIG_FILE, SPECIALS_FILE, TOKENIZER_FILE

SMALL_FILES = ("config.json", "generation_config.json", TOKENIZER_FILE, CONFIG_FILE, SPECIALS_FILE, *COMPANION_FILES)
TOKEN_HINT = (
    "open https://huggingface.co/{id} signed in, accept the licence there,\n"
    "then set HF_TOKEN to a token of that account that may read it"
)


class Client(Protocol):
    """The three questions asked of the hub; tests answer them without a network."""

    def info(self, model_id: str, revision: str | None) -> tuple[str, list[str]]:
        """The commit of a revision and the names of its files."""

    def download(self, model_id: str, commit: str, names: Sequence[str], cache: Path | None) -> Path:
        """Fetch the named files; the folder they are in."""

    def cached(self, model_id: str, revision: str | None, cache: Path | None) -> Path | None:
        """The folder of an earlier download (named by its commit), if there is one."""


def fetch(
    model_id: str, revision: str | None, cache: str | Path | None, *, client: Client | None = None
) -> tuple[Path, str]:
    """Fetch a model. Raises InputInvalid M402/M404, RemoteRefused M401/M403/M405 (exit 8)."""
    client = client or HubClient()
    where = Path(cache) if cache is not None else None
    try:
        commit, names = client.info(model_id, revision)
        wanted = select_files(names, model_id)
        return client.download(model_id, commit, wanted, where), commit
    except RunspecError:
        raise
    # The client library's HTTP layer has changed three times: its errors are told apart by kind and name.
    except Exception as error:  # noqa: BLE001
        if _is_offline(error):
            folder = client.cached(model_id, revision, where)
            if folder is not None:
                return folder, folder.name
        raise explain(error, model_id, revision) from None  # the cause's text may quote a request


def select_files(names: Sequence[str], model_id: str) -> list[str]:
    """The files worth fetching: small ones, and the weights in the one format that is preferred.

    >>> select_files(["config.json", "model.safetensors", "flax_model.msgpack", "README.md"], "a/b")
    ['config.json', 'model.safetensors']
    """
    small = [name for name in names if name in SMALL_FILES]
    for stem, suffix in (("model", ".safetensors"), ("flax_model", ".msgpack")):
        whole = f"{stem}{suffix}"
        if whole in names:
            return sorted([*small, whole])
        if f"{whole}.index.json" in names:
            shards = [name for name in names if name.startswith(f"{stem}-") and name.endswith(suffix)]
            return sorted([*small, f"{whole}.index.json", *shards])
    raise InputInvalid(
        "M404",
        f"{model_id} has neither safetensors nor Flax weights at this revision",
        where=Where(file=model_id),
        hint="name another revision of the model; google/gemma-2b has Flax weights at revision flax",
    )


def explain(error: Exception, model_id: str, revision: str | None) -> RunspecError:
    """What went wrong at the hub, in the house's terms."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    at = f"{model_id} at revision {revision or '(default)'}"
    where = Where(file=model_id)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if "GatedRepoError" in kinds or (status in (401, 403) and "RepositoryNotFoundError" not in kinds):
        return RemoteRefused(
            "M401",
            f"the hub refuses {at} (HTTP {status}): the model is gated, or the token may not read it",
            where=where,
            hint=TOKEN_HINT.format(id=model_id),
        )
    if "RevisionNotFoundError" in kinds:
        return InputInvalid(
            "M402", f"{model_id} has no revision {revision!r}", where=where, hint="check model.revision"
        )
    if "RepositoryNotFoundError" in kinds or "HFValidationError" in kinds:
        return InputInvalid(
            "M402",
            f"the hub has no model {model_id!r}, or it is private",
            where=where,
            hint="check model.id; for a private model set HF_TOKEN",
        )
    if _is_offline(error):
        return RemoteRefused(
            "M403",
            f"the hub cannot be reached, and {at} is not in the cache",
            where=where,
            hint="connect to the network, or fetch the model elsewhere and give model.path",
        )
    said = f"HTTP {status}" if status else type(error).__name__
    return RemoteRefused("M405", f"fetching {at} failed ({said})", where=where, hint="try again later")


def _is_offline(error: Exception) -> bool:
    """No answer at all, as opposed to an answer that says no."""
    if getattr(error, "response", None) is not None:
        return False
    kinds = {kind.__name__ for kind in type(error).__mro__}
    network = {"ConnectError", "ConnectTimeout", "NetworkError", "TimeoutException", "LocalEntryNotFoundError"}
    return isinstance(error, ConnectionError | TimeoutError) or bool(kinds & network)


class HubClient:
    """:class:`Client` on huggingface_hub, imported when first asked."""

    def info(self, model_id: str, revision: str | None) -> tuple[str, list[str]]:
        """See :class:`Client`."""
        from huggingface_hub import HfApi

        found = HfApi().model_info(model_id, revision=revision)
        return str(found.sha), [sibling.rfilename for sibling in found.siblings or []]

    def download(self, model_id: str, commit: str, names: Sequence[str], cache: Path | None) -> Path:
        """See :class:`Client`."""
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(model_id, revision=commit, allow_patterns=list(names), cache_dir=cache))

    def cached(self, model_id: str, revision: str | None, cache: Path | None) -> Path | None:
        """See :class:`Client`."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(model_id, revision=revision, cache_dir=cache, local_files_only=True))
        except LocalEntryNotFoundError:
            return None
