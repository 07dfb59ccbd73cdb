"""The client of OpenAI-compatible endpoints, against a server of its own process."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest

from caption.endpoint import KEY, Endpoint, message
from synth.errors import UserError
from synth.images.codecs import encode_png
from tests.kit import ROOT, chat_server

PNG = encode_png(np.zeros((4, 4, 3), np.uint8))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server without a key."""
    with chat_server() as address:
        yield address


def quick(url: str, **changes: object) -> Endpoint:
    """An endpoint without long pauses."""
    return Endpoint(url, "tiny", **{"timeout": 30.0, "pause": 0.01, **changes})  # type: ignore[arg-type]


def count(server: str, path: str) -> int:
    """The attempts that the server has received at a path."""
    with urllib.request.urlopen(f"{server}/counts", timeout=10) as response:
        return int(json.load(response).get(f"/{path}/chat/completions", 0))


def test_answers_come_in_order_and_each_request_is_sent_once(server: str) -> None:
    texts = [f"text {i}" for i in range(50)]
    before = count(server, "v1")
    answers = quick(f"{server}/v1/", at_once=4).answers([message("user", text)] for text in texts)
    assert list(answers) == texts
    assert count(server, "v1") - before == 50


def test_a_conversation_may_have_pictures(server: str) -> None:
    endpoint = quick(f"{server}/v1/chat/completions")
    first, again, other = (
        endpoint.answer([message("system", "You are brief."), message("user", "What is this?", *pngs)])
        for pngs in ((PNG,), (PNG,), (PNG, PNG))
    )
    assert first == again != other and first.startswith('"A ')


def test_models_that_limit_their_tokens_by_another_name_get_it(server: str) -> None:
    before = count(server, "v1")
    endpoint = Endpoint(f"{server}/v1", "new", at_once=1)
    texts = [f"new {i}" for i in range(5)]
    assert list(endpoint.answers([message("user", text)] for text in texts)) == texts
    assert count(server, "v1") - before == 6  # one request was refused


@pytest.mark.parametrize("kind", ["429", "500", "stall", "half", "cut", "text", "drip"])
def test_an_attempt_is_repeated_after_a_transient_failure(server: str, kind: str) -> None:
    # A busy machine may need more than the short time for an answer.
    timeout = 0.3 if kind in ("stall", "drip") else 30.0
    endpoint = quick(f"{server}/{kind}/v1", timeout=timeout, attempts=20)
    assert endpoint.answer([message("user", kind)]) == kind
    assert count(server, f"{kind}/v1") == 3 or (timeout < 1 and count(server, f"{kind}/v1") > 3)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("500", r"answers 500 \(The server had an error while processing your request\.\)"),
        ("stall", r"does not answer within 0\.3 s"),
        ("half", r'sends JSON that is cut or none \(\{"id": '),
        ("cut", "cuts its answer"),
        ("text", r"none \(<html>Bad gateway</html>\)"),
        ("drip", r"does not end its answer within 0\.3 s"),
    ],
)
def test_a_failure_that_stays_gets_one_sentence(server: str, kind: str, words: str) -> None:
    with pytest.raises(UserError, match=f"{words}.* in the last of 2 attempts; run the command again"):
        timeout = 0.3 if kind in ("stall", "drip") else 30.0
        quick(f"{server}/always-{kind}/v1", attempts=2, timeout=timeout).answer([message("user", "?")])
    assert count(server, f"always-{kind}/v1") == 2


@pytest.mark.parametrize(
    ("path", "model", "words"),
    [
        (
            "always-refuse/v1",
            "tiny",
            rf"answers 401 \(Your account is not active\.\); set the variable {KEY}",
        ),
        ("v1", "none", r"answers 400 \(The model `none` does not exist\); correct --model none .*/v1/models"),
        ("v2", "tiny", r"answers 404 \(no such page: /v2/chat/completions\); correct --url"),
        (
            "v1",
            "fixed",
            r"answers 400 \(.*'temperature' does not .*\); give another --model, or another --temperature ",
        ),
        ("always-length/v1", "tiny", r"an answer of tiny is cut at its limit \(1,024 tokens, or fewer by"),
        ("always-redirect/v1", "tiny", r"answers 302 .*; correct --url, which usually ends in /v1"),
    ],
)
def test_a_refusal_is_final(server: str, path: str, model: str, words: str) -> None:
    before = count(server, path)
    with pytest.raises(UserError, match=words):
        Endpoint(f"{server}/{path}", model).answer([message("user", "?")])
    assert count(server, path) - before == 1


def test_a_refusal_ends_the_other_requests(server: str) -> None:
    conversations = ([message("user", str(i))] for i in range(100))
    before = count(server, "always-refuse/v1")
    with pytest.raises(UserError, match="answers 401"):
        next(quick(f"{server}/always-refuse/v1", at_once=2).answers(conversations))
    assert count(server, "always-refuse/v1") - before <= 4  # those that were begun
    assert next(conversations)[0]["content"] == "4"


def test_an_address_that_no_network_has_gets_one_sentence() -> None:
    with pytest.raises(UserError, match=r"http://a\.\.b/v1/chat/completions is no address that can be used"):
        quick("http://a..b/v1").answer([message("user", "?")])


def test_a_server_that_is_away_gets_one_sentence() -> None:
    with pytest.raises(UserError, match=r"cannot be reached \(Connection refused\) in the last of 2"):
        quick("http://127.0.0.1:9/v1", attempts=2).answer([message("user", "?")])


def test_the_key_of_the_environment_is_sent_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server("--key", "sk-right") as server:
        endpoint = quick(f"{server}/v1")
        monkeypatch.setenv(KEY, "sk-right\n")
        assert endpoint.answer([message("user", "yes")]) == "yes"
        monkeypatch.setenv(KEY, "sk-wrong")
        with pytest.raises(UserError, match=r"Incorrect API key provided: Bearer \*\*\*") as refusal:
            endpoint.answer([message("user", "yes")])
        assert "sk-wrong" not in str(refusal.value)
        monkeypatch.delenv(KEY)
        with pytest.raises(UserError, match=f"provided: None.*set the variable {KEY}"):
            endpoint.answer([message("user", "yes")])
        monkeypatch.setenv(KEY, "schlüssel")
        with pytest.raises(UserError, match="holds characters that no key has"):
            endpoint.answer([message("user", "yes")])


@pytest.mark.parametrize(
    ("url", "model", "words"),
    [
        ("localhost:8000", "m", r"--url is 'localhost:8000'; give an address such as http://localhost"),
        ("ftp://host/v1", "m", "--url is 'ftp"),
        ("http://host/\udce9/v1", "m", "--url is 'http"),
        ("http://host/v1", "caf\udce9", "which is not UTF-8; http://host/v1/models lists"),
        ("http://host:port/v1", "m", "--url is 'http"),
        ("https://me:secret@host/v1", "m", "--url holds a password for host, which would appear in logs"),
        ("http://host/v1", "", r"--url needs --model NAME; http://host/v1/models lists"),
    ],
)
def test_an_address_that_cannot_be_used_gets_one_sentence(url: str, model: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as refusal:
        Endpoint(url, model)
    assert "secret" not in str(refusal.value)


def test_the_address_keeps_its_query() -> None:
    assert (
        Endpoint("https://h/deploy?api-version=1", "m").address
        == "https://h/deploy/chat/completions?api-version=1"
    )


def test_an_interrupted_process_does_not_wait_for_the_server(server: str) -> None:
    code = f"""
import os, signal, threading
from caption.endpoint import Endpoint, message
signal.signal(signal.SIGINT, signal.default_int_handler)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
Endpoint("{server}/always-stall/v1", "tiny").answer([message("user", "?")])
"""
    start = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, timeout=30, cwd=ROOT
    )
    assert b"KeyboardInterrupt" in process.stderr and time.monotonic() - start < 10
