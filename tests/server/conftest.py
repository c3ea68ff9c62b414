"""One server for the tests that can share it, another with small limits."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.scheduler import Running, running_with
from tests.server.whisper_process import WhisperProcess, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WhisperProcess]:
    """A server with its default settings and the demo model, ready."""
    with running(tmp_path_factory.mktemp("server")) as process:
        process.wait_until_ready()
        yield process


@pytest.fixture(scope="session")
def small_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WhisperProcess]:
    """A server with small limits: 2 requests, 60 s of audio, 1 MiB; JSON logs; one browser origin."""
    with running(
        tmp_path_factory.mktemp("small"),
        WHISPER_MAX_QUEUE="2",
        WHISPER_MAX_AUDIO_SECONDS="60",
        WHISPER_MAX_UPLOAD_BYTES=str(1 << 20),
        WHISPER_LOG_FORMAT="json",
        WHISPER_CORS_ORIGINS="https://app.example.com",
    ) as process:
        process.wait_until_ready()
        yield process


@pytest.fixture(autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test of a shared server: no file in its temporary directory, named or not."""
    yield
    for name in ("server", "small_server"):
        if name in request.fixturenames:
            process: WhisperProcess = request.getfixturevalue(name)
            left = [path for path in process.tmp.rglob("*") if path.is_file()]
            assert left == []
            assert process.open_temporary_files() == []


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests make files to send."""
    return tmp_path_factory.mktemp("workshop")


@pytest.fixture(name="running")
def _running(request: pytest.FixtureRequest) -> Running:
    """A scheduler and its engine, which the tests share; see `with_both_engines`."""
    return running_with(getattr(request, "param", "openai-whisper"))
