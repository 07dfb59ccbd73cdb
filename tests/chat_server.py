"""An OpenAI-compatible server on loopback, for tests of its clients. It runs in its own process.

    python tests/chat_server.py [--key KEY] [--pause SECONDS]

It is written from the public description of chat completions (POST /v1/chat/completions) and imports nothing
of exnihilo. It prints its port. The first part of a path chooses its manners:

    /v1                 answers
    /KIND/v1            fails the first two attempts of each request in that manner, then answers
    /always-KIND/v1     fails each attempt
    /quota-N/v1         answers N requests, then refuses

KIND is one of 429, 500, stall, half, cut, text, drip, refuse (401), redirect, length (an answer that ends at
a limit of tokens) and empty (an empty answer).
/moody/v1 takes turns: 500, stall, half.

The answer to a request with a picture is a sentence of words that follow from its bytes. The answer to texts
repeats the last of them. GET /counts returns the number of attempts by path.
"""

import argparse
import base64
import collections
import hashlib
import http.server
import json
import struct
import threading
import time
from typing import Any

WORDS = ("red", "green", "blue", "small", "large", "round", "square", "bird", "boat", "house", "tree", "over")
PNG = b"\x89PNG\r\n\x1a\n"
ROLES = ("system", "developer", "user", "assistant", "tool")
MOODS = ("500", "stall", "half")


class RefusedError(Exception):
    """A request that the protocol does not allow."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, key: str, pause: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.key, self.pause = key, pause
        self.counts: collections.Counter[str] = collections.Counter()
        self.attempts: collections.Counter[bytes] = collections.Counter()
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that were killed."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *arguments: Any) -> None:
        """Logs nothing."""

    def do_GET(self) -> None:
        if self.path == "/counts":
            self._send(200, dict(self.server.counts))
        else:
            self._send(404, _error("no such page"))

    def do_POST(self) -> None:
        # Request.
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.counts[self.path] += 1
            turn = self.server.attempts[self.path.encode() + body]
            self.server.attempts[self.path.encode() + body] += 1
        manner, _, rest = self.path[1:].partition("/")
        if manner == "v1":
            manner, rest = "", self.path[1:]
        if rest != "v1/chat/completions":
            self._send(404, _error(f"no such page: {self.path}"))
            return
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            self._send(401, _error(f"Incorrect API key provided: {self.headers.get('Authorization')}"))
            return
        try:
            completion = json.dumps(_completion(self.headers, json.loads(body))).encode()
        except (RefusedError, ValueError) as error:
            self._send(400, _error(str(error)))
            return

        # Manners.
        time.sleep(self.server.pause)
        always = manner.startswith("always-")
        kind = manner.removeprefix("always-") if always or turn < 2 else ""
        if manner.startswith("quota-"):
            kind = "refuse" if self.server.counts[self.path] > int(manner.removeprefix("quota-")) else ""
        if kind == "moody":
            kind = MOODS[hashlib.sha256(body).digest()[0] % len(MOODS)]
        self._answer(kind, completion)

    def _answer(self, kind: str, completion: bytes) -> None:
        half = completion[: len(completion) // 2]
        if kind == "500":
            self._send(500, _error("The server had an error while processing your request."))
        elif kind == "429":
            self._send(429, _error("Rate limit reached."), {"Retry-After": "1"})
        elif kind == "refuse":
            self._send(401, _error("Your account is not active."))
        elif kind == "redirect":
            self._send(302, {}, {"Location": "http://127.0.0.1:9/"})
        elif kind == "text":
            self._send_bytes(200, b"<html>Bad gateway</html>")
        elif kind == "half":
            self._send_bytes(200, half)
        elif kind == "cut":
            # Half of the announced bytes.
            self._head(200, len(completion))
            self.wfile.write(half)
            self.close_connection = True
        elif kind == "stall":
            time.sleep(3600)
        elif kind == "drip":
            self._head(200, len(completion))
            for byte in completion:
                self.wfile.write(bytes([byte]))
                time.sleep(0.05)
        elif kind == "length":
            content = json.loads(completion)
            content["choices"][0]["finish_reason"] = "length"
            self._send(200, content)
        elif kind == "empty":
            content = json.loads(completion)
            content["choices"][0]["message"]["content"] = ' "\n" '
            self._send(200, content)
        else:
            self._send_bytes(200, completion)

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        self._send_bytes(status, json.dumps(content).encode(), headers)

    def _send_bytes(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self._head(status, len(content), headers)
        self.wfile.write(content)

    def _head(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()


def _completion(headers: Any, request: Any) -> dict[str, Any]:
    """Returns the completion object of a request. Raises RefusedError if the request is wrong."""
    # Request.
    if headers.get("Content-Type") != "application/json":
        raise RefusedError("Content-Type must be application/json")
    if not isinstance(request, dict) or not isinstance(request.get("model"), str):
        raise RefusedError("you must provide a model parameter")
    known = {"model", "messages", "temperature", "max_tokens", "max_completion_tokens", "seed", "n", "top_p"}
    if request["model"].startswith("new") and "max_tokens" in request:
        raise RefusedError("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    if request["model"] == "fixed" and request.get("temperature", 1) != 1:
        raise RefusedError("Unsupported value: 'temperature' does not support 0.0 with this model.")
    if unknown := request.keys() - known:
        raise RefusedError(f"Unrecognized request argument supplied: {sorted(unknown)[0]}")
    if not 0 <= request.get("temperature", 1) <= 2:
        raise RefusedError("temperature must be 0 to 2")
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RefusedError("[] is too short - 'messages'")
    if request["model"] == "none":
        raise RefusedError("The model `none` does not exist")

    # Parts of messages.
    texts, pictures = [], []
    for message in messages:
        if message.get("role") not in ROLES:
            raise RefusedError(f"Invalid value: {message.get('role')!r}")
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(parts, list):
            raise RefusedError("content must be a string or an array of parts")
        for part in parts:
            if part.get("type") == "text" and isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif part.get("type") == "image_url" and message["role"] == "user":
                pictures.append(_picture(part["image_url"]["url"]))
            else:
                raise RefusedError(f"Invalid part: {str(part)[:80]}")

    # Answer.
    answer = _sentence(b"".join(pictures)) if pictures else texts[-1]
    message = {"role": "assistant", "content": answer, "refusal": None}
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": request["model"],
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": usage,
    }


def _picture(url: str) -> bytes:
    """Returns the bytes of a picture from its data URL."""
    head, comma, data = url.partition(",")
    if head != "data:image/png;base64" or not comma:
        raise RefusedError(f"Invalid image URL: {head[:80]}")
    png = base64.b64decode(data, validate=True)
    if not png.startswith(PNG) or min(struct.unpack(">II", png[16:24])) < 1:
        raise RefusedError("the picture is no PNG")
    return png


def _sentence(data: bytes) -> str:
    """Returns a sentence that follows from bytes."""
    digest = hashlib.sha256(data).digest()
    return '"A ' + "\n ".join(WORDS[byte % len(WORDS)] for byte in digest[: 4 + digest[31] % 6]) + '."'


def _error(text: str) -> dict[str, Any]:
    return {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--key", default="")
    parser.add_argument("--pause", type=float, default=0.0)
    options = parser.parse_args()
    server = Server(options.key, options.pause)
    print(server.server_address[1], flush=True)
    server.serve_forever()
