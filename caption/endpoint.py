"""DOOR. A client of OpenAI-compatible endpoints: chat completions of texts and pictures.

    endpoint = Endpoint("http://localhost:8000/v1", "Qwen/Qwen2.5-VL-7B-Instruct")
    for answer in endpoint.answers([[message("user", "Describe this picture.", png)]]):
        print(answer)

vLLM, llama.cpp, Ollama, OpenAI and others answer POST URL/chat/completions. The environment variable
OPENAI_API_KEY holds the key, if the server needs one. It is sent in a header and never written anywhere.
"""

import base64
import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from synth.errors import UserError
from synth.foreign import is_utf8

KEY = "OPENAI_API_KEY"

_PATH = "/chat/completions"
_AHEAD = 2  # conversations in memory for each request at once
_LONGEST_PAUSE = 60.0  # seconds
_CHUNK = 1 << 16  # bytes
_MOST = 1 << 24  # bytes of an answer
_WORDS = 200  # characters of a server's message in an error
_THOUGHTS = re.compile(r"<think>.*?</think>|^.*</think>|<think>.*\Z", re.DOTALL)  # of reasoning models
_LIMITS = ("max_tokens", "max_completion_tokens")  # the second is the name for newer models of OpenAI
_RETRIED = (408, 409, 425, 429)  # and every status from 500 on
_BAD_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    urllib3.exceptions.LocationValueError,
)

Json = dict[str, Any]


@dataclass(frozen=True)
class Endpoint:
    """A model at an endpoint. `url` is the part before /chat/completions."""

    url: str
    model: str
    at_once: int = 8  # requests
    timeout: float = 120.0  # seconds of one attempt
    attempts: int = 6  # of one request
    pause: float = 0.5  # seconds before the second attempt; doubled before each further one
    temperature: float = 0.0
    most_tokens: int = 1024  # of an answer, with the thoughts of reasoning models

    def __post_init__(self) -> None:
        """Raises UserError if the URL or the model cannot be used."""
        try:
            parts = urlsplit(self.url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            sound = sound and is_utf8(self.url)
        except ValueError:
            sound = False
        if not sound:
            raise UserError(f"--url is {self.url!r}; give an address such as http://localhost:8000/v1")
        if parts.username or parts.password:
            host = parts.netloc.rpartition("@")[2]
            problem = f"--url holds a password for {host}, which would appear in logs"
            raise UserError(f"{problem}; leave it out and set the variable {KEY}")
        if not self.model:
            raise UserError(f"--url needs --model NAME; {self.models()}")
        if not is_utf8(self.model):
            raise UserError(f"--model is {self.model!a}, which is not UTF-8; {self.models()}")

    @property
    def address(self) -> str:
        """The URL of requests."""
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/").removesuffix(_PATH) + _PATH
        return parts._replace(path=path, fragment="").geturl()

    def answer(self, messages: Sequence[Json]) -> str:
        """Returns the answer to one conversation. Raises UserError as `answers` does."""
        [answer] = self.answers([messages])
        return answer

    def answers(self, conversations: Iterable[Sequence[Json]]) -> Iterator[str]:
        """Yields the answer to each conversation, in order. Sends at most `at_once` requests at once.

        Repeats an attempt after a transient failure: no connection, status 408, 409, 425, 429 or 5xx, a
        timeout, or a connection that breaks. Raises UserError if the last attempt fails, the server refuses a
        request, or an answer ends at the limit of tokens."""
        client, coming = _Client(self), iter(conversations)
        waiting = deque(client.begun(messages) for messages in islice(coming, _AHEAD * self.at_once))
        try:
            while waiting:
                answer = waiting.popleft().result()
                waiting.extend(client.begun(messages) for messages in islice(coming, 1))
                yield answer
        finally:
            client.stop()

    def models(self) -> str:
        """Returns the sentence that says where a server lists its models."""
        return f"{self.address.partition('?')[0].removesuffix(_PATH)}/models lists the server's models"


class _Client:
    """The requests of one iteration over answers."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._key, self._stopped = endpoint, _key(), threading.Event()
        self._limit = _LIMITS[0]

        # The sessions keep connections open. Their number bounds the requests.
        self._sessions = SimpleQueue[requests.Session]()
        for _ in range(endpoint.at_once):
            self._sessions.put(_session(self._key))

    def begun(self, messages: Sequence[Json]) -> Future[str]:
        """Starts the request of a conversation. A daemon thread does not delay the end of a process."""
        future: Future[str] = Future()
        threading.Thread(target=self._run, args=(future, messages), daemon=True).start()
        return future

    def stop(self) -> None:
        """Ends pauses, and begins no further attempt."""
        self._stopped.set()

    def _run(self, future: Future[str], messages: Sequence[Json]) -> None:
        """Sets the result of a future: the answer to a conversation, or the failure."""
        session = self._sessions.get()
        try:
            future.set_result(self._answer(session, messages))
        except UserError as error:
            # Some servers repeat the key in their messages.
            future.set_exception(UserError(str(error).replace(self._key, "***") if self._key else str(error)))
        # The caller raises any other failure.
        except BaseException as error:
            future.set_exception(error)
        finally:
            self._sessions.put(session)

    def _answer(self, session: requests.Session, messages: Sequence[Json]) -> str:
        """Returns the answer to a conversation, after repeated attempts if need be."""
        endpoint = self._endpoint
        pause, failure = endpoint.pause, _TransientError("")
        for attempt in range(endpoint.attempts):
            if attempt:
                self._stopped.wait(min(max(pause, failure.pause), _LONGEST_PAUSE))
                pause *= 2
            if self._stopped.is_set():
                break
            try:
                return self._attempt(session, messages)
            except _TransientError as error:
                failure = error
        problem = f"{endpoint.address} {failure} in the last of {endpoint.attempts} attempts"
        raise UserError(f"{problem}; run the command again when the server answers")

    def _attempt(self, session: requests.Session, messages: Sequence[Json]) -> str:
        """Returns the answer of one attempt.

        Raises _TransientError if another attempt may succeed, and UserError if the server refuses."""
        # Request.
        endpoint, limit = self._endpoint, self._limit
        body: Json = {"model": endpoint.model, "messages": list(messages)}
        body |= {"temperature": endpoint.temperature, limit: endpoint.most_tokens}
        options: Json = {"timeout": endpoint.timeout, "stream": True, "allow_redirects": False}

        # Status and body, within the time.
        end = time.monotonic() + endpoint.timeout
        try:
            with session.post(endpoint.address, data=json.dumps(body).encode(), **options) as response:
                status, content = response.status_code, self._content(response, end)
                pause = response.headers.get("Retry-After", "")
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise _TransientError(f"does not answer within {endpoint.timeout:g} s") from None
        except requests.exceptions.InvalidHeader:
            raise UserError(f"the variable {KEY} holds no key that can be sent; set it again") from None
        except _BAD_ADDRESS as error:
            raise UserError(
                f"{endpoint.address} is no address that can be used ({error}); correct --url"
            ) from None
        except requests.exceptions.ConnectionError as error:
            raise _TransientError(f"cannot be reached ({_cause(error)})") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _TransientError(f"cuts its answer ({_cause(error)})") from None

        # Answer.
        parsed = _parsed(content)
        if status in _RETRIED or status >= 500:
            seconds = float(pause) if pause.isascii() and pause.isdigit() else 0.0
            raise _TransientError(f"answers {status} ({_words(parsed, content)})", seconds)
        if status == 400 and limit == _LIMITS[0] and _LIMITS[1] in _words(parsed, content):
            self._limit = _LIMITS[1]
            return self._attempt(session, messages)
        if status != 200:
            words = _words(parsed, content)
            problem = f"{endpoint.address} answers {status} ({words})"
            raise UserError(f"{problem}; {self._advice(status, words)}")
        return _answer_of(parsed, content, endpoint)

    def _content(self, response: requests.Response, end: float) -> bytes:
        """Returns the body of a response.

        Raises _TransientError if it has not come at the time `end`, or is too long."""
        content = b""
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
            content += chunk
            if time.monotonic() > end:
                raise _TransientError(f"does not end its answer within {self._endpoint.timeout:g} s")
            if len(content) > _MOST:
                raise _TransientError(f"sends more than {_MOST:,} bytes")
        return content

    def _advice(self, status: int, words: str) -> str:
        """Returns what a person can do about a refusal with these words."""
        if status in (401, 403):
            return f"set the variable {KEY} to a key of this server"
        if status == 404 or status < 400:
            return f"correct --url, which usually ends in /v1, or --model {self._endpoint.model}"
        if status == 400 and "temperature" in words:
            return "give another --model, or another --temperature to `python -m caption recaption`"
        return f"correct --model {self._endpoint.model} or the prompt; {self._endpoint.models()}"


class _TransientError(Exception):
    """A failure of an attempt that is repeated, after at least `pause` seconds."""

    def __init__(self, problem: str, pause: float = 0.0) -> None:
        super().__init__(problem)
        self.pause = pause


def message(role: str, text: str, *pngs: bytes) -> Json:
    """Returns a message of a conversation: a text, after pictures if there are any."""
    if not pngs:
        return {"role": role, "content": text}
    urls = [f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}" for png in pngs]
    pictures: list[Json] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": role, "content": [*pictures, {"type": "text", "text": text}]}


def without_thoughts(answer: str) -> str:
    """Returns an answer without the thoughts of a reasoning model, also if they have no end."""
    return _THOUGHTS.sub("", answer)


def _key() -> str:
    """Returns the key of the environment, or an empty text. Raises UserError if it cannot be sent."""
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"the variable {KEY} holds characters that no key has; set it again")
    return key


def _session(key: str) -> requests.Session:
    """Returns a session that sends the key, and never that of a .netrc file."""

    def authorised(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if key:
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    session = requests.Session()
    session.headers.update({"Content-Type": "application/json", "Accept": "application/json"})
    session.auth = authorised
    return session


def _answer_of(parsed: Any, content: bytes, endpoint: Endpoint) -> str:
    """Returns the text of a completion. Raises _TransientError if there is none.

    Raises UserError if the model declined to answer, or its answer ends at a limit of tokens."""
    if parsed is None:
        raise _TransientError(f"sends JSON that is cut or none ({_shortened(_text(content))})")
    try:
        choice = parsed["choices"][0]
        completion, end = choice["message"], choice.get("finish_reason")
        answer, refusal = completion["content"], completion.get("refusal")
    except (LookupError, TypeError, AttributeError):
        answer = refusal = end = None
    if end == "length":
        limits = f"{endpoint.most_tokens:,} tokens, or fewer by the server's own limit"
        advice = "ask for a shorter answer by the prompt, raise the server's limit, or give another --model"
        raise UserError(f"an answer of {endpoint.model} is cut at its limit ({limits}); {advice}")
    if isinstance(answer, str):
        return answer
    if isinstance(refusal, str):
        raise UserError(f"the model declines to answer ({_shortened(refusal)}); change the prompt")
    raise _TransientError(f"sends no completion ({_words(parsed, content)})")


def _words(parsed: Any, content: bytes) -> str:
    """Returns the server's message, on one line."""
    error = parsed.get("error", parsed.get("detail")) if isinstance(parsed, dict) else None
    text = error.get("message") if isinstance(error, dict) else error
    return _shortened(text if isinstance(text, str) else _text(content))


def _cause(error: Exception) -> str:
    """Returns the system's words about a failed connection, or the class of the error."""
    cause: Any = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return str(cause.strerror)
        inner = getattr(cause, "reason", None) or (cause.args[0] if cause.args else None)
        cause = inner if isinstance(inner, Exception) else cause.__cause__ or cause.__context__
    return type(error).__name__


def _parsed(content: bytes) -> Any:
    """Returns the JSON of a body, or None if there is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _text(content: bytes) -> str:
    return content[: 4 * _WORDS].decode(errors="replace")


def _shortened(text: str) -> str:
    """Returns the beginning of a text on one line of printable characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return (line[:_WORDS] + " ..." if len(line) > _WORDS else line) or "no words"
