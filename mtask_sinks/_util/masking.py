"""Masks passwords, tokens and keys in all text that leaves the process: errors, commands, files, pages, logs."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

#: The text that replaces a secret.
MASK = "***"

# A name that contains one of these, in any spelling, names a secret.
_SECRET_PARTS = (
    *("password", "passwd", "passphrase", "passcode", "passwort", "secret", "credential", "authorization"),
    *("apikey", "accesskey", "privatekey", "privkey", "authkey", "signingkey", "encryptionkey", "accountkey"),
    *("storagekey", "sharedkey", "masterkey", "sshkey", "deploykey", "licensekey", "subscriptionkey", "servicekey"),
    *("clientkey", "sessionkey", "hmackey", "connectionstring", "accesstoken", "authtoken", "apitoken"),
    *("bearertoken", "refreshtoken", "sessiontoken", "securitytoken", "hubtoken"),
)
# A name that ends with one of these words names a secret.
_SECRET_ENDS = frozenset(
    [
        *("auth", "bearer", "cookie", "cookies", "cred", "creds", "jwt", "otp", "psk", "pw", "pwd"),
        *("sas", "sig", "signature"),
    ]
)
# The same, if another word comes before: db_pass, github_pat.
_SECRET_ENDS_OF_SEVERAL = frozenset(["pass", "pat"])
# These last words show that the value describes a secret: password_length, api_key_env, credentials_file.
_DESCRIBING = frozenset(
    [
        *("class", "count", "counts", "dir", "enabled", "env", "file", "files", "format", "id", "ids", "index", "len"),
        *("length", "limit", "loss", "name", "names", "num", "path", "prefix", "required", "size", "split", "type"),
        *("types", "used", "var", "weight"),
    ]
)
# In `pad_token` and `loss_per_token`, a token is a piece of text.
_TEXT_TOKENS = frozenset(
    [
        *("additional", "audio", "avg", "begin", "boa", "boi", "bos", "bot", "cls", "decoder", "each", "end", "eoa"),
        *("eoi", "eos", "eot", "extra", "fim", "first", "forced", "image", "last", "mask", "max", "mean", "min", "n"),
        *("new", "next", "num", "object", "pad", "patch", "per", "prefix", "sep", "single", "special", "start", "stop"),
        *("sub", "suffix", "think", "tool", "unk", "video", "vision", "word"),
    ]
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

# transformers writes <HUB_TOKEN> in place of a secret; tokenizers call their tokens <s> and [PAD].
_NO_SECRET = re.compile(r"<[^<>\s]{0,40}>|\[[A-Za-z_]{0,20}\d*\]")

# Tokens with well-known first characters. Source: the rules of gitleaks (config/gitleaks.toml); GitHub, "About
# authentication to GitHub", section on token formats; W&B, "API keys".
_SHAPES = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:gh[pousr]_|github_pat_)[A-Za-z0-9_]{20,}"
    r"|gl(?:pat|dt|ft|cbt|ptt|rt|soat|oas|imt|agent|ffct)-[\w.-]{16,}"
    r"|(?:hf_|api_org_)[A-Za-z0-9]{20,}"
    r"|sk-(?=[\w-]{0,40}\d)[\w-]{20,}"
    r"|[sr]k_(?:live|test|prod)_[A-Za-z0-9]{10,}"
    r"|(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"
    r"|AIza[\w-]{30,}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}"
    r"|xox[abeoprs](?:\.xox[bp])?-[\w-]{10,}|xapp-[\w-]{10,}"
    r"|pypi-[\w-]{50,}|npm_[A-Za-z0-9]{36}|dckr_[a-z]+_[\w-]{20,}"
    r"|SG\.[\w-]{16,}\.[\w-]{16,}|dapi[a-f0-9]{32}(?:-\d)?|do[oprt]_v1_[a-f0-9]{32,}"
    r"|hv[sbr]\.[\w-]{20,}|gls?[ac]_[\w+/]{30,}|lin_api_[A-Za-z0-9]{30,}|ntn_[A-Za-z0-9]{30,}"
    r"|pplx-[A-Za-z0-9]{40,}|r8_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{30,}|wandb_v\d_\w{20,}|sntry[su]_[\w+/=]{30,}"
    r"|eyJ[\w-]{10,}\.eyJ[\w-]{10,}(?:\.[\w-]*)?|eyJ[A-Za-z0-9+/]{40,}={0,2}"
    r")"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_WEBHOOK = re.compile(r"(?<=//hooks\.slack\.com/)[\w/]+|(?<=discord\.com/api/webhooks/)[\w/-]+")
# The address of a webhook in an alert: '*/loss nonfinite action=stop,https://…'. Whoever knows it can post.
_ALERT_ACTION = re.compile(r"(?<![\w.-])(action=(?:[\w,]*,)?https?://)[^\s\"'<>]+")
# User and password in an address. The password may hold any character but white space, so the last @ ends it.
_USER = re.compile(r"(?<=://)[^\s/?#@:\"'<>]+@")
_USER_PASSWORD = re.compile(r"(?<=://)[^\s/?#@:]*+:(?:(?!://)[^\s\"'<>`])*@")
# The same for a password with quotes. If a port follows, it does not match: the @ is then outside of the address.
_USER_ODD_PASSWORD = re.compile(r"(?<=://)[^\s/?#@:]*+:(?!\d{1,5}(?:[/?#\"'<>`,;)\s]|$))(?:(?!://)\S)*@")
_USER_QUOTED = re.compile(r"(?i)(?<=%3A%2F%2F)(?:(?!%2F)[^\s&\"'])+?%40")

_AUTHORIZATION = re.compile(
    r"(?i)\b(authorization[\"']?\s*[:=]\s*[\"']?)(?:(basic|bearer|token|digest|apikey)\s+)?[^\s\"',]+"
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)(?=[\w.~+/=-]{0,80}\d)[\w.~+/=-]{12,}")
# What comes before a value: name=, "name": , name: , --name
_NAME = re.compile(
    r"(?<![\w.-])(?:(?P<option>--[A-Za-z][\w-]*+)\s++|(?P<name>-{0,2}[A-Za-z][\w.-]*+)[\"']?\s{0,4}+(?P<sign>=>?|:)\s{0,4}+)"
)
_VALUE = re.compile(r"\"[^\"]*\"|'[^']*'|[^\s\"'&,;#}\])]+")
_NO_VALUES = frozenset(["true", "false", "none", "null", "basic", "bearer", "token", "digest"])
# Values of environment variables shorter than this are likely to occur in texts by chance.
_SHORTEST_VALUE = 8


def mask(text: str) -> str:
    """Return a text without the passwords, tokens and keys in it.

    >>> mask("no answer from http://me:pa/ss@host:5000/api?sig=0a1b2c&page=2")
    'no answer from http://***@host:5000/api?sig=***&page=2'
    >>> mask("Authorization: Bearer 0a1b2c3d, max_token_len=512")
    'Authorization: Bearer ***, max_token_len=512'

    It finds user and password in addresses; values of parameters and options whose name `is_secret_name` knows; tokens
    with well-known first characters; private keys; and the values of this process's environment variables
    with such names. It cannot find a secret that looks like any other word and has no name.
    """
    return masker()(text)


def mask_start(text: str, size: int) -> str:
    """Return a text like `mask`, but only its beginning if it has more than ``size`` characters.

    >>> mask_start("no answer from http://me:pw@host, but " + "<p>" * 1000, 30)
    'no answer from http://***@ho… (3,038 characters)'

    A server may put a whole page into an error. The size of the page does not change how long this function takes.
    """
    if len(text) <= size:
        return mask(text)
    # Of a secret that begins in the first part and ends in the rest, nothing may stay. So the first part is twice as
    # long as the result, and its end is dropped after the masking. Without a rest, no secret is cut.
    first = mask(text[: 2 * size])
    if len(text) > 2 * size:
        first = first[:-size]
    return f"{first[:size]}… ({len(text):,} characters)"


def masker() -> Callable[[str], str]:
    """Return a function like `mask` for many texts. It reads the environment only once, now.

    >>> [masked for masked in map(masker(), ["token=0a1b2c", "loss=2.5"])]
    ['token=***', 'loss=2.5']
    """
    return partial(_mask, _environment_secrets())


def _mask(secrets: Sequence[str], text: str) -> str:
    if len(text) < 4:
        return text
    for value in [value for value in secrets if value in text]:
        text = text.replace(value, MASK)
    if "://" in text:
        for pattern in (_USER_PASSWORD, _USER_ODD_PASSWORD, _USER):
            text = pattern.sub(f"{MASK}@", text)
        text = _WEBHOOK.sub(MASK, text)
        text = _ALERT_ACTION.sub(rf"\1{MASK}", text)
    if "%40" in text:
        text = _USER_QUOTED.sub(f"{MASK}%40", text)
    if "PRIVATE KEY" in text:
        text = _PRIVATE_KEY.sub(MASK, text)
    text = _AUTHORIZATION.sub(lambda found: f"{found[1]}{found[2] + ' ' if found[2] else ''}{MASK}", text)
    text = _BEARER.sub(rf"\1{MASK}", text)
    text = _SHAPES.sub(MASK, text)
    return _mask_named(text)


def mask_params(params: Any) -> Any:
    """Return parameters without secrets, at any depth.

    >>> mask_params({"lr": 0.1, "wandbApiKey": "0a1b", "stores": ["http://me:pw@host"], "pad_token": "[PAD]"})
    {'lr': 0.1, 'wandbApiKey': '***', 'stores': ['http://***@host'], 'pad_token': '[PAD]'}
    """
    return _mask_param(params, "", masker())


def _mask_param(value: Any, name: str, mask_text: Callable[[str], str]) -> Any:
    """Return the value of a parameter. Its name decides together with the value; a value inside may have its own."""
    if isinstance(value, Mapping):
        inherited = name if is_secret_name(name) else ""
        items = value.items()
        return {mask_text(str(key)): _mask_param(item, inherited or str(key), mask_text) for key, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        return _mask_items(value, name, mask_text)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return MASK if is_secret_name(name) and not name.lower().endswith(("token", "tokens")) else value
    text = bytes(value).decode("utf-8", "backslashreplace") if isinstance(value, bytes | bytearray) else str(value)
    if text and is_secret_name(name) and not _NO_SECRET.fullmatch(text):
        return MASK
    masked = mask_text(text)
    return value if masked == text else masked


@lru_cache(maxsize=1 << 12)
def is_secret_name(name: str) -> bool:
    """Return whether a parameter, option or variable of this name holds a secret.

    >>> [name for name in ("aws_secret_access_key", "api-key", "wandbApiKey", "PWD", "sig") if not is_secret_name(name)]
    []
    >>> [name for name in ("n_tokens", "tokenizer_name", "max_token_len", "pad_token", "key") if is_secret_name(name)]
    []
    """
    words = [word.lower() for word in _WORD.findall(unicodedata.normalize("NFKC", name[:200]))]
    if not words:
        return False
    joined, last = "".join(words), words[-1]
    if last in _DESCRIBING and not joined.endswith("secretid"):
        return False
    if last in _SECRET_ENDS or (len(words) > 1 and last in _SECRET_ENDS_OF_SEVERAL):
        return True
    if last.endswith("token"):
        return (words[-2] if last == "token" and len(words) > 1 else last.removesuffix("token")) not in _TEXT_TOKENS
    return any(part in joined for part in _SECRET_PARTS)


def _mask_items(items: Iterable[Any], name: str, mask_text: Callable[[str], str]) -> list[Any]:
    """Return the items of a list, without secrets. In a list of arguments, an option names the next item."""
    masked: list[Any] = []
    option = ""
    for item in items:
        masked.append(_mask_param(item, option or name, mask_text))
        option = item if isinstance(item, str) and item.startswith("--") and "=" not in item else ""
    return masked


def _mask_named(text: str) -> str:
    """Mask the values that follow the name of a secret."""
    parts, done = [], 0
    for found in _NAME.finditer(text):
        value = _VALUE.match(text, found.end()) if found.start() >= done and _names_secret(found) else None
        if value is None:
            continue
        if _is_secret(found, value[0]):
            quote = value[0][0] if value[0][0] in "\"'" else ""
            parts += [text[done : found.end()], quote, MASK, quote]
        else:
            parts.append(text[done : value.end()])
        done = value.end()
    return "".join([*parts, text[done:]])


def _names_secret(found: re.Match[str]) -> bool:
    name = found["name"] or found["option"]
    return is_secret_name(name) or (name == "key" and found.string[found.start() - 1 : found.start()] in ("?", "&"))


def _is_secret(found: re.Match[str], value: str) -> bool:
    """Return whether the value that follows the name of a secret is one, judged by its form."""
    bare = value.strip("\"'")
    if not bare or bare == MASK or bare.endswith(f" {MASK}"):
        return False
    if bare.lower() in _NO_VALUES or _NO_SECRET.fullmatch(bare):
        return False
    # "unexpected token: comma" is a sentence.
    is_sentence = found["sign"] == ":" and value == bare and not any(character.isdigit() for character in bare)
    return not (is_sentence and found["name"].lower().endswith("token"))


def _environment_secrets() -> list[str]:
    """Return the secret values of environment variables, the longest first."""
    values = {value for name, value in os.environ.items() if len(value) >= _SHORTEST_VALUE and is_secret_name(name)}
    return sorted((value for value in values if not value.startswith(("/", "~", "."))), key=len, reverse=True)
