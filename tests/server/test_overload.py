"""Ten times too many requests, for a few seconds: the limits here are generous, benchmarks/server/overload.py has figures."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from benchmarks.server.growth import MOST_GROWTH, has_grown
from benchmarks.server.overload import (
    CLIP,
    LOST,
    NOT_CONNECTED,
    UNANSWERED,
    Answers,
    ask,
    growth,
    measure,
    request,
)
from tests.server.whisper_process import ffmpeg, running, wait_for

pytestmark = pytest.mark.timeout(600)


def test_too_many_requests(tmp_path: Path) -> None:
    result = measure(tmp_path, seconds=6, factor=10, WHISPER_MAX_QUEUE="8")
    # Only these two answers, and one for every request.
    assert set(result.answers.statuses) == {200, 429}
    assert result.accepted > 0.3 * result.capacity
    assert max(result.healthz) < 10
    assert growth(result.memory) < 1.5
    # Whoever was accepted before SIGTERM has got the answer: as many as the server says it has given.
    assert result.exit_status == 0
    assert result.drained.statuses[200] == result.logged["200"] > 0
    assert set(result.logged) <= {"200", "429", "503"}
    # Nobody lost an answer but who was still waiting for the connection to be taken.
    assert set(result.drained.statuses) <= {200, 429, 503, LOST, NOT_CONNECTED}


def test_answers_that_never_come_are_told_from_connections_never_taken(tmp_path: Path) -> None:
    clip, answers = tmp_path / "long.flac", Answers()
    ffmpeg("-stream_loop", "999", "-i", CLIP, "-t", "1000", clip)
    with running(tmp_path) as server:
        server.wait_until_ready()

        def kill() -> None:
            wait_for(lambda: server.metric("whisper_requests_in_flight") == 1)
            os.kill(server.worker(), signal.SIGKILL)

        async def ask_and_kill() -> None:
            await asyncio.gather(
                ask(server.port, request(clip.read_bytes()), answers), asyncio.to_thread(kill)
            )

        asyncio.run(ask_and_kill())
        server.wait()
        asyncio.run(ask(server.port, request(b""), answers))
    assert answers.statuses == {UNANSWERED: 1, NOT_CONNECTED: 1}


def test_growth_is_measured_from_the_first_tenth() -> None:
    warm = [100, 200]
    assert not has_grown([*warm, *[200] * 8, int(200 * MOST_GROWTH)])
    assert not has_grown([*warm, *[300] * 8, 200])
    assert has_grown([*warm, *[200] * 8, 211])
