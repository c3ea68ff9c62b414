"""How long a file will take, from what the windows before it took."""

from typing import Any, NoReturn, cast

import numpy as np
import pytest
from flask import Flask, request
from werkzeug.exceptions import HTTPException
from whisper_server.config import Settings
from whisper_server.engine.interface import SAMPLE_RATE, Ticket
from whisper_server.http.admission import Admission, Limits, State
from whisper_server.http.connection import Watchdog
from whisper_server.http.lifecycle import Lifecycle, begin_call
from whisper_server.metrics import Metrics
from whisper_server.scheduling.dispatcher import Dispatcher
from whisper_server.scheduling.file import Track
from whisper_server.scheduling.pace import KEPT_SECONDS, Pace
from whisper_server.scheduling.scheduler import Scheduler
from whisper_server.transcribe.options import Options

from tests.server.driving import INFO


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("whisper_server.scheduling.pace.time.monotonic", lambda: now[0])
    return now


def test_nothing_is_said_from_few_windows(clock: list[float]) -> None:
    pace = Pace()
    for _ in range(7):
        pace.note(1, 3.0, 30.0)
        assert pace.needed(3600, 1) is None
        assert pace.needed_side_by_side(3600) is None
    pace.note(1, 3.0, 30.0)
    assert pace.needed(3600, 1) == pytest.approx(360)


def test_company_makes_slow_and_side_by_side_fast(clock: list[float]) -> None:
    pace = Pace()
    for _ in range(10):
        pace.note(1, 1.5, 30.0)
        pace.note(7, 3.0, 30.0)
    assert pace.needed(3000, 1) == pytest.approx(150)
    assert pace.needed(3000, 3) == pytest.approx(150), "not measured: what less company took"
    assert pace.needed(3000, 5) == pace.needed(3000, 30) == pytest.approx(300)
    assert pace.needed_side_by_side(3000) == pytest.approx(300 / 7)


def test_a_file_of_noise_makes_nobody_elses_look_long(clock: list[float]) -> None:
    pace = Pace()
    for number in range(60):
        pace.note(1, 30.0 if number % 2 else 1.5, 30.0)
    assert pace.needed(3000, 1) == pytest.approx(150)


def test_what_was_slow_once_is_tried_again(clock: list[float]) -> None:
    pace = Pace()
    for _ in range(64):
        pace.note(1, 60.0, 30.0)
    assert pace.needed(3000, 1) == pytest.approx(6000)
    clock[0] += KEPT_SECONDS + 1
    assert pace.needed(3000, 1) is None


@pytest.mark.parametrize(
    ("audio", "waited", "company", "status"),
    [
        (700, 0, 0, 413),
        (100, 550, 0, 503),  # another time it has all of the limit
        (700, 0, 1, 503),  # with less company it may be faster
    ],
)
def test_only_what_no_other_time_will_do_is_refused_for_good(
    audio: int, waited: float, company: int, status: int
) -> None:
    """On a device that takes a second for each second of audio, with 600 seconds for a request."""

    def load() -> NoReturn:
        pytest.fail("nothing is to be loaded")

    scheduler = Scheduler(load)
    scheduler.info = INFO
    scheduler._dispatcher.on_device = company
    for _ in range(8):
        scheduler._dispatcher.pace.note(1, 30.0, 30.0)
    admission = Admission(Limits(requests=1, bytes=1, audio_seconds=1), lambda: State.READY)
    lifecycle = Lifecycle(Settings(), scheduler, admission, Metrics(), Watchdog())
    with Flask("test").test_request_context():
        begin_call(request, 0).begin -= waited
        with pytest.raises(HTTPException) as refused:
            lifecycle.submit(np.zeros(audio * SAMPLE_RATE, np.int16), Options())
    assert refused.value.code == status
    assert f"{audio} seconds of audio need about {audio} seconds here" in str(refused.value.description)


class Untiring:
    """Stands for an engine's thread, whose answers the test gives."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []

    def submit(self, ticket: Ticket, request: Any) -> None:
        self.tickets.append(ticket)

    def release(self, window: Any) -> None: ...


def test_the_last_of_a_burst_does_not_make_an_idle_device_look_slow(clock: list[float]) -> None:
    """It is alone at its end, but was slow beside the others."""
    engine = Untiring()
    dispatcher = Dispatcher(cast(Any, engine))
    mel = np.zeros((80, 3000), np.float32)
    for _ in range(8):
        tracks = [Track(cast(Any, None), cast(Any, None)) for _ in range(16)]
        for track in tracks:
            dispatcher.encode(track, mel)
        for ticket in engine.tickets[-16:]:
            dispatcher.answered(ticket, f"window {ticket}")
        clock[0] += 4
        for track in tracks:
            dispatcher.release(track, track.windows[0], heard=30.0)
    assert dispatcher.on_device == 0
    assert dispatcher.pace.needed(3600, 1) is None, "nothing was alone"
    assert dispatcher.pace.needed(3600, 16) == pytest.approx(480)
    for _ in range(8):
        track = Track(cast(Any, None), cast(Any, None))
        dispatcher.encode(track, mel)
        dispatcher.answered(engine.tickets[-1], "window")
        clock[0] += 0.5
        dispatcher.release(track, "window", heard=30.0)
    assert dispatcher.pace.needed(3600, 1) == pytest.approx(60)
