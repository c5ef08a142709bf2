"""Secrets are found in bytes in every spelling, those of others by their shape, ordinary text is left alone, in linear time."""

from __future__ import annotations

import base64
import codecs
import hashlib
import html
import json
import random
import shlex
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator

import pytest

from engine.redact import find_secrets, redact

SECRET = "Zq7/tR+9vK_x2Lm&84Pw=c1Ys"
ENVIRON = {"MY_SERVICE_TOKEN": SECRET}
RAW = SECRET.encode()
QUOTED = urllib.parse.quote(SECRET, safe="")


def _wrapped(text: str, width: int, by: str) -> str:
    return by.join(text[start : start + width] for start in range(0, len(text), width))


SPELLINGS: dict[str, str] = {
    "raw": SECRET,
    "reversed": SECRET[::-1],
    "upper case": SECRET.upper(),
    "lower case": SECRET.lower(),
    "rot13": codecs.encode(SECRET, "rot13"),
    "base64": base64.b64encode(RAW).decode(),
    "base64, 1 byte in": base64.b64encode(b"u" + RAW + b"v").decode(),
    "base64, 2 bytes in": base64.b64encode(b"me:" * 3 + b"ab" + RAW + b"vw").decode(),
    "base64 of URLs": base64.urlsafe_b64encode(RAW).decode().rstrip("="),
    "base64 over lines": _wrapped(base64.b64encode(b"x" * 40 + RAW + b"y" * 40).decode(), 16, "\n"),
    "base64 over JSON lines": json.dumps(_wrapped(base64.b64encode(RAW).decode(), 10, "\n")),
    "base64 of UTF-16": base64.b64encode(SECRET.encode("utf-16-le")).decode(),
    "base64 twice": base64.b64encode(base64.b64encode(RAW)).decode(),
    "base64 of reversed": base64.b64encode(RAW[::-1]).decode(),
    "base32": base64.b32encode(RAW).decode(),
    "base32, 3 bytes in": base64.b32encode(b"abc" + RAW).decode(),
    "base85": base64.b85encode(RAW).decode(),
    "ascii85": base64.a85encode(RAW).decode(),
    "hex": RAW.hex(),
    "HEX": RAW.hex().upper(),
    "hex with colons": RAW.hex(":"),
    "hex of reversed": RAW[::-1].hex(),
    "hex dump": _wrapped(RAW.hex(" "), 24, "\n"),
    "C escapes": "".join(f"\\x{byte:02x}" for byte in RAW),
    "C array": ", ".join(f"0x{byte:02X}" for byte in RAW),
    "numbers": json.dumps(list(RAW)),
    "octal escapes": "".join(f"\\{byte:03o}" for byte in RAW),
    "JSON escapes": "".join(f"\\u{byte:04x}" for byte in RAW),
    "URL-quoted": QUOTED,
    "URL-quoted but for the slash": urllib.parse.quote(SECRET),
    "URL-quoted wholly": "".join(f"%{byte:02X}" for byte in RAW),
    "URL-quoted twice": urllib.parse.quote(QUOTED, safe=""),
    "JSON": json.dumps(SECRET),
    "JSON of JSON": json.dumps(json.dumps({"k": SECRET})),
    "JSON of PHP": json.dumps(SECRET).replace("/", "\\/"),
    "repr of bytes": repr(RAW),
    "HTML": html.escape(SECRET),
    "HTML numbers": "".join(f"&#{byte};" for byte in RAW),
    "HTML hex": "".join(f"&#x{byte:x};" for byte in RAW),
    "shell": shlex.quote(SECRET),
    "over lines": _wrapped(SECRET, 6, "\n"),
    "over CRLF lines, indented": _wrapped(SECRET, 6, "\r\n      "),
    "over JSON lines": json.dumps({"text": _wrapped(SECRET, 6, "\n")}),
    "over continued lines": _wrapped(SECRET, 8, '" \\\n    "'),
    "spaced": " ".join(SECRET),
    "list of characters": json.dumps(list(SECRET)),
    "quoted-printable": "".join(f"={byte:02X}" for byte in RAW),
    "UTF-16": SECRET.encode("utf-16-le").decode(),
    "full width": SECRET.translate({code: code + 0xFEE0 for code in range(0x21, 0x7F)}),
    "zero-width joined": "\u200b".join(SECRET),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_secret_is_found_and_masked(spelling: str) -> None:
    """The finding has file, line and variable; the mask covers what could be read back."""
    form, line = SPELLINGS[spelling], 5 if spelling == "base64 over lines" else 2  # there it begins in the fourth line
    text = f'{{"first": "line"}}\nthe value is {form} it was\n'
    assert find_secrets({"log.txt": text.encode()}, ENVIRON) == [(f"log.txt:{line}", "the value of MY_SERVICE_TOKEN")]
    shown = redact(text, ENVIRON)
    assert shown.startswith('{"first": "line"}\nthe value is ')
    assert form not in shown
    assert find_secrets({"log.txt": shown.encode()}, ENVIRON) == []


def test_a_name_that_is_a_secret_is_found_and_not_shown() -> None:
    """A file may be named by a secret; the place then has the mask."""
    assert find_secrets({f"x_{'hf_' + 'Ab3' * 10}.txt": b""}) == [("the name x_***.txt", "a Hugging Face token")]


_random = random.Random(20260101)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def some(length: int, alphabet: str = LETTERS) -> str:
    """Characters as a service draws them."""
    return "".join(_random.choices(alphabet, k=length))


HEX, CAPITALS = "0123456789abcdef", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + some(43)
TOKENS: dict[str, str] = {
    "Hugging Face": "hf_" + some(34),
    "Hugging Face, organisation": "api_org_" + some(34),
    "Kaggle": "KGAT_" + some(32, HEX),
    "Kaggle file": json.dumps({"username": "somebody", "key": some(32, HEX)}),
    "Anthropic": "sk-ant-api03-" + some(93) + "AA",
    "OpenAI": "sk-" + some(20) + "T3BlbkFJ" + some(20),
    "OpenAI project": "sk-proj-" + some(40) + "-" + some(40),
    "OpenAI service": "sk-svcacct-" + some(60),
    "Google": "AIza" + some(35),
    "Google OAuth": "ya29." + some(60),
    "Google client": "GOCSPX-" + some(28),
    "GitLab": "glpat-" + some(20),
    "GitLab runner": "glrt-" + some(20),
    "GitHub": "ghp_" + some(36),
    "GitHub server": "ghs_" + some(36),
    "GitHub fine-grained": "github_pat_" + some(22) + "_" + some(59),
    "PyPI": "pypi-AgEIcHlwaS5vcmc" + some(80),
    "npm": "npm_" + some(36),
    "npmrc": "//registry.example.org/:_authToken=" + some(36),
    "Stripe": "sk_live_" + some(24),
    "Stripe restricted": "rk_test_" + some(24),
    "Stripe webhook": "whsec_" + some(32),
    "Slack": "xoxb-" + some(11, "0123456789") + "-" + some(12, "0123456789") + "-" + some(24),
    "Slack app": "xapp-1-A" + some(10) + "-" + some(13, "0123456789") + "-" + some(64, HEX),
    "Slack webhook": "https://hooks.slack.com/services/T" + some(8) + "/B" + some(8) + "/" + some(24),
    "JWT": JWT,
    "AWS": "AKIA" + some(16, CAPITALS),
    "AWS session": "ASIA" + some(16, CAPITALS),
    "AWS secret": "aws_secret_access_key = " + some(40, LETTERS + "/+"),
    "Azure storage": "DefaultEndpointsProtocol=https;AccountName=x;AccountKey=" + some(86) + "==",
    "Azure signature": "https://x.blob.core.windows.net/c?sv=2022-11-02&sr=c&sig=" + some(43) + "%3D",
    "Azure client": some(3) + "8Q~" + some(34),
    "NVIDIA": "nvapi-" + some(64),
    "W&B": "WANDB_API_KEY=" + some(40, HEX),
    "W&B login": "wandb login " + some(40, HEX),
    "W&B netrc": "machine api.wandb.ai\n  login user\n  password " + some(40, HEX),
    "address": "postgres://alice:s3cr-et@db.example.org:5432/x",
    "Basic": "Authorization: Basic " + base64.b64encode(b"alice:wonderland").decode(),
    "Bearer": '{"Authorization": "Bearer ' + some(40) + '"}',
    "token header": "curl -H 'Authorization: token " + some(40, HEX) + "'",
    "PEM": "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE" + some(60) + "\n-----END RSA PRIVATE KEY-----",
    "PEM of SSH": "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3Bl" + some(60) + "\n-----END OPENSSH PRIVATE KEY-----",
    "PGP": "-----BEGIN PGP " + "PRIVATE KEY BLOCK-----\n\nlQ" + some(60) + "\n-----END PGP PRIVATE KEY BLOCK-----",
    "age": "AGE-SECRET-KEY-1" + some(58, CAPITALS),
    "PuTTY": "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nPrivate-Lines: 1\n" + some(48),
    "Databricks": "dapi" + some(32, HEX),
    "Docker": "dckr_pat_" + some(27),
    "Telegram": some(10, "123456789") + ":AA" + some(33),
    "password": 'password: "' + some(12) + '7x"',
}  # fmt: skip
AROUND: tuple[Callable[[str], str], ...] = (
    lambda token: f"see {token} there",
    lambda token: json.dumps({"text": f"first\n{token}\nlast"}),
    lambda token: json.dumps(json.dumps({"text": f"\t{token}"})),
)


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
def test_every_shape_is_found_and_masked_wherever_it_stands(token: str) -> None:
    """In a sentence, in JSON after an escaped line break, and in JSON within JSON."""
    for around in AROUND:
        text = around(token)
        assert find_secrets({"a.txt": f"\n{text}".encode()}), text
        assert find_secrets({"a.txt": redact(text, {}).encode()}) == [], redact(text, {})


def _comment(token: str, mark: str) -> str:
    return "\n".join(f"{mark} {token[start : start + 12]}" for start in range(0, len(token), 12))


HIDDEN: dict[str, Callable[[str], str]] = {
    "base64": lambda token: base64.b64encode(token.encode()).decode(),
    "base64, 1 byte in": lambda token: base64.b64encode(b"u " + token.encode() + b" v").decode(),
    "base64, 2 bytes in": lambda token: base64.b64encode(b"me: " + token.encode() + b" vw").decode(),
    "base64 after a path": lambda token: "data/" + base64.b64encode(token.encode()).decode(),
    "base64 of URLs": lambda token: base64.urlsafe_b64encode(token.encode()).decode().rstrip("="),
    "base64 twice": lambda token: base64.b64encode(base64.b64encode(token.encode())).decode(),
    "base64 over lines": lambda token: _wrapped(
        base64.b64encode(b"x" * 30 + b" " + token.encode() + b" ").decode(), 24, "\n"
    ),
    "hex": lambda token: token.encode().hex(),
    "HEX": lambda token: token.encode().hex().upper(),
    "URL-quoted wholly": lambda token: "".join(f"%{byte:02X}" for byte in token.encode()),
    "URL-quoted": lambda token: urllib.parse.quote(token, safe="").replace("_", "%5F").replace("-", "%2D"),
    "JSON escapes": lambda token: "".join(f"\\u{byte:04x}" for byte in token.encode()),
    "C escapes": lambda token: "".join(f"\\x{byte:02x}" for byte in token.encode()),
    "HTML numbers": lambda token: "".join(f"&#{byte};" for byte in token.encode()),
    "HTML hex": lambda token: "".join(f"&#x{byte:x};" for byte in token.encode()),
    "reversed": lambda token: token[::-1],
    "base64 of reversed": lambda token: base64.b64encode(token[::-1].encode()).decode(),
}
OVER_LINES: dict[str, Callable[[str], str]] = {
    "comments": lambda token: _comment(token, "#"),
    "comments of C": lambda token: _comment(token, "//"),
    "comments of SQL": lambda token: _comment(token, "--"),
    "comments in JSON": lambda token: json.dumps(_comment(token, "#")),
    "lines": lambda token: _wrapped(token, 12, "\n"),
    "CRLF lines, indented": lambda token: _wrapped(token, 12, "\r\n      "),
    "continued lines": lambda token: _wrapped(token, 12, "\\\n"),
    "continued texts": lambda token: _wrapped(token, 12, '" \\\n    "'),
    "texts that follow each other": lambda token: _wrapped(token, 12, '"\n    "'),
}
PLAIN = [
    name
    for name, token in TOKENS.items()
    if not set(token) & set(" \n\"'=:/") and name not in ("Azure client", "Telegram")
]


@pytest.mark.parametrize("spelling", HIDDEN)
def test_every_shape_is_found_in_every_spelling(spelling: str) -> None:
    """Encoded, escaped, backwards; and what is masked cannot be read back."""
    missed = []
    for name, token in TOKENS.items():
        text = f"first\nsee {HIDDEN[spelling](token)} there\n"
        if not find_secrets({"a.txt": text.encode()}):
            missed.append(name)
        assert find_secrets({"a.txt": redact(text, {}).encode()}) == [], (name, redact(text, {}))
    assert missed == []


@pytest.mark.parametrize("layout", OVER_LINES)
def test_a_token_over_lines_is_found(layout: str) -> None:
    """As comments, as continued lines and texts."""
    assert len(PLAIN) > 25
    missed = [
        name for name in PLAIN if not find_secrets({"a.txt": f'x\n"{OVER_LINES[layout](TOKENS[name])}"\n'.encode()})
    ]
    assert missed == []


def test_the_place_of_a_hidden_secret_is_where_it_stands() -> None:
    """Line and spelling, and the mask covers it and no more."""
    token = TOKENS["Hugging Face"]
    for form, how in ((token.encode().hex(), "in hex"), (base64.b64encode(token.encode()).decode(), "in base64"),
                      (token[::-1], "backwards"), ("".join(f"%{byte:02x}" for byte in token.encode()), "escaped")):  # fmt: skip
        text = f"a\nb %20 \\u0041 see {form} there"
        assert find_secrets({"a.txt": text.encode()}) == [("a.txt:2", f"a Hugging Face token, {how}")]
        before, _, after = redact(text, {}).partition("***")
        assert (before, after.lstrip("=")) == ("a\nb %20 \\u0041 see ", " there")


def test_what_a_large_file_held_is_remembered() -> None:
    """The same answer the second time, in a tenth of the time; another file has its own."""
    data = "".join(f'{{"id": "{number}", "text": "so\\nAnswer: {number}"}}\n' for number in range(60_000)).encode()
    began = time.process_time()
    first = find_secrets({"a.jsonl": data})
    between = time.process_time()
    assert find_secrets({"a.jsonl": bytes(bytearray(data))}) == first == []
    assert (time.process_time() - between) < (between - began) / 2
    assert find_secrets({"a.jsonl": data + TOKENS["GitHub"].encode()}) == [("a.jsonl:60001", "a GitHub token")]


FORMS = (
    "HF_TOKEN=hf_" + "x" * 34, "export HF_TOKEN=hf_" + "X" * 34, "AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "postgres://root:root@localhost/db",
    "postgres://user:password@localhost:5432/x", "http://admin:admin@10.0.0.1/", "http://localhost:8080@x", "https://example.org:443@y",
    "ghp_" + "0" * 36, "sk-ant-" + "x" * 26, "redis://:xxxxxxxx@localhost",
)  # fmt: skip


@pytest.mark.parametrize("text", FORMS)
def test_what_shows_the_form_of_a_secret_is_none(text: str) -> None:
    """Placeholders of documents, defaults that everybody knows, a host with its port."""
    for around in ("type `{}` here\n", "{}\n# next line\n", "# {}\n# yaml-language-server: x\n", '"{}"\n"more"\n'):
        assert find_secrets({"a.md": around.format(text).encode()}) == [], around
    assert redact(text, {}) == text


def _ordinary() -> Iterator[str]:
    """200 texts of the kinds that evidence is made of."""
    words = [
        "the",
        "model",
        "answers",
        "loss",
        "token",
        "key",
        "secret",
        "rate",
        "of",
        "a",
        "step",
        "gradient",
        "checkpoint",
        "password",
        "sum",
        "tokenizer",
        "basic",
    ]
    for number in range(20):
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        yield json.dumps({"commit_sha": digest[:40], "sha256": digest, "cache_key": digest[:32], "key": digest[:32]})
        yield f"{uuid.UUID(int=_random.getrandbits(128))} {uuid.UUID(int=_random.getrandbits(128)).hex.upper()}"
        yield base64.b64encode(_random.randbytes(3000)).decode()
        yield base64.urlsafe_b64encode(_random.randbytes(3000)).decode()
        yield json.dumps(
            {"text": f"{number} * 7 = {number * 7}\n#### {number * 7}", "x": [_random.random() for _ in range(30)]}
        )
        yield f"google/gemma-3-{number}b-it-qat-q4_0-unquantized https://huggingface.co/docs/hub/security-tokens?page={number}"
        yield f"https://user.example.org:8080/a/b@v{number}/c ssh://git@host.example.org:2222/x mailto:a{number}@example.org"
        yield f"hf_hub_download_with_retries{number} sk-learn risk-adjusted-return-on-capital-{number} npm_package_config_registry_{number}"
        yield (
            "def f(api_key: str, token=os.environ['HF_TOKEN'], password=getpass()): return Authorization_required\n" * 2
        )
        yield (
            " ".join(_random.choices(words, k=200))
            + f": {number}; authorization: required, Bearer of news, eos_token: <end_of_turn>"
        )


def test_ordinary_texts_are_no_secrets() -> None:
    """Digests, identifiers, base64 data, addresses, code and sums: no false alarm in 200, and nothing is masked."""
    texts = list(_ordinary())
    assert len(texts) == 200
    for text in texts:
        assert find_secrets({"a.txt": text.encode()}, ENVIRON) == [], text
        assert redact(text, ENVIRON) == text


@pytest.mark.parametrize(
    "name", ["TOKENIZER", "TOKENIZERS_PARALLELISM", "KEYBOARD_LAYOUT", "GOOGLE_APPLICATION_CREDENTIALS", "PATH"]
)
def test_variables_that_hold_no_secret(name: str) -> None:
    """A tokenizer's name is in every evidence, and is no token."""
    assert find_secrets({"a.txt": b"google/gemma-3-270m"}, {name: "google/gemma-3-270m"}) == []


HOSTILE = ("%41", "\\u0041", "ab\nc", "abc\n# ", "abc\\n", "abcd+/", "6162", "YWJj" * 8 + " ", "&#65;", "yek", "//:", "eyJ-", "eyJaaaaaaaa.", "hf_", "://", "://a:", "api_key=", "password=", "-----BEGIN " + "PRIVATE KEY-----", "sk-",
           "machine a login ", "PuTTY-User-Key-File-2:", "hf_abcdefghij1234567890 ", "a", "\\n", SECRET + "\n")  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_the_search_is_linear(unit: str) -> None:
    """Eight times the text takes about eight times as long, where a quadratic search would take 64 times."""

    def seconds(size: int) -> float:
        data = (unit * (size // len(unit))).encode()
        began = time.process_time()
        find_secrets({"a.txt": data}, ENVIRON)
        return time.process_time() - began

    small = min(seconds(1 << 13) for _ in range(3))
    assert min(seconds(1 << 16) for _ in range(2)) < 24 * small + 0.02
