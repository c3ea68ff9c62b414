"""One file sent to a server, and its transcript as it comes back."""

import http.client
import json
import select
import socket
import ssl
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from whisper_operator.observed.foreign_words import shortened
from whisper_operator.plugin.failure import Failure
from whisper_operator.plugin.form import Form
from whisper_operator.plugin.keys import Key

CONNECT_SECONDS = 30.0
ANSWER_SECONDS = 900.0
"""Until the server begins to answer, which it does once it has decoded the file. It has limits of its own, which come first."""
SILENCE_SECONDS = 120.0
"""Between two lines of an answer; the server sends one every 15 s at least."""
GO_AHEAD_SECONDS = 5.0
"""For a server to let a large file come or refuse it; of one that does neither, it is assumed that it takes it."""
SOON = 5
"""Seconds to wait where a busy server does not say how many."""


class Busy(Exception):
    """The server takes it later: in so many seconds."""

    def __init__(self, words: str, seconds: int) -> None:
        super().__init__(words)
        self.seconds = seconds


class Lost(Exception):
    """The connection, before the transcript was there."""


@dataclass(frozen=True)
class Told:
    """How far it is."""

    sent: float = 0.0
    """Of the file, from 0 to 1."""
    heard: float = 0.0
    """Seconds of it whose text is there."""
    seconds: float = 0.0
    """That it takes; 0 until that is known."""


def transcribe(
    url: str, path: str, form: Form, key: Key | None, tell: Callable[[Told], None]
) -> dict[str, Any]:
    """The transcript as verbose_json. Raises Busy, Lost, or Failure with what the server says."""
    connection, target = _connect(url, path)
    try:
        with suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before all was there
            _send(connection, target, form, key, tell)
        sock = connection.sock
        response = connection.getresponse()
        if response.status != 200:
            raise _refusal(response, key)
        seconds = float(response.headers.get("X-Audio-Seconds") or 0)
        tell(Told(1.0, 0.0, seconds))
        sock.settimeout(SILENCE_SECONDS)
        return _transcript(events(response), seconds, tell)
    except ssl.SSLError as error:
        raise Failure(f"{url} can't be reached safely: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        raise Lost(str(error) or type(error).__name__) from None
    finally:
        connection.close()


def events(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The data of server-sent events. Raises Lost for what is none."""
    for line in lines:
        name, _, value = line.partition(b":")
        if name == b"data" and value.strip() != b"[DONE]":
            try:
                event = json.loads(value)
            except ValueError:
                raise Lost("an event was cut off") from None
            yield event


def _connect(url: str, path: str) -> tuple[http.client.HTTPConnection, str]:
    """Straight, or through the proxy that the environment names for encrypted connections."""
    parts = urllib.parse.urlsplit(url)
    host, target = parts.hostname or "", parts.path.rstrip("/") + path
    if parts.scheme != "https":
        return http.client.HTTPConnection(host, parts.port, timeout=CONNECT_SECONDS), target
    proxy = urllib.request.getproxies().get("https")
    if not proxy or urllib.request.proxy_bypass(host):
        return http.client.HTTPSConnection(host, parts.port, timeout=CONNECT_SECONDS), target
    through = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    connection = http.client.HTTPSConnection(through.hostname or "", through.port, timeout=CONNECT_SECONDS)
    connection.set_tunnel(host, parts.port)
    return connection, target


def _send(
    connection: http.client.HTTPConnection,
    target: str,
    form: Form,
    key: Key | None,
    tell: Callable[[Told], None],
) -> None:
    connection.putrequest("POST", target)
    headers = {
        "Content-Type": form.content_type,
        "Content-Length": str(form.length),
        "Accept": "text/event-stream",
        "User-Agent": "kubectl-whisper",
    }
    if key is not None:
        headers["Authorization"] = f"Bearer {key.value}"
    is_plain = not isinstance(connection, http.client.HTTPSConnection)
    if is_plain:
        headers["Expect"] = "100-continue"
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    if is_plain and not _may_go_on(connection.sock):
        return
    done = 0
    connection.sock.settimeout(SILENCE_SECONDS)
    for chunk in form.chunks():
        connection.send(chunk)
        done += len(chunk)
        tell(Told(sent=done / form.length))
    connection.sock.settimeout(ANSWER_SECONDS)


def _may_go_on(sock: socket.socket) -> bool:
    """Whether the server wants the body. Its words might be lost with the rest of a body that it refuses."""
    ready, _, _ = select.select([sock], [], [], GO_AHEAD_SECONDS)
    return not ready or sock.recv(16, socket.MSG_PEEK)[8:13] == b" 100 "


def _refusal(response: http.client.HTTPResponse, key: Key | None) -> Exception:
    body = response.read(1 << 16)
    try:
        words = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        words = f"status {response.status} {response.reason}: {body.decode(errors='replace')}"
    words = shortened(words)
    after = response.headers.get("Retry-After")
    if response.status in (429, 503) and after:
        return Busy(words, int(after) if after.isdigit() else SOON)
    if response.status == 401 and key is not None:
        words += f" (it is {key.origin}; a key counts two minutes after it was added to the Secret)"
    return Failure(words)


def _transcript(
    found: Iterator[dict[str, Any]], seconds: float, tell: Callable[[Told], None]
) -> dict[str, Any]:
    for event in found:
        if "error" in event:
            raise Failure(shortened(str(event["error"].get("message"))))
        if event.get("type") == "transcript.text.done":
            return {name: value for name, value in event.items() if name != "type"}
        if segments := event.get("segments"):
            tell(Told(1.0, segments[-1]["end"], seconds))
    raise Lost("it ended before the transcript did")
