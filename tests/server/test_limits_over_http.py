"""The queue's limits as clients meet them: how a refusal reads in both APIs, and that no client's pile keeps others out."""

import json
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.server.whisper_process import (
    CLIPS,
    EXAMPLES,
    WhisperProcess,
    ffmpeg,
    part,
    running,
    table,
    wait_for,
)

OPENAI = "/v1/audio/transcriptions"
HELLO = EXAMPLES / "hello.wav"
HEAVY = {"X-Forwarded-For": "203.0.113.1, 203.0.113.255"}
LIGHT = {"X-Forwarded-For": "203.0.113.2, 203.0.113.255"}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WhisperProcess]:
    """A server that takes three requests with 600 s of audio."""
    settings = {"WHISPER_MAX_QUEUE": "3", "WHISPER_MAX_AUDIO_SECONDS": "600", "WHISPER_PROXIES": "2"}
    settings["WHISPER_MAX_QUEUE_AUDIO_SECONDS"] = "600"
    with running(tmp_path_factory.mktemp("narrow"), **settings) as process:
        process.wait_until_ready()
        yield process


@pytest.fixture(scope="module")
def long_file(workshop: Path) -> Path:
    """Just under ten minutes of speech."""
    path = workshop / "ten-minutes.flac"
    clips = [CLIPS / name for name in table(CLIPS / "manifest.tsv")]
    inputs = [argument for clip in clips for argument in ("-i", clip)]
    filters = f"concat=n={len(clips)}:v=0:a=1,aloop=loop=-1:size=2e9"
    ffmpeg(*inputs, "-filter_complex", filters, "-t", "599", "-ac", "1", "-ar", "16000", path)
    return path


def ask(
    server: WhisperProcess, path: Path, client: dict[str, str], api: str = "/whisper"
) -> requests.Response:
    form = {"model": "whisper-1"} if api != "/whisper" else {}
    return requests.post(server.url + api, files=[part(path)], data=form, headers=client, timeout=300)


def test_the_audio_of_one_client_leaves_room_for_anothers(narrow: WhisperProcess, long_file: Path) -> None:
    form = {"model": "whisper-1", "stream": "true"}
    with requests.post(
        narrow.url + OPENAI, files=[part(long_file)], data=form, headers=HEAVY, stream=True, timeout=240
    ) as long:
        wait_for(lambda: narrow.metric("whisper_queue_audio_seconds") > 500, 120)
        refused = [ask(narrow, HELLO, HEAVY, api) for api in ("/whisper", OPENAI)]
        served = ask(narrow, HELLO, LIGHT)
        assert narrow.metric("whisper_queue_audio_seconds") > 500, "it was done before: this showed nothing"
        assert long.status_code == 200

    assert served.status_code == 200
    assert served.json()["results"][0]["transcript"] == "hello world please play music"
    check_refusals(refused, "WHISPER_MAX_QUEUE_AUDIO_SECONDS")


def test_the_places_of_one_client_leave_room_for_anothers(narrow: WhisperProcess) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", narrow.port)))
            forwarded = f"X-Forwarded-For: {HEAVY['X-Forwarded-For']}"
            form = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000"
            connection.sendall(
                f"POST /whisper HTTP/1.1\r\nHost: a\r\n{forwarded}\r\n{form}\r\n\r\n--b".encode()
            )
        wait_for(lambda: narrow.metric("whisper_requests_in_flight") == 3)
        refused = [ask(narrow, HELLO, HEAVY, api) for api in ("/whisper", OPENAI)]
        served = ask(narrow, HELLO, LIGHT)
    assert served.status_code == 200
    check_refusals(refused, "WHISPER_MAX_QUEUE, or limits.maxQueue of a WhisperEndpoint)")


def check_refusals(refused: list[requests.Response], reason: str) -> None:
    """Those of /whisper and of OpenAI's API, for that reason and each in its form."""
    plain, openai = refused
    body: dict[str, Any] = json.loads(plain.text)
    assert list(body) == ["error"]
    assert reason in body["error"]
    error = openai.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert reason in error["message"]
    for response in refused:
        assert response.status_code == 429
        assert 1 <= int(response.headers["Retry-After"]) <= 60
        assert "x-should-retry" not in response.headers


def test_files_that_take_long_to_decode_keep_nobody_else_waiting(tmp_path: Path) -> None:
    """Those of one client: as many as there are decoders, and more that wait; all until they are let go."""
    long, go = tmp_path / "long.wav", tmp_path / "go"
    ffmpeg("-stream_loop", "5", "-i", HELLO, "-t", "20", long)
    slow = (
        "import os, pathlib, sys, time\n"
        "from whisper_server import __main__\n"
        "from whisper_server.audio import ffmpeg\n"
        "decode = ffmpeg.decode\n"
        "def slow_decode(file, *rest):\n"
        f"    while os.fstat(file.fileno()).st_size > 400_000 and not os.path.exists({str(go)!r}):\n"
        "        time.sleep(0.1)\n"
        "    return decode(file, *rest)\n"
        "ffmpeg.decode = slow_decode\n"
        "sys.exit(__main__.main([]))\n"
    )
    settings = {"WHISPER_PROXIES": "1", "WHISPER_REQUEST_TIMEOUT_SECONDS": "60"}
    with (
        running(tmp_path, (sys.executable, "-c", slow), **settings) as server,
        ThreadPoolExecutor(8) as clients,
    ):
        server.wait_until_ready()
        many, other = ({"X-Forwarded-For": f"198.51.100.{number}"} for number in (7, 8))
        pile = [clients.submit(server.post, part(long), headers=many) for _ in range(8)]
        wait_for(lambda: server.metric("whisper_requests_in_flight") == 8)
        time.sleep(1)  # until the first of them have come to ffmpeg
        answer = server.post(part(HELLO), headers=other)
        waiting = not any(each.done() for each in pile)
        go.touch()
        assert (answer.status_code, waiting) == (200, True)
        assert {each.result().status_code for each in pile} == {200}
