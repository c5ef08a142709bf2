"""What a person reads when the hub refuses: complete texts, and never the token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from engine.errors import InputInvalid, RemoteRefused
from engine.model_config import read_folder
from engine.trainer.hub.choice import no_file
from engine.trainer.hub.client import Repository

SET_TOKEN = """make a token that may read it at {url}/settings/tokens,
           then set it: export HF_TOKEN=…   (on Kaggle: model: {kaggle: …} needs no token; else Add-ons > Secrets, one named HF_TOKEN, attached to this notebook)"""


@pytest.fixture
def says(
    hub: Any, fetch: Any, everything: Callable[[BaseException], str], token: str, capfd: pytest.CaptureFixture[str]
) -> Callable[..., None]:
    """``says(kind, text, revision, name)``: the fetch fails with this text; its {url} is the hub's address."""

    def check(kind: type[Exception], text: str, *arguments: Any, **keys: Any) -> None:
        error = fetch.error(*arguments, **keys)
        assert str(error) == text.replace("{SET_TOKEN}", SET_TOKEN).replace("{url}", hub.url)
        assert type(error) is kind
        printed = "".join(capfd.readouterr())
        assert token not in everything(error) + repr(fetch.events) + printed
        assert error.__cause__ is error.__context__ is None

    return check


@pytest.fixture
def with_token(monkeypatch: pytest.MonkeyPatch, token: str) -> str:
    monkeypatch.setenv("HF_TOKEN", token)
    return token


def test_gated_without_a_token(hub: Any, says: Callable[..., None], name: str) -> None:
    """401: where to accept the licence, where to make a token, how to set it, on Kaggle too."""
    hub.repos[name].access = "gated"
    says(
        RemoteRefused,
        "error[M401]: the hub refuses acme/tiny-gemma at revision flax (HTTP 401): it is gated, and no token is set\n"
        "  --> acme/tiny-gemma\n"
        "   = help: accept the licence at {url}/acme/tiny-gemma, signed in,\n"
        "           {SET_TOKEN}",
    )


@pytest.mark.usefixtures("with_token")
def test_gated_with_a_token_of_an_account_without_access(hub: Any, says: Callable[..., None], name: str) -> None:
    """403: the token is fine, its account has not accepted the licence."""
    hub.repos[name].access = "gated"
    says(
        RemoteRefused,
        "error[M401]: the hub refuses acme/tiny-gemma at revision flax (HTTP 403): it is gated, and the account of "
        "HF_TOKEN has no access yet\n"
        "  --> acme/tiny-gemma\n"
        "   = help: accept the licence at {url}/acme/tiny-gemma, signed in to the account that the token belongs to;\n"
        "           a fine-grained token also needs the permission to read gated repositories",
    )


@pytest.mark.usefixtures("with_token")
def test_a_token_that_is_not_valid(hub: Any, says: Callable[..., None]) -> None:
    """401 for everything, even public repositories; the hub's own message quotes the token, ours does not."""
    hub.valid_tokens = {"another"}
    says(
        RemoteRefused,
        "error[M401]: the hub refuses acme/tiny-gemma at revision flax (HTTP 401): the token in HF_TOKEN is not valid "
        "(mistyped, expired or revoked)\n"
        "  --> acme/tiny-gemma\n"
        "   = help: {SET_TOKEN}",
    )


@pytest.mark.usefixtures("with_token")
def test_a_token_that_may_not_read_it(hub: Any, says: Callable[..., None]) -> None:
    """403 without details: for example, a fine-grained token."""
    hub.statuses = [(403, {})]
    says(
        RemoteRefused,
        "error[M401]: the hub refuses acme/tiny-gemma at revision flax (HTTP 403): the token in HF_TOKEN may not read it\n"
        "  --> acme/tiny-gemma\n"
        "   = help: {SET_TOKEN}",
    )


@pytest.mark.parametrize("addition", ["é", "\x00"])
def test_a_token_that_no_header_can_carry(
    says: Callable[..., None], token: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, addition: str
) -> None:
    """A token copied with other characters is refused here: the HTTP layer's error would quote it."""
    if "\x00" in addition:  # an environment variable cannot hold it, a token file can
        (tmp_path / "token").write_text(f"{token}{addition}end")
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    else:
        monkeypatch.setenv("HF_TOKEN", f"{token}{addition}end")
    says(
        RemoteRefused,
        "error[M401]: acme/tiny-gemma at revision flax cannot be fetched: HF_TOKEN has characters that no token "
        "has\n"
        "  --> acme/tiny-gemma\n"
        "   = help: copy the token again, without spaces or line breaks",
    )


def test_an_unknown_repository_without_a_token(says: Callable[..., None]) -> None:
    """The hub does not tell strangers whether it exists (HTTP 401)."""
    says(
        InputInvalid,
        "error[M402]: the hub has no model 'acme/nothing', or it is private (HTTP 401)\n"
        "  --> acme/nothing\n"
        "   = help: check model.id; for a private one: export HF_TOKEN=…   (on Kaggle: model: {kaggle: …} needs no "
        "token; else Add-ons > Secrets, one named HF_TOKEN, attached to this notebook)",
        "main",
        "acme/nothing",
    )


@pytest.mark.usefixtures("with_token")
def test_an_unknown_repository_with_a_token(hub: Any, says: Callable[..., None]) -> None:
    """404; another user's private repository looks the same."""
    hub.add("acme/private", {"main": {}}, access="private")
    for name in ("acme/nothing", "acme/private"):
        says(
            InputInvalid,
            f"error[M402]: the hub has no model '{name}', or the account of HF_TOKEN may not see it (HTTP 404)\n"
            f"  --> {name}\n"
            "   = help: check model.id",
            "main",
            name,
        )


def test_an_invalid_id(says: Callable[..., None]) -> None:
    """Refused by the client itself, before any request."""
    says(
        InputInvalid,
        "error[M402]: the hub has no model 'acme//tiny?', or it is private\n"
        "  --> acme//tiny?\n"
        "   = help: check model.id; for a private one: export HF_TOKEN=…   (on Kaggle: model: {kaggle: …} needs no "
        "token; else Add-ons > Secrets, one named HF_TOKEN, attached to this notebook)",
        "main",
        "acme//tiny?",
    )


def test_an_unknown_revision(says: Callable[..., None]) -> None:
    """404: the nearest branch, and all that exist."""
    says(
        InputInvalid,
        "error[M402]: acme/tiny-gemma has no revision 'falx'\n"
        "  --> acme/tiny-gemma\n"
        '   = help: did you mean "flax"?\n'
        "           it has: main, flax",
        "falx",
    )


def test_an_unknown_revision_without_the_branches(hub: Any, says: Callable[..., None]) -> None:
    """The list is optional: the message is complete without it."""
    hub.statuses = [(0, {}), (500, {})]
    says(
        InputInvalid,
        "error[M402]: acme/tiny-gemma has no revision 'nothing'\n"
        "  --> acme/tiny-gemma\n"
        "   = help: check model.revision",
        "nothing",
    )


@pytest.mark.parametrize("revision", ["../../secrets", "a/../../b", "/etc", ".."])
def test_a_revision_that_is_a_path(hub: Any, says: Callable[..., None], revision: str) -> None:
    """No request is sent, and nothing outside the cache is read or written."""
    says(
        InputInvalid,
        f"error[M402]: acme/tiny-gemma has no revision '{revision}'\n"
        "  --> acme/tiny-gemma\n"
        "   = help: check model.revision",
        revision,
    )
    assert hub.requests == []


def test_a_revision_without_weights(hub: Any, says: Callable[..., None]) -> None:
    """Only pickles: the file types it has, and the other branches; nothing is fetched."""
    says(
        InputInvalid,
        "error[M404]: acme/tiny-gemma at revision main has neither safetensors nor Flax weights (it has: .bin, .md)\n"
        "  --> acme/tiny-gemma\n"
        "   = help: name another revision; it has: main, flax",
        "main",
    )
    assert hub.fetched() == []


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (
            ("adapter_config.json", "adapter_model.safetensors", "README.md"),
            "acme/other at its default revision holds adapters, not a model (adapter_model.safetensors)\n"
            "  --> acme/other\n"
            "   = help: name the model that they were trained over (its card says which), or merge them first",
        ),
        (
            ("config.json", "tiny-Q4_K_M.gguf"),
            "acme/other at its default revision holds a format for inference (tiny-Q4_K_M.gguf)\n"
            "  --> acme/other\n"
            "   = help: name the repository that it was made from",
        ),
        (
            ("config.json", "diffusion_pytorch_model.safetensors"),
            "acme/other at its default revision has safetensors, but not under the name model.safetensors "
            "(diffusion_pytorch_model.safetensors)\n"
            "  --> acme/other\n"
            "   = help: name a repository in transformers' layout",
        ),
    ],
    ids=["adapters", "gguf", "another name"],
)
def test_what_is_taken_for_a_model_is_called_what_it_is(
    hub: Any, says: Callable[..., None], files: tuple[str, ...], text: str
) -> None:
    """A repository that has safetensors is not said to have none; nothing is fetched."""
    hub.add("acme/other", {"main": dict.fromkeys(files, b"{}")})
    says(InputInvalid, f"error[M404]: {text}", None, "acme/other")
    assert hub.fetched() == []


def test_weights_that_could_not_be_used_are_not_fetched(hub: Any, fetch: Any) -> None:
    """The configuration is judged first: a quantised model costs a kilobyte."""
    quantised = b'{"model_type": "gemma", "quantization_config": {"quant_method": "bitsandbytes"}}'
    hub.add("acme/small", {"main": {"config.json": quantised, "model.safetensors": b"x" * 1000}})
    assert fetch.error("main", "acme/small", judge=read_folder).code == "M108"
    assert not any("model.safetensors" in name for name in hub.fetched())


@pytest.mark.parametrize(
    ("index", "problem"),
    [
        (b"no json", "is not valid"),
        (b"[]", "is not valid"),
        (b'{"weight_map": {}}', "names no file"),
        (b'{"weight_map": {"a": "model-7.safetensors"}}', "names files that do not exist: model-7.safetensors"),
        (b'{"weight_map": {"a": "../config.json"}}', "names files that do not exist: ../config.json"),
    ],
)
def test_an_invalid_index(hub: Any, fetch: Any, index: bytes, problem: str) -> None:
    """M404: what is wrong with the index, before any shard is fetched."""
    hub.add("acme/sharded", {"main": {"config.json": b"{}", "model.safetensors.index.json": index}})
    error = fetch.error(None, "acme/sharded")
    assert (error.code, type(error)) == ("M404", InputInvalid)
    assert f"the index of the weights of acme/sharded at its default revision {problem}" in str(error)


@pytest.mark.usefixtures("with_token")
@pytest.mark.parametrize(("status", "waits"), [(500, 4), (503, 4), (429, 4), (408, 4)])
def test_a_hub_that_does_not_work(hub: Any, says: Callable[..., None], fetch: Any, status: int, waits: int) -> None:
    """A temporary failure is tried five times; the server's own text is left out."""
    hub.statuses = [(status, {})] * 5
    says(
        RemoteRefused,
        f"error[M405]: fetching acme/tiny-gemma at revision flax failed (HTTP {status})\n"
        "  --> acme/tiny-gemma\n"
        "   = help: the hub is busy or down: run again later, it resumes where it stopped",
    )
    assert len(fetch.named("hub_retry")) == waits


@pytest.mark.usefixtures("with_token")
@pytest.mark.parametrize(
    ("status", "reason"), [(418, "HTTP 418"), (200, "the response is not a hub's: JSONDecodeError")]
)
def test_a_response_that_is_not_a_hubs(
    hub: Any, says: Callable[..., None], fetch: Any, status: int, reason: str
) -> None:
    """A login page or a proxy in between: requested once, with a hint where to look."""
    hub.statuses = [(status, {"Content-Type": "text/html"})]
    says(
        RemoteRefused,
        f"error[M405]: fetching acme/tiny-gemma at revision flax failed ({reason})\n"
        "  --> acme/tiny-gemma\n"
        "   = help: check HF_ENDPOINT, and what is between this machine and the hub (a proxy, a login page)",
    )
    assert fetch.named("hub_retry") == []


def test_no_network(hub: Any, says: Callable[..., None]) -> None:
    """No server: how to continue without."""
    hub.__exit__()
    says(
        RemoteRefused,
        "error[M403]: the hub cannot be reached (ConnectError), and acme/tiny-gemma at revision flax is not "
        "complete in the cache\n"
        "  --> acme/tiny-gemma\n"
        "   = help: connect to the network, on Kaggle: Settings > Internet, or fetch it elsewhere and give model.path\n"
        "           what has been fetched so far is kept",
    )


def test_offline_mode(hub: Any, says: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE and an empty cache: no request is sent."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    says(
        RemoteRefused,
        "error[M403]: the hub is switched off (HF_HUB_OFFLINE), and acme/tiny-gemma at revision flax is not "
        "complete in the cache\n"
        "  --> acme/tiny-gemma\n"
        "   = help: unset HF_HUB_OFFLINE once to fetch it, or fetch it elsewhere and give model.path",
    )
    assert hub.requests == []


def test_the_address_in_a_hint_has_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_ENDPOINT may contain the user and password of a mirror."""
    from engine.trainer.hub.hub_client import HubClient

    assert (
        HubClient("https://somebody:secret@mirror.example:8443/hf?key=1").address() == "https://mirror.example:8443/hf"
    )


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["README.md", "data/other.jsonl"], "name the file with path: …; files of this kind: data/other.jsonl"),
        (
            ["README.md", "data/train-0.parquet", "data/train-1.parquet"],
            "only JSONL is read, and it has data/train-0.parquet, data/train-1.parquet; convert it into the project with "
            'pandas and name that file as dataset: {path: data/rows.jsonl}:\npython -c "import pandas; pandas.read_parquet('
            "'hf://datasets/acme/rows@main/data/train-0.parquet').to_json('data/rows.jsonl', orient='records', lines=True, "
            'force_ascii=False)"',
        ),
        ([f"part-{n}.csv" for n in range(7)], "part-3.csv, part-4.csv and 2 more; convert"),
        (["README.md", "rows.arrow"], "only JSONL is read, and it has: README.md, rows.arrow"),
        ([], "only JSONL is read, and it has: no files"),
    ],
)
def test_a_dataset_without_jsonl_says_what_it_has(names: list[str], says: str) -> None:
    """M409 lists the files of the wanted kind, else the tables of other kinds with the command that converts one."""
    error = no_file(Repository("acme/rows", "main", "dataset"), ["train.jsonl", "data/train.jsonl"], names)
    (found,) = error.diagnostics
    assert (found.code, found.message) == ("M409", "dataset acme/rows has no train.jsonl or data/train.jsonl")
    assert says in (found.hint or "")
