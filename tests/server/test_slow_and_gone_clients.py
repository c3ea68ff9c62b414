"""Clients that send slowly, hang up, or send what is refused: none holds a thread, none waits for an answer in vain."""

import http
import http.client
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
import requests
from whisper_server.http import connection, worker
from whisper_server.http.connection import Body

from tests.server.openai_http import TRANSCRIPTIONS
from tests.server.test_server_operations import slow_steps
from tests.server.whisper_process import COMMAND, EXAMPLES, WhisperProcess, ffmpeg, part, running, wait_for

HELLO = EXAMPLES / "hello.wav"
HEAD = b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: test\r\n"
TAKEN = 'whisper_engine_windows{state="taken"}'
FORM = b"Content-Type: multipart/form-data; boundary=b\r\n"


class Proxy(http.server.BaseHTTPRequestHandler):
    """Sends the whole of a request on, then reads the answer: one that came early and was followed by a reset is lost."""

    protocol_version = "HTTP/1.1"
    upstream: tuple[str, int]
    close = False

    def do_POST(self) -> None:
        to = http.client.HTTPConnection(*self.upstream, timeout=60)
        try:
            to.putrequest("POST", self.path, skip_host=True)
            for name, value in self.headers.items():
                to.putheader(name, value)
            if self.close:
                to.putheader("Connection", "close")
            to.endheaders()
            left = int(self.headers["Content-Length"])
            while left:
                piece = self.rfile.read(min(left, 1 << 16))
                left -= len(piece)
                to.send(piece)
            answer = to.getresponse()
            status, content = answer.status, answer.read()
            answer.close()
        except OSError as problem:
            status, content = 502, repr(problem).encode()
        finally:
            to.close()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def proxy(server: WhisperProcess, *, close: bool) -> Iterator[str]:
    handler = type("Handler", (Proxy,), {"upstream": ("127.0.0.1", server.port), "close": close})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


@pytest.mark.parametrize("close", [False, True], ids=["keep-alive", "close"])
@pytest.mark.parametrize("path", ["/whisper", TRANSCRIPTIONS])
def test_refusal_of_a_large_body_arrives_through_a_proxy(
    server: WhisperProcess, path: str, close: bool
) -> None:
    with proxy(server, close=close) as url:
        with requests.Session() as session:
            response = session.post(url + path, files={"file": ("big.wav", bytes(30 << 20))}, timeout=120)
        assert response.status_code == 413, response.text
        assert "26214400" in response.text


def test_slow_clients_are_told_or_cut_off(server: WhisperProcess) -> None:
    """Two at once, as this takes as long as the server's patience lasts."""
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=90) as headers,
        socket.create_connection(("127.0.0.1", server.port), timeout=90) as body,
    ):
        headers.sendall(HEAD)  # and never more
        body.sendall(HEAD + FORM + b"Content-Length: 100000\r\n\r\n--b\r\n")
        answer = http.client.HTTPResponse(headers)
        answer.begin()
        assert answer.status == 408
        assert "headers did not end" in json.loads(answer.read())["error"]["message"]
        assert headers.recv(1000) == b""
        answer = http.client.HTTPResponse(body)
        answer.begin()
        assert answer.status == 408
        assert "too slowly" in json.loads(answer.read())["error"]["message"]
        assert body.recv(1000) == b""
    wait_for(lambda: server.metric("whisper_requests_in_flight") == 0)


class Trickle:
    """A body that has sent so many bytes."""

    def read(self, size: int) -> bytes:
        return bytes(size)


@pytest.mark.parametrize(
    ("sent", "seconds", "too_slow"),
    [
        (0, 19, False),
        (0, 21, True),  # nothing came
        (16 * 1024 * 100, 19, False),
        (1, 21, True),
    ],
)
def test_minimum_rate(monkeypatch: pytest.MonkeyPatch, sent: int, seconds: float, too_slow: bool) -> None:
    now = 1000.0
    monkeypatch.setattr("whisper_server.http.connection.time.monotonic", lambda: now)
    body = Body(Trickle(), deadline=now + 600)
    if sent:
        body.read(sent)
    now += seconds
    assert body.is_over() is too_slow


def test_a_steady_trickle_below_the_rate_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("whisper_server.http.connection.time.monotonic", lambda: now)
    body = Body(Trickle(), deadline=now + 600)
    while not body.is_over():
        body.read(1000)
        now += 1.0
    assert 20 <= now - 1000 < 25
    with pytest.raises(TimeoutError):
        body.read(1)


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WhisperProcess]:
    """A server that takes a second or two for a window, on any machine."""
    with running(tmp_path_factory.mktemp("slow"), slow_steps(0.05)) as server:
        server.wait_until_ready()
        yield server


@pytest.mark.parametrize("stream", [False, True], ids=["waiting", "streaming"])
def test_client_that_hangs_up_frees_its_place_and_the_device(
    slow_server: WhisperProcess, tmp_path: Path, stream: bool
) -> None:
    server, long = slow_server, tmp_path / "long.flac"
    ffmpeg("-stream_loop", "249", "-i", HELLO, "-t", "1000", long)  # some forty windows
    assert server.metric(TAKEN) == 0, "nobody else is at work"
    before = server.metric("whisper_windows_total")
    form = {"stream": str(stream).lower(), "language": "en"}
    sent = requests.Request("POST", server.url, files=[part(long)], data=form).prepare()
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as client:
        client.request("POST", TRANSCRIPTIONS, sent.body, dict(sent.headers))
        wait_for(lambda: server.metric(TAKEN) > 0)
        if stream:
            answer = client.getresponse()
            assert (answer.status, answer.readline()[:1]) == (200, b":")
            answer.close()
    for name in (
        *("whisper_requests_in_flight", "whisper_queue_audio_seconds", "whisper_windows_waiting"),
        TAKEN,
    ):
        wait_for(partial(lambda name: server.metric(name) == 0, name))
    assert server.metric("whisper_windows_total") - before < 20, "the rest was not transcribed for nobody"
    assert server.post(part(HELLO)).status_code == 200


def test_idle_connections_do_not_delay_the_end(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.wait_until_ready()
        session = requests.Session()
        session.get(server.url, timeout=10)  # kept alive
        with socket.create_connection(("127.0.0.1", server.port)):  # never says anything
            begin = time.monotonic()
            server.terminate()
            assert server.wait() == 0
            assert time.monotonic() - begin < 60  # of a grace of 600
        session.close()


def test_without_proxies_the_header_is_nobodys_word(server: WhisperProcess) -> None:
    forged = {"X-Forwarded-For": "203.0.113.66, 203.0.113.67", "X-Request-Id": "forged"}
    assert requests.get(server.url, headers=forged, timeout=10).ok
    wait_for(lambda: "request_id=forged" in server.log)
    assert "client=127.0.0.1" in next(line for line in server.log.splitlines() if "request_id=forged" in line)


def test_watchdog_shuts_down_what_is_over() -> None:
    watchdog = connection.Watchdog()
    watchdog.start()
    mine, theirs = socket.socketpair()
    mine.settimeout(30)
    over: Callable[[], bool] = lambda: True  # noqa: E731
    with watchdog.limit(mine, over):
        assert mine.recv(1) == b""
    assert not connection.is_gone(None)
    theirs.close()
    assert connection.is_gone(mine)
    mine.close()


def test_connections_that_send_nothing_hold_no_thread(tmp_path: Path) -> None:
    """Many more than there are threads, and than the server may open at its start."""
    few_files = ("prlimit", "--nofile=512:4096", "--", *COMMAND)
    with running(tmp_path, few_files, WHISPER_MAX_QUEUE="1") as server:
        server.wait_until_ready()
        with ExitStack() as stack:
            for _ in range(900):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            begin = time.monotonic()
            assert requests.get(server.url, timeout=30).status_code == 200
            assert time.monotonic() - begin < 10
        with socket.create_connection(("127.0.0.1", server.port)) as idle:
            idle.settimeout(2 * worker.HEADER_SECONDS)
            assert idle.recv(1) == b""  # closed, and not after as long as between two requests
        server.terminate()
        assert server.wait() == 0


FLOODS = {
    "one byte": b"G",
    "an empty line": b"\r\n\r\n",
    "half of the headers": HEAD,
    "a body that never comes": HEAD + b"Content-Length: 1000000000\r\n\r\n",
    "a body of a request that has none": b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n",
    "the last request": b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
}


@pytest.fixture(scope="module")
def narrow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WhisperProcess]:
    """A server with the fewest threads, 33."""
    with running(tmp_path_factory.mktemp("narrow"), WHISPER_MAX_QUEUE="1") as server:
        server.wait_until_ready()
        yield server


@pytest.mark.parametrize("flood", FLOODS)
def test_connections_that_stay_open_hold_no_thread(narrow_server: WhisperProcess, flood: str) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            held = stack.enter_context(socket.create_connection(("127.0.0.1", narrow_server.port)))
            held.sendall(FLOODS[flood])
        begin = time.monotonic()
        assert requests.get(narrow_server.url, timeout=60).status_code == 200
        assert narrow_server.post(part(HELLO)).status_code == 200
        assert time.monotonic() - begin < 10


def test_connection_is_kept_after_a_refusal_of_a_body_that_has_come(narrow_server: WhisperProcess) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", narrow_server.port, timeout=60)) as client:
        client.connect()
        client.auto_open = 0
        for _ in range(3):
            client.request("POST", "/", bytes(200_000))
            answer = client.getresponse()
            assert answer.status == 405
            answer.read()


def test_headers_may_come_in_pieces(narrow_server: WhisperProcess) -> None:
    """On a new connection and on one that is kept alive, also when the first piece came with the request before."""
    head = b"GET /openapi.json HTTP/1.1\r\nHost: test\r\n\r\n"
    with socket.create_connection(("127.0.0.1", narrow_server.port), timeout=60) as client:
        for pieces in ([head[:1], head[1:30], head[30:]], [head[:9], head[9:] + head[:20]], [head[20:]]):
            for piece in pieces:
                client.sendall(piece)
                time.sleep(0.2)
            answer = http.client.HTTPResponse(client)
            answer.begin()
            assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
            answer.read()


def test_headers_without_end_are_refused(narrow_server: WhisperProcess) -> None:
    with socket.create_connection(("127.0.0.1", narrow_server.port), timeout=60) as client:
        client.sendall(HEAD + b"Cookie: " + b"x" * (40 << 10))
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 431
        assert "32768 bytes" in json.loads(answer.read())["error"]["message"]
        assert client.recv(1000) == b""


MALFORMED = {
    b"what is this\r\n\r\n": 400,
    b"GET /ui HTTP/9.9\r\n\r\n": 400,
    b"GET /ui HTTP/1.1\r\nno colon\r\n\r\n": 400,
    b"GET /ui HTTP/1.1\r\nHost: a\r\nX-Long: " + bytes(9000).replace(b"\0", b"x") + b"\r\n\r\n": 431,
    b"GET /" + bytes(9000).replace(b"\0", b"x") + b" HTTP/1.1\r\nHost: a\r\n\r\n": 414,
    b"GET /ui HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n": 417,
    b"POST /whisper HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gossip\r\n\r\n": 501,
}


@pytest.mark.parametrize("sent", MALFORMED, ids=lambda sent: sent[:40].decode())
def test_what_is_no_request_is_answered_in_json(narrow_server: WhisperProcess, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", narrow_server.port), timeout=60) as client:
        client.sendall(sent)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, answer.headers["Content-Type"]) == (MALFORMED[sent], "application/json")
        assert answer.headers["x-should-retry"] == "false"
        assert "malformed" in json.loads(answer.read())["error"]
        assert client.recv(1000) == b""
    assert "Traceback" not in narrow_server.log


def test_chunks_that_are_none_are_refused(narrow_server: WhisperProcess) -> None:
    with socket.create_connection(("127.0.0.1", narrow_server.port), timeout=60) as client:
        client.sendall(HEAD + FORM + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n")
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 400
        assert "malformed" in json.loads(answer.read())["error"]["message"]
    assert "Traceback" not in narrow_server.log


def until_continued(
    server: WhisperProcess, head: bytes, body: bytes
) -> tuple[bytes, http.client.HTTPResponse]:
    """Send headers, wait for what is said to them, and only then a body; the first line, and the answer."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall(head + b"Expect: 100-continue\r\n\r\n")
        first = client.recv(1 << 16, socket.MSG_PEEK).split(b"\r\n")[0]
        if first == b"HTTP/1.1 100 Continue":
            client.sendall(body)
        answer = http.client.HTTPResponse(client)
        answer.begin()  # which passes over 100
        answer.body = answer.read()  # type: ignore[attr-defined]
        return first, answer


def test_the_body_is_asked_for_once_the_headers_have_been_accepted(server: WhisperProcess) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body += HELLO.read_bytes() + b"\r\n--b--\r\n"
    first, answer = until_continued(server, HEAD + FORM + f"Content-Length: {len(body)}\r\n".encode(), body)
    assert (first, answer.status) == (b"HTTP/1.1 100 Continue", 200)
    for head, status in (
        (HEAD + FORM + b"Content-Length: 90000000\r\n", 413),
        (b"POST /nothing HTTP/1.1\r\nHost: test\r\n" + FORM + b"Content-Length: 90\r\n", 404),
        (HEAD + b"Content-Type: text/plain\r\nContent-Length: 90\r\n", 415),
    ):
        first, answer = until_continued(server, head, b"")
        assert answer.status == status
        assert first == f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}".upper().encode()
        assert answer.will_close


def test_client_that_closes_its_half_after_the_headers_is_answered(narrow_server: WhisperProcess) -> None:
    with socket.create_connection(("127.0.0.1", narrow_server.port), timeout=60) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 200


def test_clients_that_do_not_read_are_cut_off(tmp_path: Path) -> None:
    asks = b"GET /openapi.json HTTP/1.1\r\nHost: test\r\n\r\n" * 2000
    with running(tmp_path, WHISPER_MAX_QUEUE="1") as server, ExitStack() as stack:
        server.wait_until_ready()
        for _ in range(40):
            deaf = stack.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            deaf.connect(("127.0.0.1", server.port))
            deaf.sendall(asks)
        # Until all threads wait for their clients; then they have to be given up.
        wait_for(lambda: not answers(server), 120)
        wait_for(lambda: answers(server), 120)
        assert "Traceback" not in server.log


def answers(server: WhisperProcess) -> bool:
    try:
        return requests.get(server.url, timeout=3).ok
    except requests.Timeout:
        return False
