from __future__ import annotations

import json
import pathlib
from collections import OrderedDict

import pytest

from mtask_sinks._util.masking import MASK, is_secret_name, mask, mask_params, mask_start

SECRET = "hunter2-Zz9"

ADDRESSES = [
    (f"http://me:{SECRET}@host:5000/a", "http://***@host:5000/a"),
    (f"http://{SECRET}@host", "http://***@host"),
    (f"http://me:a/{SECRET}@host/b", "http://***@host/b"),
    (f"http://me:a@{SECRET}@host", "http://***@host"),
    (f"http://me:a?b#{SECRET}@host", "http://***@host"),
    (f"http://me:a\"b'{SECRET}@host", "http://***@host"),
    (f"postgresql+psycopg2://me:{SECRET}@[::1]:5432/db", "postgresql+psycopg2://***@[::1]:5432/db"),
    (f"http://a:{SECRET}@one,http://b:{SECRET}@two", "http://***@one,http://***@two"),
    (f"next=http%3A%2F%2Fme%3A{SECRET}%40host", "next=http%3A%2F%2F***%40host"),
    (f"https://blob/x?se=2026&sig={SECRET}&sv=1", "https://blob/x?se=2026&sig=***&sv=1"),
    (f"https://s3/x?X-Amz-Signature={SECRET}&a=1", "https://s3/x?X-Amz-Signature=***&a=1"),
    (f"https://s3/x?X-Amz-Security-Token={SECRET}", "https://s3/x?X-Amz-Security-Token=***"),
    (f"https://maps/x?key={SECRET}", "https://maps/x?key=***"),
    ("https://hooks.slack.com/services/T000/B000/XXXX", "https://hooks.slack.com/***"),
]


@pytest.mark.parametrize(("text", "shown"), ADDRESSES)
def test_what_is_secret_in_an_address_is_masked(text: str, shown: str) -> None:
    assert mask(text) == shown
    assert mask(f"error: ({text})") == f"error: ({shown})"
    assert mask(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"*/loss nonfinite action=https://host/{SECRET}", "*/loss nonfinite action=https://***"),
        (
            f"a/x above=1 action=stop,wandb,http://host/{SECRET} phase=eval",
            "a/x above=1 action=stop,wandb,http://*** phase=eval",
        ),
        (
            f"--alerts 'a/x above=1 action=http://host/{SECRET}' --lr 1",
            "--alerts 'a/x above=1 action=http://***' --lr 1",
        ),
        ("<form action=//host> transaction=http://host/a", "<form action=//host> transaction=http://host/a"),
    ],
)
def test_the_address_of_a_webhook_in_an_alert_is_masked(text: str, shown: str) -> None:
    assert mask(text) == shown
    assert mask_params({"alerts": [text]}) == {"alerts": [shown]}
    assert mask(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("http://host:5000/a", "https://host/@user", "sqlite:////home/a@b/x.db", "file:///home/me@corp/x"),
        *("http://[::1]:5000/", "git@github.com:a/b.git", "s3://bucket/a@v1", "me@example.org"),
        *("n_tokens=512", "max_token_len: 128", "tokenizer_name=bert", "pad_token: [PAD]", "eos_token='</s>'"),
        *("unexpected token: comma", "Unexpected token: <", "token: <HUB_TOKEN>", "hub_token=None"),
        *("mlm/secret_loss 0.5", "hf_hub_download failed", "sk-learn", "of 0123456789abcdef0123456789abcdef01234567"),
        *("a.b.c", "", "x", "a bearer of news", "tensor([1.0], device='cuda:0')", "12:30:00 step 10"),
    ],
)  # fmt: skip
def test_other_text_stays_as_it_is(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"password={SECRET} retry", "password=*** retry"),
        (f"{{'api_key': '{SECRET}', 'n': 1}}", "{'api_key': '***', 'n': 1}"),
        (f'{{"dbPassword": "{SECRET} x"}}', '{"dbPassword": "***"}'),
        (f"--api-key {SECRET} --lr 3", "--api-key *** --lr 3"),
        (f"--token={SECRET}", "--token=***"),
        (f"Authorization: Basic {SECRET}==", "Authorization: Basic ***"),
        (f"{{'Authorization': 'Bearer {SECRET}'}}", "{'Authorization': 'Bearer ***'}"),
        (f"sent Bearer {SECRET}{SECRET}", "sent Bearer ***"),
        (f"MLFLOW_TRACKING_PASSWORD={SECRET}", "MLFLOW_TRACKING_PASSWORD=***"),
        (f"host:5000/api?x=1&wandbApiKey={SECRET}'", "host:5000/api?x=1&wandbApiKey=***'"),
    ],
)
def test_the_value_after_the_name_of_a_secret_is_masked(text: str, shown: str) -> None:
    assert mask(text) == shown


@pytest.mark.parametrize(
    "token",
    [
        *(f"gh{kind}_{'a1B2' * 9}" for kind in "pousr"), "github_pat_" + "a1B2_" * 16, "glpat-" + "a1B2" * 5,
        "hf_" + "aBcD" * 8 + "ef", "sk-" + "a1B2" * 12, "sk-proj-" + "a1B2-" * 12, "sk-ant-api03-" + "a1B2_" * 18,
        "AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE", "AIza" + "a1B2_" * 7, "xoxb-123456789012-" + "a1B2" * 6,
        "xapp-1-A000-1-abc", "pypi-AgEIcHlwaS5vcmc" + "a1B2" * 15, "npm_" + "a1B2" * 9, "sk_live_" + "a1B2" * 6,
        "SG." + "a1B2" * 5 + "." + "a1B2" * 10, "dapi" + "a1b2" * 8, "dop_v1_" + "a1b2" * 16, "hvs." + "a1B2" * 24,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.abc_def-1", "wandb_v1_" + "a1B2" * 12, "r8_" + "a1B2" * 10,
        "gsk_" + "a1B2" * 13, "pplx-" + "a1B2" * 12, "ya29." + "a1B2" * 10,
        "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nMIIB cut off",
    ],
)  # fmt: skip
def test_a_token_is_known_by_its_form_wherever_it_is(token: str) -> None:
    assert mask(f"got ({token}) back") in ("got (***) back", "got (***")
    assert mask_params({"note": token, "in": [{"a": (token,)}]}) == {"note": MASK, "in": [{"a": [MASK]}]}


SECRET_NAMES = [
    *("secret_key", "aws_secret_access_key", "private_key", "api-key", "wandbApiKey", "authorization", "pwd", "sig"),
    *("APIKey", "APIkey", "apikey", "API_KEY", "api.key", "X-Api-Key", "hub_token", "hubToken", "hf-token", "token"),
    *("db_pass", "dbPassword", "PASSWD", "passphrase", "clientSecret", "vault_secret_id", "AWS_SESSION_TOKEN"),
    *("Proxy-Authorization", "auth", "session_cookie", "credentials", "google.credentials", "sasToken", "accessKey"),
    *("azure_storage_account_key", "connectionString", "github_pat", "jwt", "encryption-key", "ssh_key", "otp"),
    *("authToken2", "secrets", "signature", "ｐａｓｓｗｏｒｄ"),
]
OPEN_NAMES = [
    *("n_tokens", "tokenizer_name", "max_token_len", "tokens", "pad_token", "eos_token_id", "loss_per_token", "key"),
    *("keys", "num_key_value_heads", "author_key", "hidden_size", "authors", "pattern", "bypass", "hub_token_used"),
    *("token_type_ids", "remove_unused_columns", "credentials_file", "password_length", "secret_name", "compass"),
    *("image_token", "num_image_tokens", "keypoint_loss", "monkey", "hub_private_repo", "auto_find_batch_size", ""),
    *("api_key_env", "signature_columns", "passes", "patience", "sigma", "sigmoid", "authenticated", "cookiecutter"),
]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_parameter_with_the_name_of_a_secret_is_masked_at_any_depth(name: str) -> None:
    assert is_secret_name(name)
    values = [{name: SECRET}, {name: [SECRET]}, {name: {"user": SECRET}}, {name: SECRET.encode()}, {name: 12.5}]
    if not name.lower().endswith("token"):  # the number of a token is no secret
        assert mask_params(values[-1]) == {name: MASK}
    masked = mask_params({"a": [OrderedDict(each) for each in values[:-1]]})
    assert SECRET not in repr(masked)
    assert masked["a"][0] == {name: MASK}


@pytest.mark.parametrize("name", OPEN_NAMES)
def test_other_parameters_stay_readable(name: str) -> None:
    assert not is_secret_name(name)
    assert mask_params({name: "bert", "n": {name: 512}}) == {name: "bert", "n": {name: 512}}


def test_parameters_of_any_type_are_read() -> None:
    class Client:
        def __repr__(self) -> str:
            return f"Client(api_key='{SECRET}')"

    params = {
        "uris": [f"http://me:{SECRET}@host", (f"x://{SECRET}@h",)], "bytes": f"http://me:{SECRET}@h".encode(),
        "client": Client(), "path": pathlib.PurePosixPath("a/b"), "argv": ["--password", SECRET, "--lr", "0.1"],
        "none": None, "flag": True, "lr": 0.1, 3: "three", f"http://me:{SECRET}@h": 1, "use_token": True,
        "token": "<TOKEN>", "special": {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "pad"},
        "empty": {"pwd": ""},
    }  # fmt: skip
    assert mask_params(params) == {
        "uris": ["http://***@host", ["x://***@h"]], "bytes": "http://***@h",
        "client": "Client(api_key='***')", "path": pathlib.PurePosixPath("a/b"),
        "argv": ["--password", MASK, "--lr", "0.1"], "none": None, "flag": True, "lr": 0.1, "3": "three",
        "http://***@h": 1, "use_token": True, "token": "<TOKEN>",
        "special": {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "pad"}, "empty": {"pwd": ""},
    }  # fmt: skip


def test_values_of_secret_environment_variables_are_masked(monkeypatch) -> None:
    key = "0123456789abcdef0123456789abcdef01234567"  # W&B's keys have no form of their own
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/etc/google.json")
    monkeypatch.setenv("DB_PASSWORD", "short")
    monkeypatch.setenv("RUN_NAME", "0123456789")
    assert mask(f"401 for {key}") == "401 for ***"
    assert mask("/etc/google.json short 0123456789") == "/etc/google.json short 0123456789"


PARTS = [
    *("a", "a=", "://", "http://a:", "-", "bearer ", "a b ", "'", "password='", "password=***", "sk-", "eyJ", 'x="'),
    *("%3A%2F%2F", "-----BEGIN PRIVATE KEY-----", "token: ", "@", "http://a@b:", "?key=", "authorization:"),
]


@pytest.mark.parametrize("part", PARTS)
def test_a_long_text_is_masked_in_a_time_that_grows_with_its_length(part: str) -> None:
    # With a time that grows faster, this would not return for minutes.
    assert mask("secret=" + SECRET + " " + part * (200_000 // len(part))).startswith("secret=*** ")


def test_what_is_masked_can_be_written_as_json() -> None:
    assert json.loads(json.dumps(mask_params({"a": {"password": b"\xff"}, "b": [b"http://a:b@c"]}))) == {
        "a": {"password": MASK}, "b": ["http://***@c"],
    }  # fmt: skip


@pytest.mark.parametrize("size", range(1, 60))
def test_no_part_of_a_secret_stays_wherever_a_long_text_is_cut(size: int) -> None:
    shown = mask_start("from http://me:hidden@host and http://me:hidden@other: " + "x" * 100, size)
    assert not any(part in shown for part in ("hid", "den", "idd"))
    assert len(shown) <= size + len("… (155 characters)")


@pytest.mark.parametrize("length", [101, 150, 199, 200, 201, 1000])
def test_of_a_long_text_the_whole_beginning_stays(length: int) -> None:
    assert mask_start("no answer. " + "x" * (length - 11), 100) == f"no answer. {'x' * 89}… ({length:,} characters)"
