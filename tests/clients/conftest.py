"""A server that needs a key and takes two requests at a time, for programs and people that come from outside."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.whisper_process import EXAMPLES, WhisperProcess, ffmpeg, running

KEY = "sk-clients"


@pytest.fixture(scope="session")
def keyed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WhisperProcess]:
    """The server, ready."""
    secret = tmp_path_factory.mktemp("secret")
    (secret / "clients").write_text(KEY)
    settings = {"WHISPER_API_KEYS_DIR": str(secret), "WHISPER_MAX_QUEUE": "2"}
    with running(tmp_path_factory.mktemp("keyed"), **settings) as process:
        process.wait_until_ready()
        yield process


@pytest.fixture(scope="session")
def long_audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of speech: three windows."""
    path = tmp_path_factory.mktemp("audio") / "long.wav"
    ffmpeg("-stream_loop", "14", "-i", EXAMPLES / "hello.wav", path)
    return path


@pytest.fixture(scope="session")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech too long to be done before it is looked at."""
    path = tmp_path_factory.mktemp("audio") / "hour.mp3"
    ffmpeg("-stream_loop", "839", "-i", EXAMPLES / "hello.wav", "-b:a", "32k", path)
    return path
