"""Signing as somebody and verifying who signed, by the real library, with an instance on loopback (the extra sigstore).

Run where it is installed: `pip install 'runspec-engine[sigstore]'`. What no test can have here is the public instance: its servers, its trust
root's refresh, and a person at a browser.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import urlopen

import pytest

pytest.importorskip("sigstore", reason="the extra sigstore is not installed")

from engine.cli import main
from engine.evidence import package, verify
from engine.evidence.about import SIGSTORE, STATEMENT
from engine.evidence.contents import Reader
from engine.evidence.signing.signatures import examine_bundle
from engine.evidence.signing.sigstore_sign import Instance as Place
from engine.evidence.signing.sigstore_sign import trusted_identity
from tests.evidence.signing.sigstore_instance import Instance, b64, identity_token, new_key, signed
from tests.evidence.signing.sigstore_timestamps import Timestamps

pytestmark = pytest.mark.filterwarnings("default")  # of the library and what it stands on
ISSUER = "https://issuer.example"
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """``say("sign", folder)`` -> exit code, standard output, standard error; nothing of this machine's surroundings counts."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "RUNSPEC_IDENTITY_TOKEN", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)

    def call(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def instance() -> Iterator[Instance]:
    """Served while the test runs."""
    made = Instance()
    with made.served():
        yield made


@pytest.fixture
def config(instance: Instance, tmp_path: Path) -> Path:
    """Its trust configuration."""
    return _config(instance, tmp_path / "trust_config.json")


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """Somebody's, for five minutes."""
    (tmp_path / "token").write_text(identity_token() + "\n")
    return tmp_path / "token"


def _config(instance: Instance, path: Path) -> Path:
    path.write_text(json.dumps(instance.trust_config()))
    return path


def _asked(identity: str = "ann@example.org", issuer: str = ISSUER) -> tuple[str, ...]:
    return "--trust-identity", identity, "--trust-issuer", issuer


def _v23(out: str) -> str:
    [row] = [row for row in json.loads(out)["checks"] if row["id"] == "V23"]
    return f"{row['status']}: {row['detail']}"


def test_somebody_signs_and_a_reader_verifies_without_the_instance(
    folder: Path, config: Path, token: Path, instance: Instance, say: Say, tmp_path: Path
) -> None:
    """A bundle of version 0.3 with the statement's very bytes; folder and zip; L1 for who was asked for, 5 for anybody else."""
    code, out, err = say("sign", folder, "--sigstore", "--identity-token", token, "--trust-config", config)
    assert (code, err) == (0, "")
    assert out.startswith(f"{folder}: signed as ann@example.org\n")
    assert token.read_text().strip() not in out
    bundle = json.loads((folder / SIGSTORE).read_bytes())
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert bundle["dsseEnvelope"]["payloadType"] == "application/vnd.in-toto+json"
    assert bundle["dsseEnvelope"]["payload"] == b64((folder / STATEMENT).read_bytes())
    archive = package(folder, tmp_path / "submission", "toy")
    instance.refuses = dict.fromkeys(("/api/v2/signingCert", "/api/v1/log/entries"), 500)
    for path in (folder, archive):
        code, out, err = say("verify", path, *_asked(), "--trust-config", config, "--json")
        assert (code, json.loads(out)["trust_level"], err) == (0, "L1", "")
        assert _v23(out) == "pass: signed by ann@example.org (by https://issuer.example), an identity that you trust"
    for asked, finding in (
        (_asked("bob@example.org"), "signed by 'ann@example.org', and you asked for bob@example.org"),
        (
            _asked(issuer="https://other.example"),
            f"signed by ann@example.org as '{ISSUER}' knows them, and you asked for https://other.example",
        ),
    ):
        code, out, _ = say("verify", folder, *asked, "--trust-config", config, "--json")
        assert (code, _v23(out)) == (5, f"fail: provenance.sigstore.json: {finding}")


def test_a_zip_is_signed_and_a_second_bundle_replaces_the_first(
    archive: Path, config: Path, token: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle has one signature; that another one was there is said. The token may come from the environment."""
    assert say("sign", archive, "--sigstore", "--identity-token", token, "--trust-config", config)[0] == 0
    monkeypatch.setenv("RUNSPEC_IDENTITY_TOKEN", identity_token(sub="bob@example.org"))
    code, out, _ = say("sign", archive, "--sigstore", "--trust-config", config, "--json")
    assert (code, json.loads(out)) == (0, {
        "ok": True, "evidence": str(archive), "package": None, "fresh": True, "key": None, "fingerprint": None,
        "signers": ["bob@example.org"], "identity": "bob@example.org", "replaced": True,
    })  # fmt: skip
    code, out, _ = say("verify", archive, *_asked("bob@example.org"), "--trust-config", config, "--json")
    assert (code, json.loads(out)["trust_level"]) == (0, "L1")


def test_what_keeps_somebody_from_signing_is_named(
    folder: Path,
    config: Path,
    token: Path,
    instance: Instance,
    say: Say,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The token, the trust configuration, the instance's refusal; nothing is written, and no token is shown."""
    texts = {
        "old": identity_token(seconds=-60),
        "others": identity_token(aud="somebody else"),
        "torn": "abc",
        "empty": "",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "config.txt").write_text("{}")
    monkeypatch.setattr("engine.evidence.signing.sigstore_library.detect_credential", lambda: None)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    known, own = ("--trust-config", config), ("--identity-token", token)
    for words, code, error in (
        ((*known, "--identity-token", tmp_path / "old"), 2, "error[U171]: the identity token has expired"),
        (
            (*known, "--identity-token", tmp_path / "others"),
            2,
            "error[U170]: the identity token cannot be used: Audience doesn't match",
        ),
        ((*known, "--identity-token", tmp_path / "torn"), 2, "error[U170]: the identity token cannot be used"),
        (
            (*known, "--identity-token", tmp_path / "empty"),
            2,
            "error[U170]: the identity token cannot be used: there is none",
        ),
        ((*known, "--identity-token", tmp_path / "none"), 2, "error[U170]: the identity token"),
        (known, 2, "error[U170]: the identity token cannot be used: there is none"),
        ((*own, "--trust-config", tmp_path / "none"), 2, "error[U172]: the trust configuration"),
        ((*own, "--trust-config", tmp_path / "config.txt"), 2, "error[U172]: the trust configuration cannot be used"),
    ):
        done = say("sign", folder, "--sigstore", *words)
        assert (done[0], error in done[2]) == (code, True), done
        assert not any(text and text in done[2] for text in texts.values())
    for path in ("/api/v2/signingCert", "/api/v1/log/entries"):
        instance.refuses = {path: 403}
        done = say("sign", folder, "--sigstore", *known, *own)
        assert (done[0], "error[U174]: the sigstore instance gave no signature that verifies" in done[2]) == (8, True)
        assert "403" in done[2]
    assert not (folder / SIGSTORE).exists()


def test_a_ci_job_signs_by_itself_and_a_person_in_a_browser(
    folder: Path, config: Path, instance: Instance, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither types a token: the job's comes from its CI, the person's from the provider that the instance names."""
    workflow = "https://ci.example/ann/runs/.github/workflows/run.yaml@refs/heads/main"
    instance.job = identity_token(issuer="https://ci.example", sub=workflow)
    instance.person = identity_token(sub="person@example.org")
    job = {
        "GITHUB_ACTIONS": "true",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "abc",
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{instance.url}/ci",
    }
    with monkeypatch.context() as in_ci:
        for name, value in job.items():
            in_ci.setenv(name, value)
        code, out, err = say("sign", folder, "--sigstore", "--trust-config", config)
    assert (code, out.split("\n")[0], err) == (0, f"{folder}: signed as {workflow}", "")
    assert say("verify", folder, *_asked(workflow, "https://ci.example"), "--trust-config", config)[0] == 0
    monkeypatch.setattr("engine.evidence.signing.sigstore_library.detect_credential", lambda: None)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("webbrowser.open", lambda address: Thread(target=urlopen, args=(address,)).start() or True)
    code, out, _ = say("sign", folder, "--sigstore", "--trust-config", config)
    assert (code, out.split("\n")[0]) == (0, f"{folder}: signed as person@example.org (replaces another {SIGSTORE})")
    assert say("verify", folder, *_asked("person@example.org"), "--trust-config", config)[0] == 0
    instance.refuses = {"/token": 400}
    code, _, err = say("sign", folder, "--sigstore", "--trust-config", config)
    assert (code, "error[U170]: the identity token cannot be used: Token request failed with 400" in err) == (2, True)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_time_of_a_timestamp_authority_counts_too(
    folder: Path, token: Path, instance: Instance, say: Say, tmp_path: Path
) -> None:
    """As at the public instance: the log's time and the authority's. Without that authority in the trust root it is refused."""
    without = _config(instance, tmp_path / "without.json")
    (tmp_path / "time").mkdir()
    instance.timestamps = Timestamps(tmp_path / "time")
    config = _config(instance, tmp_path / "with.json")
    code, _, err = say("sign", folder, "--sigstore", "--identity-token", token, "--trust-config", config)
    assert (code, err) == (0, "")
    stamped = json.loads((folder / SIGSTORE).read_bytes())["verificationMaterial"]["timestampVerificationData"]
    assert len(stamped["rfc3161Timestamps"]) == 1
    assert say("verify", folder, *_asked(), "--trust-config", config)[0] == 0
    code, out, _ = say("verify", folder, *_asked(), "--trust-config", without, "--json")
    assert (code, "it does not verify: no Timestamp Authorities have been provided" in _v23(out)) == (5, True)


def test_an_instance_that_does_not_answer(folder: Path, token: Path, say: Say, tmp_path: Path) -> None:
    """Exit code 8. Nobody listens at the port."""
    config = _config(Instance(), tmp_path / "nobody.json")
    code, _, err = say("sign", folder, "--sigstore", "--identity-token", token, "--trust-config", config)
    assert (code, "error[U173]: the sigstore instance cannot be reached" in err) == (8, True)
    assert not (folder / SIGSTORE).exists()


def test_an_instance_whose_keys_are_others_signs_nothing(
    folder: Path, config: Path, token: Path, instance: Instance, say: Say
) -> None:
    """What it answers is verified by the trust root before it is written: authority, certificate log, transparency log."""
    for part in ("certificate_log", "transparency_log"):
        before = getattr(instance, part)
        setattr(instance, part, new_key())
        done = say("sign", folder, "--sigstore", "--identity-token", token, "--trust-config", config)
        assert (done[0], "error[U174]" in done[2]) == (8, True), part
        setattr(instance, part, before)
    assert not (folder / SIGSTORE).exists()


@pytest.fixture
def good(folder: Path, config: Path, token: Path, say: Say) -> dict[str, Any]:
    """A signed bundle."""
    assert say("sign", folder, "--sigstore", "--identity-token", token, "--trust-config", config)[0] == 0
    document: dict[str, Any] = json.loads((folder / SIGSTORE).read_bytes())
    return document


def _entry(bundle: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = bundle["verificationMaterial"]["tlogEntries"][0]
    return entry


def test_parts_of_other_bundles_are_refused_by_name(
    folder: Path, good: dict[str, Any], config: Path, token: Path, instance: Instance, say: Say, tmp_path: Path
) -> None:
    """A signature over other bytes, the certificate or the log's entry of another signing, another instance's trust root."""
    assert say("sign", folder, "--sigstore", "--identity-token", token, "--trust-config", config)[0] == 0
    other = json.loads((folder / SIGSTORE).read_bytes())
    over = copy.deepcopy(good)
    over["dsseEnvelope"]["signatures"][0]["sig"] = b64(signed(new_key(), b"other bytes"))
    certificate, entry, late = copy.deepcopy(good), copy.deepcopy(good), copy.deepcopy(good)
    certificate["verificationMaterial"]["certificate"] = other["verificationMaterial"]["certificate"]
    entry["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]
    _entry(late)["integratedTime"] = str(int(_entry(late)["integratedTime"]) + 3600)
    strangers = _config(Instance(), tmp_path / "strangers.json")
    for bundle, root, finding in (
        (over, config, "the signature does not fit: it is over other bytes"),
        (certificate, config, "the signature does not fit: it is over other bytes"),
        (entry, config, "it does not verify: log entry signatures do not match bundle"),
        (late, config, "its certificate is by no authority of the trust root, or was not valid when it signed"),
        (good, strangers, "its certificate is by no authority of the trust root, or was not valid when it signed"),
    ):
        (folder / SIGSTORE).write_text(json.dumps(bundle))
        code, out, _ = say("verify", folder, *_asked(), "--trust-config", root, "--json")
        assert (code, _v23(out)) == (5, f"fail: provenance.sigstore.json: {finding}")


def test_no_changed_leaf_of_a_bundle_passes(folder: Path, good: dict[str, Any], config: Path) -> None:
    """Every value replaced by six others, one at a time: refused, whatever the library makes of it."""
    trust, statement = (
        trusted_identity("ann@example.org", ISSUER, Place(config=config), offline=False),
        (folder / STATEMENT).read_bytes(),
    )
    passed = []
    for path in _leaves(good):
        for value in (None, "", 0, "AAAA", [], {"a": 1}):
            changed = copy.deepcopy(good)
            *parents, last = path
            place: Any = changed
            for key in parents:
                place = place[key]
            if place[last] == value:
                continue
            place[last] = value
            answer = examine_bundle(statement, json.dumps(changed).encode(), changed, trust).answer
            passed += [(path, value)] if answer[0] != "fail" else []
    assert examine_bundle(statement, json.dumps(good).encode(), good, trust).answer[0] == "pass"
    assert passed == []


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    children = [leaf for key, child in items for leaf in _leaves(child, (*path, key))]
    yield from children or [path]


def test_offline_the_public_trust_root_is_the_one_that_came_with_the_library(
    folder: Path, good: dict[str, Any], say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network is asked; a bundle of an own instance is not by its authority. Staging has a root of its own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    for words in (("--offline",), ("--offline", "--staging")):
        code, out, err = say("verify", folder, *_asked(), *words, "--json")
        assert (code, "its certificate is by no authority of the trust root" in _v23(out), err) == (5, True, "")


def test_a_trust_root_that_cannot_be_refreshed(
    folder: Path, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """U173, with --offline as the way out; the address that does not answer is on loopback."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sigstore.models.DEFAULT_TUF_URL", "http://127.0.0.1:9")
    code, _, err = say("verify", folder, *_asked())
    assert (code, "error[U173]: the sigstore instance cannot be reached" in err, "--offline" in err) == (8, True, True)


def test_the_reader_without_the_bundle(folder: Path, config: Path) -> None:
    """Who asks gets no pass without one."""
    trust = trusted_identity("ann@example.org", ISSUER, Place(config=config), offline=False)
    assert verify(folder, Reader(identity=trust)).trust_level is None
