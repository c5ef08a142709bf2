r"""Secrets of anybody, known by their shape: tokens with a prefix, keys in armour, credentials with their name beside them.

In: bytes. Out: (start, end, kind) of every match; of ``name=value`` only the value. A new service is one row of
``TOKENS`` (prefix and length) or of ``IN_CONTEXT`` (a literal that must be there, and a pattern that begins with it).

The search is linear. A token is looked for in runs of 20 and more characters of its alphabet only, each row begins where a word
begins and has no tail that could fail after a long run. A context pattern is tried where its literal stands, and each of
its parts is bounded, so that text that repeats a literal costs a constant for each.

    >>> list(find_shapes(b"login with hf_" + b"aB3" * 11))
    [(11, 47, 'a Hugging Face token')]
    >>> list(find_shapes(b"commit 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12"))
    []
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.redact.spellings import without_escaped_space

Match = tuple[int, int, str]
_WORD = "[A-Za-z0-9_-]"

TOKENS: Mapping[str, str] = {  # what a token begins with and is made of -> by kind; letters alone may be an identifier
    "a Hugging Face token": r"(?:hf|api_org)_(?:(?=[a-z]{0,29}[A-Z0-9])[A-Za-z0-9]{20,}|[a-z]{30,})",
    "a Kaggle token": r"KGAT_[A-Za-z0-9_-]{16,}",
    "a cloud access key": r"(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}(?![A-Za-z0-9])",
    "an Alibaba Cloud access key": r"LTAI[A-Za-z0-9]{16,20}(?![A-Za-z0-9])",
    "a GitHub token": r"(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})",
    "a GitLab token": r"(?:gl(?:pat|dt|rt|cbt|ptt|ft|imt|soat|agent|oas|rtr|ffct)-[A-Za-z0-9_-]{18,}|GR1348941[A-Za-z0-9_-]{18,})",
    "an Anthropic key": r"sk-ant-[A-Za-z0-9_-]{20,}",
    "an OpenAI key": r"sk-(?:(?:proj|svcacct|admin|service|None)-[A-Za-z0-9_-]{20,}|[A-Za-z0-9]{32,})",
    "an OpenRouter key": r"sk-or-v1-[0-9a-f]{32,}",
    "a Google key": r"(?:AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{24,}|AQ\.Ab8R[A-Za-z0-9_-]{30,})",
    "a PyPI token": r"pypi-[A-Za-z0-9_-]{40,}",
    "an npm token": r"npm_[A-Za-z0-9]{36,}",
    "a Stripe key": r"(?:(?:sk|rk|pk)_(?:live|test|prod)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9]{24,})",
    "a Slack token": r"(?:xox[a-z][-.][A-Za-z0-9-]{10,}|xoxe\.xox[a-z]-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{20,})",
    "a signed web token (JWT)": rf"(?<![_-])eyJ{_WORD}{{8,}}\.eyJ{_WORD}{{8,}}\.{_WORD}{{8,}}",
    "an NVIDIA key": r"nvapi-[A-Za-z0-9_-]{20,}",
    "a Weights & Biases key": r"wandb_v[0-9]_[A-Za-z0-9_]{20,}",
    "a Groq key": r"gsk_[A-Za-z0-9]{40,}",
    "an xAI key": r"xai-[A-Za-z0-9]{40,}",
    "a Perplexity key": r"pplx-[A-Za-z0-9]{32,}",
    "a Replicate token": r"r8_[A-Za-z0-9]{30,}",
    "a Databricks token": r"dapi[0-9a-f]{32}(?![A-Za-z0-9])",
    "a Docker token": r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}",
    "a DigitalOcean token": r"do[por]_v1_[0-9a-f]{40,}",
    "a Vault token": r"hv[sbr]\.[A-Za-z0-9_-]{24,}",
    "a SendGrid key": r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,}",
    "a Twilio key": r"SK[0-9a-f]{32}(?![A-Za-z0-9])",
    "a Notion token": r"(?:ntn_[A-Za-z0-9]{40,}|secret_[A-Za-z0-9]{43}(?![A-Za-z0-9]))",
    "a Linear key": r"lin_(?:api|oauth)_[A-Za-z0-9]{32,}",
    "an Atlassian token": r"(?:ATATT3|ATCTT3|ATBB)[A-Za-z0-9_-]{20,}",
    "a Shopify token": r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
    "a Grafana token": r"(?:glsa_[A-Za-z0-9_]{32,}|glc_[A-Za-z0-9]{32,})",
    "a Sentry token": r"sntry[su]_[A-Za-z0-9_-]{32,}",
    "a Tailscale key": r"tskey-[a-z]+-[A-Za-z0-9-]{16,}",
    "a LangSmith key": r"lsv2_(?:pt|sk)_[0-9a-f]{32}",
    "a Pinecone key": r"pcsk_[A-Za-z0-9_]{30,}",
    "a Supabase token": r"sbp_[0-9a-f]{40}",
    "a Postman key": r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}",
    "a New Relic key": r"NRAK-[A-Z0-9]{27}",
    "a RubyGems key": r"rubygems_[0-9a-f]{48}",
    "a Figma token": r"figd_[A-Za-z0-9_-]{36,}",
    "an Airtable token": r"pat[A-Za-z0-9]{14}\.[0-9a-f]{64}",
    "an age key": r"AGE-(?:SECRET-KEY-1|PLUGIN-)[0-9A-Z-]{20,}",
}
# Runs are looked for where each of their characters has become an a and every other one a space: by literals, which is fast.
_RUNS = bytes(97 if chr(code).isascii() and (chr(code).isalnum() or chr(code) in "_.-") else 32 for code in range(256))
_LEAST_RUN = b"a" * 20
_NUMBER = re.compile(rb"[0-9a-f.-]*")  # a digest, a UUID, a version, a date: no row of the table is made of these alone
_TOKENS = re.compile(f"(?<![A-Za-z0-9])(?:{'|'.join(f'({pattern})' for pattern in TOKENS.values())})".encode())
_KINDS = tuple(TOKENS)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A secret known by what stands beside it: ``pattern`` begins at one of the ``literals`` (lower case)."""

    kind: str
    literals: tuple[str, ...]
    pattern: str  # with a group "value" where not all of it is the secret
    before: str = ""  # what must stand before the literal
    random: bool = False  # whether the value must look like one that a machine made
    with_user: bool = False  # whether the pattern has a group "user", beside which a value may be a default


_IS = r"[ ]{0,8}[\"']{0,2}\s{0,8}(?:=>|:=|=|:)\s{0,8}[\"']{0,2}"
_VALUE = r"(?P<value>[A-Za-z0-9_+/=.~%!-]{16,200})"
_OWNERS_OF_KEYS = (
    "(?:api|secret|access|account|private|auth|signing|encryption|master|subscription|kaggle|storage|license)[_ .-]?"
)
_OWNERS_OF_TOKENS = "(?:access|auth|api|refresh|session|bearer|bot|security|hub|user|personal)[_ .-]?|[A-Z0-9]_|--"
CONTEXTS: Sequence[Neighbour] = (
    Neighbour("a private key", ("-----begin ", "---- begin "),
            r"-{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}(?:[^-]{0,20000}-{4,5} ?END [A-Z0-9 ]{0,60}-{4,5})?"),
    Neighbour("a PuTTY key", ("putty-user-key-file-",), r"PuTTY-User-Key-File-[0-9]{1,3}:[\s\S]*"),
    Neighbour("a password in an address", ("://", ":\\/\\/"),
            r":\\?/\\?/(?P<user>[^\s/:@\"'<>\\]{0,100}):(?P<value>[^\s/@\"'<>{}$*\\]{1,200})@[A-Za-z0-9\[]", with_user=True),
    Neighbour("an Authorization header", ("authorization",),
            rf"authorization{_IS}(?:[a-z]{{3,9}}\s{{1,8}})?(?P<value>[A-Za-z0-9_+/=.~:-]{{8,}})", random=True),
    Neighbour("a bearer token", ("bearer ",), r"bearer\s{1,8}(?P<value>[A-Za-z0-9_+/=.~-]{16,200})", random=True),
    Neighbour("a key beside its name", ("key",), rf"key{_IS}{_VALUE}", _OWNERS_OF_KEYS, random=True),
    Neighbour("a token beside its name", ("token",), rf"token{_IS}{_VALUE}", _OWNERS_OF_TOKENS, random=True),
    Neighbour("a secret beside its name", ("secret",), rf"secret{_IS}{_VALUE}", random=True),
    Neighbour("a password beside its name", ("password", "passwd", "passphrase"),
            rf"pass(?:word|wd|phrase){_IS}(?P<value>[^\s\"'<>(){{}}\[\]$,;*\\]{{8,200}})", random=True),
    Neighbour("a secret on a command line", ("token ", "api-key ", "password ", "secret "),
            r"[a-z-]{1,12}\s{1,4}(?P<value>[A-Za-z0-9_+/=.~-]{12,200})", "--[a-z-]{0,20}", random=True),
    Neighbour("a password of a .netrc", ("machine ",),
            r"machine\s{1,8}\S{1,200}\s{1,8}login\s{1,8}\S{1,200}\s{1,8}password\s{1,8}(?P<value>\S{6,200})"),
    Neighbour("a Weights & Biases key", ("wandb login ", "wandb.login("), r"wandb.login.{0,20}?(?P<value>[0-9a-f]{40})"),
    Neighbour("a Kaggle key", ("username",),
            r"username[ ]{0,8}[\"']\s{0,4}:\s{0,8}[\"'][^\"']{1,100}[\"']\s{0,4},\s{0,8}[\"']key[ ]{0,8}[\"']\s{0,4}:\s{0,8}[\"'](?P<value>[0-9a-f]{32})"),
    Neighbour("an Azure signature", ("sig=",), r"sig=(?P<value>[A-Za-z0-9%+/]{40,}={0,2})"),
    Neighbour("an Azure client secret", ("q~",), r"Q~[A-Za-z0-9_~.-]{31,}", "[A-Za-z0-9_~.-]{3}[0-9]"),
    Neighbour("a Slack webhook", ("hooks.slack.com/",), r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9_/+-]{20,}"),
    Neighbour("a Discord webhook", ("/api/webhooks/",), r"/api/webhooks/[0-9]{10,}/[A-Za-z0-9_-]{30,}"),
    Neighbour("a Telegram token", (":aa",), r":AA[A-Za-z0-9_-]{32,}", "[0-9]{8}"),
    Neighbour("a Google refresh token", ("1//0",), r"1//0[A-Za-z0-9_-]{30,}"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Beside:
    """One literal of a context, compiled; ``offset``: where in it its root begins."""

    context: Neighbour
    literal: bytes
    offset: int
    pattern: re.Pattern[bytes]
    before: re.Pattern[bytes]


_BEGINNINGS = ("key", "token", "secret", "pass", "begin ", "wandb", "://", ":\\/\\/", "hooks")


def _by_root(contexts: Sequence[Neighbour]) -> Mapping[bytes, Sequence[_Beside]]:
    """Each literal contains a root, which is looked for once for all of them."""
    table: dict[bytes, list[_Beside]] = {}
    for context in contexts:
        pattern = re.compile(context.pattern.encode(), re.IGNORECASE)
        case = "" if context.before.startswith("(?:access") else "i"
        before = re.compile(rf"(?{case}:{context.before})\Z".encode())
        for literal in context.literals:
            root = next((root for root in _BEGINNINGS if root in literal), literal)
            beside = _Beside(context, literal.encode(), literal.index(root), pattern, before)
            table.setdefault(root.encode(), []).append(beside)
    return table


_ROOTS = _by_root(CONTEXTS)
_FILLERS = frozenset(b"xX0*._-")  # what documents write for the characters of a token
FORM = 8  # bytes of a token that may be its prefix
DEFAULTS = frozenset((b"password", b"passwd", b"pass", b"pwd", b"secret", b"root", b"admin", b"user", b"username", b"guest", b"test", b"postgres",
                      b"mysql", b"changeme", b"change_me", b"example", b"token", b"your_password", b"mypassword"))  # fmt: skip
_REST = re.compile(rb"[A-Za-z0-9_+/=.~%!-]*")  # of a value that is longer than its pattern looks at
DEEPEST_JSON = 3
_BEFORE = 24  # bytes before a literal that are looked at


def find_tokens(data: bytes) -> Iterator[Match]:
    """Matches of ``TOKENS`` alone, in bytes without escapes."""
    yield from _tokens(data)


def find_shapes(data: bytes) -> Iterator[Match]:
    """Every match, in no order; two kinds may match at one place."""
    data = _without_escapes(data)
    yield from _tokens(_PERCENT.sub(b"   ", data) if b"%" in data else data)
    lower = data.lower()
    for root, literals in _ROOTS.items():
        yield from _beside(root, literals, data, lower)


_PERCENT = re.compile(rb"%[0-9A-Fa-f]{2}")
_UNICODE_ESCAPE = re.compile(rb"\\u[0-9A-Fa-f]{4}")


def _without_escapes(data: bytes) -> bytes:
    """The same length; what an escape of JSON or of source code stands for does not belong to the word after it."""
    if b"\\" not in data:
        return data
    data = without_escaped_space(data)
    data = (
        (_UNICODE_ESCAPE.sub(b"      ", data) if b"\\u" in data else data).replace(b'\\"', b' "').replace(b"\\'", b" '")
    )
    for _ in range(
        DEEPEST_JSON if b'\\ "' in data or b'\\  "' in data else 0
    ):  # JSON in JSON has more backslashes before a quote
        data = data.replace(b'\\ "', b'  "').replace(b'\\  "', b'   "')
    return data


def _tokens(data: bytes) -> Iterator[Match]:
    for begin, end in _runs(data):
        if not _NUMBER.fullmatch(data, begin, end):
            for match in _TOKENS.finditer(data, begin, end):
                if not is_placeholder(match[0]):
                    yield match.start(), match.end(), _KINDS[(match.lastindex or 1) - 1]
            for match in _TOKENS.finditer(data[begin:end][::-1]):
                if not is_placeholder(match[0]):
                    kind = _KINDS[(match.lastindex or 1) - 1]
                    yield end - match.end(), end - match.start(), f"{kind}, backwards"


def _runs(data: bytes) -> Iterator[tuple[int, int]]:
    """Where 20 and more characters of a token's alphabet follow each other."""
    plain = data.translate(_RUNS)
    begin = plain.find(_LEAST_RUN)
    while begin >= 0:
        end = plain.find(b" ", begin)
        end = len(plain) if end < 0 else end
        yield begin, end
        begin = plain.find(_LEAST_RUN, end)


def _beside(root: bytes, literals: Sequence[_Beside], data: bytes, lower: bytes) -> Iterator[Match]:
    done = [0] * len(literals)  # where the last one of each has ended
    for at in find_all(lower, root):
        for number, beside in enumerate(literals):
            position = at - beside.offset
            if position >= done[number] and lower.startswith(beside.literal, position):
                done[number] = position + len(beside.literal)
                for match in _one_beside(beside, data, position):
                    done[number] = match[1]
                    yield match


def _one_beside(beside: _Beside, data: bytes, position: int) -> Iterator[Match]:
    match, context = (
        beside.pattern.match(data, position),
        beside.context,
    )  # most often it ends at the next character, so it comes first
    if match and (not context.before or beside.before.search(data, max(0, position - _BEFORE), position)):
        start, stop = match.span("value" if "value" in match.re.groupindex else 0)
        if _is_secret(context, match, data[start:stop], data[stop : stop + 1]):
            end = _REST.match(data, stop).end() if context.random else stop  # type: ignore[union-attr]
            yield start, end, context.kind


def find_all(data: bytes, form: bytes) -> Iterator[int]:
    """Where it stands, without those that overlap with the one before."""
    start = data.find(form)
    while start >= 0:
        yield start
        start = data.find(form, start + len(form))


def _is_secret(context: Neighbour, match: re.Match[bytes], value: bytes, after: bytes) -> bool:
    if is_placeholder(value):
        return False
    if context.with_user:
        return not _is_no_password(match["user"].lower(), value.lower())
    return not context.random or _looks_random(value, after)


def is_placeholder(value: bytes) -> bool:
    """Whether it only shows the form of a secret, as documents do: one character again and again, or the word example in it.

    >>> is_placeholder(b"hf_" + b"x" * 34), is_placeholder(b"AKIAIOSFODNN7EXAMPLE"), is_placeholder(b"hf_" + b"aB3" * 11)
    (True, True, False)
    """
    rest = set(value[FORM:])
    return (len(rest) == 1 and rest <= _FILLERS) or b"EXAMPLE" in value or b"example" in value


def _is_no_password(user: bytes, value: bytes) -> bool:
    """Whether ``user:value@`` in an address is a default that everybody knows, or a host with its port."""
    is_host = user == b"localhost" or b"." in user
    return (
        value in DEFAULTS or value == user or len(set(value)) == 1 or (is_host and value.isdigit() and len(value) <= 5)
    )


def _looks_random(value: bytes, after: bytes) -> bool:
    """Whether a machine made it: letters with digits, or both cases mixed; code that calls or indexes is none."""
    text = value.decode("latin-1")
    if after in (b"(", b"["):
        return False
    letters = [character for character in text if character.isalpha()]
    if letters and any(map(str.isdigit, text)):
        return True
    upper = sum(map(str.isupper, letters))
    if len(letters) == len(text) and len(text) >= 20:
        return True
    return min(upper, len(letters) - upper) >= 3 and not any(character in "._-/" for character in text)
