"""Inputs that nobody thought of: mutated audio, mutated bodies, arbitrary form fields.

A small budget by default; WHISPER_FUZZ_EXAMPLES=10000 looks longer.
"""

import http.client
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict
from whisper_server.audio.ffmpeg import AudioError, TooLongError, decode
from whisper_server.config import Settings
from whisper_server.engine.interface import ModelInfo
from whisper_server.http.errors import BadField
from whisper_server.http.form.fields import FIELDS, MAX_BEAMS, NOT_SERVED
from whisper_server.http.form.request import parse

from tests.server.corpus import BAD_FILES
from tests.server.whisper_process import EXAMPLES, WhisperProcess, ffmpeg, part

EXAMPLES_BUDGET = int(os.environ.get("WHISPER_FUZZ_EXAMPLES", "60"))
SECONDS_EACH = 60  # far more than a short file takes, on however busy a machine
MOST_MEMORY = 2 << 30
"""Bytes that the server may have needed at any time; it begins with a third of that."""
ROUNDS = settings(
    max_examples=EXAMPLES_BUDGET,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
pytestmark = pytest.mark.timeout(300 + 10 * EXAMPLES_BUDGET)

KINDS = ("wav", "flac", "mp3", "ogg", "m4a", "webm", "aiff", "caf", "au", "aac", "mka", "mpeg")
HOSTILE = (
    *(
        b"#EXTM3U\n#EXTINF:1,\n",
        b"ffconcat version 1.0\nfile ",
        b"v=0\nm=audio 9 RTP/AVP 0\n",
        b"[playlist]\nFile1=",
    ),
    *(
        b"file:///etc/passwd",
        b"/proc/self/environ",
        b"concat:/etc/passwd|/etc/passwd",
        b"subfile,,start,0,end,9,,:/etc/passwd",
    ),
    *(
        b"data:audio/wav;base64,UklGRg==",
        b"crypto:/etc/passwd",
        b"\x00" * 64,
        b"\xff" * 64,
        b"RIFF\xff\xff\xff\xffWAVE",
    ),
)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """A second of speech in every accepted format, and what is known to be bad."""
    folder = tmp_path_factory.mktemp("seeds")
    for kind in KINDS:
        ffmpeg("-i", EXAMPLES / "fox.flac", "-t", "1", "-ar", "48000", "-b:a", "64k", folder / f"a.{kind}")
    good = [(folder / f"a.{kind}").read_bytes() for kind in KINDS]
    return good + [make(folder) for make, _ in BAD_FILES.values()]


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """A port that must not be called."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        yield listening


def mutated(data: st.DataObject, seeds: list[bytes], url: bytes) -> bytes:
    """One of the seeds, cut, overwritten, repeated and mixed with what is dangerous elsewhere."""
    content = bytearray(data.draw(st.sampled_from([*seeds, b""])))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        # Headers are where parsers go wrong.
        if data.draw(st.booleans()):
            place = min(place, 64)
        piece = data.draw(st.one_of(st.binary(max_size=32), st.sampled_from([*HOSTILE, url])))
        match data.draw(st.sampled_from(["overwrite", "insert", "cut", "drop", "double"])):
            case "overwrite":
                content[place : place + len(piece)] = piece
            case "insert":
                content[place:place] = piece
            case "cut":
                del content[place:]
            case "drop":
                del content[place : place + len(piece)]
            case "double":
                content += content[place : place + 20_000]
    return bytes(content)


def test_mutated_audio_is_decoded_or_refused(
    seeds: list[bytes], listener: socket.socket, tmp_path: Path
) -> None:
    host, port = listener.getsockname()
    url = f"http://{host}:{port}/a.ts".encode()
    file = tmp_path / "upload"

    @ROUNDS
    @given(st.data())
    def check(data: st.DataObject) -> None:
        file.write_bytes(mutated(data, seeds, url))
        begin = time.monotonic()
        with file.open("rb") as opened:
            try:
                samples = decode(opened, 30, deadline=begin + SECONDS_EACH)
            except (AudioError, TooLongError) as problem:
                assert str(problem)
                assert "/proc" not in str(problem)
            else:
                assert 0 < len(samples) <= 31 * 16000
        assert [path.name for path in tmp_path.iterdir()] == ["upload"]

    check()
    with pytest.raises(TimeoutError):
        listener.accept()
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert "ffmpeg" not in {Path(f"/proc/{child}/comm").read_text().strip() for child in children}


def test_mutated_audio_is_answered_and_leaves_nothing(
    small_server: WhisperProcess, seeds: list[bytes], listener: socket.socket
) -> None:
    """No file either, as is looked at after each test of this server."""
    host, port = listener.getsockname()
    url = f"http://{host}:{port}/a.ts".encode()

    @settings(ROUNDS, max_examples=max(1, EXAMPLES_BUDGET // 3))
    @given(st.data(), st.sampled_from(["/whisper", "/v1/audio/transcriptions"]))
    def check(data: st.DataObject, path: str) -> None:
        files = {"file": ("upload", mutated(data, seeds, url))}
        form = {"model": "whisper-1", "language": "en"}
        response = requests.post(small_server.url + path, data=form, files=files, timeout=300)
        assert response.status_code in (200, 400, 413), response.text
        assert response.headers["Content-Type"] == "application/json"
        assert "/proc" not in response.text

    check()
    with pytest.raises(TimeoutError):
        listener.accept()
    assert "Traceback" not in small_server.log
    assert small_server.transcript(EXAMPLES / "hello.wav").startswith("hello world")
    peak = next(
        line.split()[1]
        for line in Path(f"/proc/{small_server.worker()}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    assert int(peak) * 1024 < MOST_MEMORY


def test_files_that_only_name_others_are_never_audio(tmp_path: Path) -> None:
    """Playlists, scripts and the like around a file that could be transcribed."""
    canary = str(EXAMPLES / "hello.wav").encode()
    file = tmp_path / "upload"

    @ROUNDS
    @given(
        st.sampled_from(HOSTILE[:4]),
        st.sampled_from(
            [b"", b"file:", b"file://", b"concat:", b"cache:", b"async:", b"subfile,,start,0,end,0,,:"]
        ),
        st.binary(max_size=16),
    )
    def check(head: bytes, scheme: bytes, tail: bytes) -> None:
        file.write_bytes(head + scheme + canary + b"\n" + tail)
        with file.open("rb") as opened, pytest.raises(AudioError):
            decode(opened, 30, deadline=time.monotonic() + SECONDS_EACH)

    check()


BODY = (
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n'
    b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--b--\r\n'
)


def test_mutated_bodies_get_a_4xx(server: WhisperProcess) -> None:
    @ROUNDS
    @given(st.data(), st.sampled_from(["/whisper", "/v1/audio/transcriptions", "/v1/audio/translations"]))
    def check(data: st.DataObject, path: str) -> None:
        body = mutated(data, [BODY], b"\r\n--b\r\n")
        boundary = data.draw(st.sampled_from(["b", "b", "b", '"b"', "", "x" * 100]))
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS_EACH)
        connection.request("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        answer = connection.getresponse()
        assert 400 <= answer.status < 500, answer.read()
        assert answer.headers["Content-Type"] == "application/json"
        answer.read()
        connection.close()

    check()
    assert "Traceback" not in server.log
    assert server.post(part(EXAMPLES / "hello.wav")).status_code == 200


@pytest.mark.parametrize("path", ["/whisper", "/v1/audio/transcriptions"])
@pytest.mark.parametrize("which", [b' name="file";', b' name="model"'])
def test_a_part_without_a_name_is_refused(server: WhisperProcess, path: str, which: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SECONDS_EACH)
    body = BODY.replace(which, b"")
    connection.request("POST", path, body, {"Content-Type": "multipart/form-data; boundary=b"})
    answer = connection.getresponse()
    assert (answer.status, b"has no name" in answer.read()) == (400, True)
    connection.close()


NAMES = [*FIELDS, *NOT_SERVED, *(name.removesuffix("[]") for name in FIELDS)]
VALUES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "0", "1", "-1", "true", "none", "nan", "inf", "1e400", "0.5", "٣", "5,1", "0,1,2", "word", "en"]
    ),
    st.floats().map(str),
    st.integers().map(str),
)


@settings(ROUNDS, max_examples=10 * EXAMPLES_BUDGET)
@given(
    form=st.lists(st.tuples(st.one_of(st.sampled_from(NAMES), st.text(max_size=8)), VALUES), max_size=6),
    task=st.sampled_from(["transcribe", "translate"]),
    multilingual=st.booleans(),
)
def test_any_form_is_understood_or_refused_by_name(
    form: list[tuple[str, str]], task: str, multilingual: bool
) -> None:
    info = ModelInfo(
        name="demo",
        n_mels=80,
        n_audio_ctx=1500,
        n_text_ctx=448,
        is_multilingual=multilingual,
        num_languages=99,
    )
    try:
        asked = parse(MultiDict(form), task, Settings(), info)
    except BadField as problem:
        assert problem.param in {name[:100] for name, _ in form} | {*FIELDS, *NOT_SERVED}
        return
    options = asked.options
    assert options.temperatures
    assert all(0 <= each <= 1 for each in options.temperatures)
    assert options.beam_size is None or 1 <= options.beam_size <= MAX_BEAMS
    assert options.best_of is None or 1 <= options.best_of <= MAX_BEAMS
    assert options.initial_prompt is None or len(options.initial_prompt) <= 4096
