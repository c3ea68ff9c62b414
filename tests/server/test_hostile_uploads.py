"""Whatever is sent: a 4xx in JSON, nothing read that was not sent, nothing left behind."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from whisper_server.audio.ffmpeg import AudioError, _command, decode

from tests.server.corpus import BAD_FILES, CANARY, amr_mp4, hls, wav
from tests.server.whisper_process import COMMAND, WhisperProcess, ffmpeg, part, running, wait_for


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused_with_a_reason(server: WhisperProcess, workshop: Path, name: str) -> None:
    make, reason = BAD_FILES[name]
    response = server.post(("file", (name, make(workshop))))
    assert response.status_code == 400
    assert set(response.json()) == {"error"}
    assert response.json()["error"].startswith(f"{name}: ")
    assert reason in response.json()["error"]
    assert "/proc" not in response.text
    assert "hello world" not in response.text


@pytest.mark.parametrize(
    "header", [{"rate": 1}, {"rate": 2**32 - 1}, {"size": 0}, {"bits": 1}, {"bits": 64}, {"rate": 0}]
)
def test_headers_that_lie_break_nothing(server: WhisperProcess, header: dict[str, int]) -> None:
    response = server.post(("file", ("odd.wav", wav(**header))))
    assert response.status_code in (200, 400), response.text


def test_playlists_name_a_canary_that_would_be_heard(server: WhisperProcess) -> None:
    """The tests above prove nothing unless the file they name can be transcribed, and the one that lies if it did not."""
    assert server.transcript(CANARY).startswith("hello world")
    assert server.post(("file", ("index.mp4", amr_mp4(100)))).status_code == 200


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that must not be called."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.5)
        yield listening


@pytest.mark.parametrize("form", ["http://{}/a.ts", "tcp://{}", "https://{}/a.ts", "rtmp://{}/a"])
def test_no_upload_makes_the_server_call_anyone(
    server: WhisperProcess, listener: socket.socket, form: str
) -> None:
    host, port = listener.getsockname()
    target = form.format(f"{host}:{port}")
    concat = f"ffconcat version 1.0\nfile {target}\n".encode()
    for content in (hls(target), concat, target.encode()):
        assert server.post(("file", ("a.m3u8", content))).status_code == 400
    with pytest.raises(TimeoutError):
        listener.accept()


def test_one_bad_file_refuses_all(server: WhisperProcess) -> None:
    before = server.metric("whisper_audio_seconds_total")
    good = part(CANARY)
    response = server.post(good, ("file", ("broken.wav", b"no audio")), good)
    assert response.status_code == 400
    assert response.json()["error"].startswith("broken.wav: ")
    assert server.metric("whisper_audio_seconds_total") == before


@pytest.fixture(scope="session")
def bomb(workshop: Path) -> Path:
    """Ten hours of silence in 72 KB."""
    path = workshop / "bomb.flac"
    ffmpeg("-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "36000", "-frame_size", "65535", path)
    assert path.stat().st_size < 100_000
    return path


def test_hours_of_silence_in_a_small_file(small_server: WhisperProcess, bomb: Path) -> None:
    response = small_server.post(part(bomb))
    assert response.status_code == 413
    error = response.json()["error"]
    assert "bomb.flac" in error
    assert "60 seconds" in error


def test_decoding_ends_at_its_deadline_and_leaves_no_process(bomb: Path) -> None:
    begin = time.monotonic()
    with bomb.open("rb") as file, pytest.raises(TimeoutError):
        decode(file, 86400, deadline=begin + 0.3)
    assert time.monotonic() - begin < 10
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    names = [Path(f"/proc/{child}/comm").read_text().strip() for child in children]
    assert "ffmpeg" not in names


def test_file_that_is_too_costly_to_decode_is_refused(tmp_path: Path, bomb: Path) -> None:
    """For good: trying again later would cost the same."""
    impatient = (
        "from whisper_server import __main__\n"
        "from whisper_server.audio import ffmpeg\n"
        "ffmpeg.cpu_seconds = lambda _: 1\n"
        "__main__.main()\n"
    )
    settings = {"WHISPER_MAX_AUDIO_SECONDS": "86400"}
    with running(tmp_path, (sys.executable, "-c", impatient), **settings) as server:
        server.wait_until_ready()
        response = server.post(part(bomb))
        assert response.status_code == 400, response.text
        assert response.headers["x-should-retry"] == "false"
        assert "too much memory or time to decode; convert it" in response.json()["error"]
        assert server.transcript(CANARY).startswith("hello world")


def test_decoding_is_bounded_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To less than this file needs, which is decoded where there is more."""
    file = tmp_path / "index.mp4"
    file.write_bytes(amr_mp4(20_000_000))
    with file.open("rb") as opened:
        assert len(decode(opened, 60, deadline=time.monotonic() + 60)) >= 2 * 16000
        monkeypatch.setattr("whisper_server.audio.ffmpeg._ADDRESS_SPACE", 512 << 20)
        with pytest.raises(AudioError):
            decode(opened, 60, deadline=time.monotonic() + 60)


def test_decoder_can_write_no_file(tmp_path: Path) -> None:
    with CANARY.open("rb") as opened:
        command = _command(opened.fileno(), 60)
        written = tmp_path / "written.raw"
        process = subprocess.run(
            [*command, "-f", "s16le", written], pass_fds=(opened.fileno(),), capture_output=True, check=False
        )
    assert process.returncode != 0
    assert not written.exists() or written.stat().st_size == 0


def test_seconds_are_counted_over_all_files_of_a_request(
    small_server: WhisperProcess, workshop: Path
) -> None:
    track = workshop / "40s.mp3"
    ffmpeg("-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", "40", track)
    response = small_server.post(part(track), ("file", ("second.mp3", track.read_bytes())))
    assert response.status_code == 413
    assert "second.mp3" in response.json()["error"]


def test_body_over_the_limit_is_refused_from_its_header(server: WhisperProcess) -> None:
    response = server.post(("file", ("big.wav", bytes(30 << 20))))
    assert response.status_code == 413
    assert "26214400" in response.json()["error"]


def test_chunked_body_over_the_limit_is_cut_off(small_server: WhisperProcess) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="f"; filename="big.wav"\r\n\r\n'

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(30):
            yield bytes(100_000)
        yield b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = requests.post(small_server.url + "/whisper", data=body(), headers=headers, timeout=60)
    assert response.status_code == 413
    assert "1048576" in response.json()["error"]


MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}
BAD_BODIES = {
    "nothing": ({}, b"", 400, "curl"),
    "json": ({"Content-Type": "application/json"}, b"{}", 415, "application/json"),
    "raw audio": ({"Content-Type": "audio/wav"}, CANARY.read_bytes(), 415, "audio/wav"),
    "form": ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=b", 415, "curl"),
    "no boundary": ({"Content-Type": "multipart/form-data"}, b"--b--\r\n", 400, "malformed"),
    "wrong boundary": (MULTIPART, b"--c\r\n\r\nx\r\n--c--\r\n", 400, "malformed"),
    "no end": (
        MULTIPART,
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.wav"\r\n\r\nabc',
        400,
        "malformed",
    ),
    "no file": (
        MULTIPART,
        b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n--b--\r\n',
        400,
        "curl",
    ),
    "no filename": (
        MULTIPART,
        b'--b\r\nContent-Disposition: form-data; name="f"; filename=""\r\n\r\nx\r\n--b--\r\n',
        400,
        "no filename",
    ),
    "empty form of a browser": (
        MULTIPART,
        b'--b\r\nContent-Disposition: form-data; name="f"; filename=""\r\n\r\n\r\n--b--\r\n',
        400,
        "no file",
    ),
    "large field": (
        MULTIPART,
        b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\n' + b"x" * 600_000 + b"\r\n--b--\r\n",
        413,
        "form field",
    ),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_body_is_refused_with_a_reason(server: WhisperProcess, name: str) -> None:
    headers, body, status, reason = BAD_BODIES[name]
    response = requests.post(server.url + "/whisper", data=body, headers=headers, timeout=60)
    assert (response.status_code, set(response.json())) == (status, {"error"})
    assert reason in response.json()["error"]


@pytest.mark.parametrize(
    ("large", "reason"),
    [(600_000, "a form field is too large for text"), (27 << 20, "more than 26214400 bytes")],
    ids=["a large field", "all too large"],
)
def test_of_a_body_of_unknown_length_the_right_limit_is_named(
    server: WhisperProcess, large: int, reason: str
) -> None:
    kind = "" if large < 1 << 20 else '; filename="a.wav"'
    pieces = [f'--b\r\nContent-Disposition: form-data; name="f"{kind}\r\n\r\n'.encode()]
    pieces += [b"x" * (large // 100)] * 100 + [b"\r\n--b--\r\n"]
    response = requests.post(server.url + "/whisper", data=iter(pieces), headers=MULTIPART, timeout=60)
    assert response.status_code == 413
    assert reason in response.json()["error"]


def test_client_that_hangs_up_in_the_middle_leaves_nothing(server: WhisperProcess) -> None:
    content = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.wav"\r\n\r\n' + bytes(500_000)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest("POST", "/whisper")
    connection.putheader("Content-Type", "multipart/form-data; boundary=b")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders(content)
    wait_for(lambda: server.metric("whisper_requests_in_flight") == 1)
    wait_for(lambda: len(server.open_temporary_files()) == 1)
    connection.close()
    wait_for(lambda: server.metric("whisper_requests_in_flight") == 0)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/whisper", 405), ("DELETE", "/", 405), ("POST", "/", 405)],
)
def test_wrong_path_or_method_is_json(server: WhisperProcess, method: str, path: str, status: int) -> None:
    response = requests.request(method, server.url + path, timeout=10)
    assert response.status_code == status
    assert list(json.loads(response.text)) == ["error"]
    assert status != 405 or "Allow" in response.headers


def test_a_full_disk_is_the_servers_trouble(tmp_path: Path) -> None:
    """No file of more than 200 KiB can be written: the same to the server as a disk without room."""
    with running(tmp_path, ("prlimit", "--fsize=204800", "--", *COMMAND)) as server:
        server.wait_until_ready()
        files = {"file": ("a.wav", b"x" * 1_000_000)}
        response = requests.post(server.url + "/whisper", files=files, timeout=60)
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert "no room for uploads" in response.json()["error"]
        assert "an upload can't be kept" in server.log
