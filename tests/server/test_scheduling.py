"""Between requests and engine: whose turn it is, what is told when, and that nothing of a file stays behind."""

import gc
import itertools
import re
import threading
import time
import weakref
from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flask.testing import FlaskClient
from whisper_server.audio.executor import Executor
from whisper_server.audio.mel import Spectrogram, spectrogram
from whisper_server.config import Settings
from whisper_server.engine.checkpoint import load_checkpoint
from whisper_server.engine.interface import Answer, Decode, Encode, Ticket
from whisper_server.engine.tokens import tokenizer_of
from whisper_server.engine.torch.load import make_engine, model_info
from whisper_server.engine.torch.sequence import MAX_GROUP
from whisper_server.http.admission import Admission, Limits, State
from whisper_server.http.app import create_app
from whisper_server.http.connection import Watchdog
from whisper_server.http.lifecycle import Lifecycle
from whisper_server.metrics import Metrics
from whisper_server.scheduling.dispatcher import GIVEN_UP_COST, WINDOW_COST
from whisper_server.scheduling.pace import Pace
from whisper_server.transcribe.options import Options
from whisper_server.transcribe.stream import Assembly

from tests.server.driving import INFO, soon, turn_of
from tests.server.scheduler import GREEDY, HELLO, LONG, Running, spoken, with_both_engines
from tests.server.whisper_process import EXAMPLES, ffmpeg, wait_for


@with_both_engines
def test_deltas_joined_are_the_text_and_segments_are_told_once(running: Running) -> None:
    with running.scheduler.submit(LONG, GREEDY, turn_of("a")) as job:
        updates = [update for update in job.updates() if update is not None]
        transcript = job.transcript()
    assert len(updates) > 1, "a long file is told window by window"
    assert "".join(update.delta for update in updates) == transcript.text
    assert tuple(segment for update in updates for segment in update.segments) == transcript.segments
    assert [segment.id for segment in transcript.segments] == list(range(len(transcript.segments)))
    assert transcript.duration == pytest.approx(len(LONG) / 16000)
    running.wait_until_empty()


@with_both_engines
def test_updates_give_a_sign_of_life(running: Running) -> None:
    with running.scheduler.submit(LONG, GREEDY, turn_of("a")) as job:
        assert None in list(job.updates(every=0.001))


@with_both_engines
def test_a_job_that_nobody_waits_for_gives_everything_back(running: Running) -> None:
    for _ in range(20):
        with running.scheduler.submit(LONG, GREEDY, turn_of("a")):
            pass
    with running.scheduler.submit(LONG, GREEDY, turn_of("a")) as job:
        next(job.updates())
    running.wait_until_empty()
    with running.scheduler.submit(HELLO, GREEDY, turn_of("a")) as job:
        assert job.transcript().text == "hello world please play music"


@pytest.fixture
def collector_off() -> Iterator[None]:
    """It comes by for many new objects, not for big ones: a process with few files an hour would hold them all."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@with_both_engines
@pytest.mark.parametrize(
    "options",
    [
        GREEDY,
        replace(GREEDY, word_timestamps=True),
        replace(GREEDY, parallel=True),
        replace(GREEDY, suppress_tokens=(10**9,)),
    ],
    ids=["one after another", "words", "side by side", "failing"],
)
def test_nothing_of_a_file_is_left_for_the_garbage_collector(
    running: Running, collector_off: None, options: Options
) -> None:
    for _ in range(3):
        with (
            suppress(ValueError),
            running.scheduler.submit(LONG, options, turn_of("a")) as job,
        ):
            job.transcript()
    with running.scheduler.submit(LONG, options, turn_of("a")):
        pass
    running.wait_until_empty()
    del job
    deadline = soon()
    while left := [each for each in gc.get_objects() if type(each) is Spectrogram]:
        assert time.monotonic() < deadline, f"{len(left)} left"
        del left
        time.sleep(0.1)


@with_both_engines
def test_what_a_failing_request_holds_goes_with_it(running: Running, collector_off: None) -> None:
    class Held:
        """As the samples of its files."""

    def fail() -> weakref.ref[Held]:
        held = Held()
        bad = replace(GREEDY, suppress_tokens=(10**9,))
        with suppress(ValueError), running.scheduler.submit(HELLO, bad, turn_of("a")) as job:
            job.transcript()
        return weakref.ref(held)

    held, deadline = fail(), soon()
    while held() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@with_both_engines
def test_a_deadline_ends_the_wait_and_the_work(running: Running) -> None:
    long = np.concatenate([LONG] * 4)
    running.scheduler._dispatcher.pace = Pace()  # as before anything is known: else it is refused
    with (
        pytest.raises(TimeoutError, match="deadline"),
        running.scheduler.submit(long, GREEDY, turn_of("a", 0.5)) as job,
    ):
        job.transcript()
    running.wait_until_empty()


def client_of(running: Running, seconds: float = 3600, **settings: str) -> tuple[FlaskClient, Admission]:
    """A client of the whole application around the scheduler, and what counts its requests."""
    limits = Limits(requests=1, bytes=1 << 30, audio_seconds=seconds)
    metrics, watchdog = Metrics(), Watchdog()
    admission = Admission(limits, lambda: State.READY)
    chosen = Settings.from_environ({"WHISPER_MODEL": "demo", **settings})
    transcribing = Lifecycle(chosen, running.scheduler, admission, metrics, watchdog)
    return create_app(transcribing, metrics, None).test_client(), admission


@pytest.mark.parametrize(("stage", "field"), [("_spectrograms", {}), ("_voices", {"vad": "true"})])
def test_the_deadline_of_a_file_that_waits_to_be_listened_to(
    running: Running, stage: str, field: dict[str, str]
) -> None:
    client, admission = client_of(running, WHISPER_REQUEST_TIMEOUT_SECONDS="5")
    executor: Executor[Any] = getattr(running.scheduler, stage)
    go = threading.Event()
    turn = turn_of("other")
    form = {"file": (EXAMPLES / "hello.wav").open("rb"), "model": "whisper-1", **field}
    with ThreadPoolExecutor(2) as pool:
        held = pool.submit(executor.run, lambda: go.wait(60), turn)
        answer = pool.submit(client.post, "/v1/audio/transcriptions", data=form)
        while not len(executor):
            assert not answer.done(), answer.result().text
            time.sleep(0.01)
        response = answer.result()
        assert not held.done()
        go.set()
    assert response.status_code == 503
    assert "5 seconds" in response.get_json()["error"]["message"]
    assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert admission.in_flight == 0


def test_what_can_not_be_done_in_time_is_refused_when_its_length_is_known(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By how fast the device was, not by a fixed length; what is short enough goes on being done."""
    long = tmp_path / "long.flac"
    ffmpeg("-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", "2500", "-c:a", "flac", long)
    client, admission = client_of(running, WHISPER_REQUEST_TIMEOUT_SECONDS="30", seconds=7200)
    assert running.engine is not None
    step = running.engine.step

    def slow_step() -> list[tuple[Ticket, Answer]]:
        time.sleep(0.2)
        return step()

    monkeypatch.setattr(running.engine, "step", slow_step)

    def post(file: Path, **fields: str) -> Any:
        with file.open("rb") as opened:
            form = {"file": opened, "language": "en", **fields}
            return client.post("/v1/audio/transcriptions", data=form, buffered=True)

    pace = running.scheduler._dispatcher.pace = Pace()
    while pace.needed(1, 1) is None:
        assert post(EXAMPLES / "hello.wav").status_code == 200
    response = post(long)
    assert response.status_code == 413, response.text
    assert response.headers["x-should-retry"] == "false"
    message = response.get_json()["error"]["message"]
    found = re.fullmatch(
        r"2500 seconds of audio need about (\d+) seconds here, and (\d+) are left of the 30 that a request may take "
        r"\(WHISPER_REQUEST_TIMEOUT_SECONDS\); send parts of at most (\d+) seconds",
        message,
    )
    assert found, message
    needed, left, fitting = map(int, found.groups())
    assert needed > 30 >= left
    assert fitting == pytest.approx(2500 * left / needed, rel=0.2)
    with running.scheduler.submit(LONG, GREEDY, turn_of("other")) as other:
        wait_for(lambda: running.scheduler._dispatcher.on_device > 0)
        busy = post(long)
        other.cancel()
    assert (busy.status_code, "or try again when it is less busy" in busy.text) == (503, True)
    monkeypatch.setattr(running.engine, "step", step)
    assert post(long, clip_timestamps="0,1", temperature="0.5").status_code == 200, (
        "only what is asked for counts"
    )
    assert admission.in_flight == 0
    running.wait_until_empty()
    assert running.scheduler._dispatcher.on_device == 0


def test_a_stream_without_news_has_comments(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device is held until some have come, so that there is no news."""
    monkeypatch.setattr("whisper_server.http.routes.openai.COMMENT_SECONDS", 0.05)
    monkeypatch.setattr("whisper_server.http.lifecycle.UPDATE_SECONDS", 0.02)
    assert running.engine is not None
    step, go = running.engine.step, threading.Event()
    let_go: list[bool] = []

    def held_step() -> list[tuple[Ticket, Answer]]:
        if all(let_go):
            let_go.append(go.wait(20))
        return step()

    monkeypatch.setattr(running.engine, "step", held_step)
    client, _ = client_of(running)
    form = {"file": (EXAMPLES / "hello.wav").open("rb"), "stream": "true"}
    with client.post("/v1/audio/transcriptions", data=form) as response:
        blocks = response.iter_encoded()
        try:
            comments = list(itertools.islice(blocks, 4))
        finally:
            go.set()
        rest = b"".join(blocks).decode()
    assert all(let_go), "the comments came when all was over"
    assert comments == [b": transcribing\n\n", *[b": still transcribing\n\n"] * 3]
    assert "hello world please play music" in rest.split("data: ")[-2]


@with_both_engines
def test_one_clients_pile_does_not_keep_another_waiting(running: Running) -> None:
    long = np.concatenate([LONG] * 10)
    pile = [running.scheduler.submit(long, GREEDY, turn_of("heavy", 600)) for _ in range(8)]
    try:
        for _ in range(3):
            with running.scheduler.submit(HELLO, GREEDY, turn_of("light", 600)) as job:
                assert job.transcript().text == "hello world please play music"
        assert running.scheduler._files, "the pile was done before: this test showed nothing"
    finally:
        for job in pile:
            job.cancel()
    running.wait_until_empty()


@with_both_engines
def test_a_long_file_in_parallel_does_not_keep_its_own_clients_short_one_waiting(running: Running) -> None:
    long = np.concatenate([LONG] * 10)
    parallel = replace(GREEDY, parallel=True)
    with running.scheduler.submit(long, parallel, turn_of("a", 600)) as pile:
        next(pile.updates())
        with running.scheduler.submit(HELLO, GREEDY, turn_of("a", 600)) as job:
            assert job.transcript().text == "hello world please play music"
        assert running.scheduler._files, "the long one was done before: this test showed nothing"
    running.wait_until_empty()


def test_what_is_charged_is_the_work_of_all_rows_and_of_those_given_up(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    charged: list[tuple[Hashable, float]] = []
    turns = running.scheduler._dispatcher._to_encode
    monkeypatch.setattr(turns, "charge", lambda owner, cost: charged.append((owner, cost)))
    tokens = {}
    for client, options in (("greedy", GREEDY), ("beams", replace(GREEDY, beam_size=5))):
        with running.scheduler.submit(HELLO, options, turn_of(client)) as job:
            segments = job.transcript().segments
        costs = [cost for owner, cost in charged if owner == client]
        tokens[client] = sum(costs) - WINDOW_COST * len(costs) / 2  # a window is charged, then its text
        assert tokens[client] > sum(len(segment.tokens) for segment in segments) > 0
    assert tokens["beams"] == 5 * tokens["greedy"]
    words = replace(GREEDY, word_timestamps=True)
    with running.scheduler.submit(HELLO, words, turn_of("words")) as job:
        segments = job.transcript().segments
    window, text, aligned = [cost for owner, cost in charged if owner == "words"][:3]
    first = [token for segment in segments if segment.seek == 0 for token in segment.tokens]
    spoken_tokens = [token for token in first if token < tokenizer_of(INFO).eot]
    assert (window, aligned) == (WINDOW_COST, len(spoken_tokens))
    assert 0 < aligned < text
    assert running.engine is not None
    step, begun, go = running.engine.step, threading.Event(), threading.Event()

    def held_step() -> list[tuple[Ticket, Answer]]:
        """A text that has begun is not done before it is given up."""
        asked = [asked for _, asked in list(running.scheduler._dispatcher._asked.values())]
        if any(isinstance(each, Decode) for each in asked):
            begun.set()
            assert go.wait(60)
        return step()

    monkeypatch.setattr(running.engine, "step", held_step)
    with running.scheduler.submit(LONG, replace(GREEDY, beam_size=5), turn_of("gone")):
        assert begun.wait(60)
    given_up: tuple[Hashable, float] = ("gone", 5 * GIVEN_UP_COST)
    deadline = time.monotonic() + 60
    while given_up not in charged:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    go.set()
    running.wait_until_empty()
    assert charged[-1] == given_up


def test_a_single_text_does_not_wait_behind_groups_that_have_no_room() -> None:
    checkpoint = load_checkpoint("demo", None)
    engine = make_engine(checkpoint, model_info("demo", checkpoint), torch.float32, "cpu", windows=24)
    for number in range(24):
        engine.submit(number, Encode(mel=spectrogram(HELLO, 80).beginning()))
    windows = [window for _ in range(24) for _, window in engine.step()]
    for number, window in enumerate(windows[:-1]):
        engine.submit(number, Decode(window=window, language="en", beam_size=MAX_GROUP))
    engine.submit("single", Decode(window=windows[-1], language="en"))
    done: list[Ticket] = []
    while engine.busy():
        done += [ticket for ticket, _ in engine.step()]
    assert len(done) == 24
    assert set(done[:3]) == {0, 1, "single"}  # all of these have a token a step, and as many tokens


@with_both_engines
def test_an_error_in_one_file_concerns_that_file_alone(running: Running) -> None:
    bad = Options(language="en", suppress_tokens=(10**9,))
    with (
        running.scheduler.submit(HELLO, bad, turn_of("a")) as job,
        pytest.raises(ValueError, match="no token"),
    ):
        job.transcript()
    with running.scheduler.submit(HELLO, GREEDY, turn_of("a")) as job:
        assert job.transcript().text == "hello world please play music"
    running.wait_until_empty()


@with_both_engines
@pytest.mark.parametrize("method", ["__init__", "add", "finish"])
def test_an_exception_while_a_file_is_handled_ends_that_file_alone(
    running: Running, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Whatever it is: the host thread goes on, and the engine gets everything back."""
    original, calls = getattr(Assembly, method), itertools.count()

    def fail_once(*arguments: Any, **named: Any) -> Any:
        if next(calls) == 0:
            raise ZeroDivisionError("a fault")
        return original(*arguments, **named)

    monkeypatch.setattr(Assembly, method, fail_once)
    with (
        running.scheduler.submit(LONG, GREEDY, turn_of("a")) as job,
        pytest.raises(ZeroDivisionError, match="a fault"),
    ):
        job.transcript()
    assert spoken(HELLO, GREEDY, running).text == "hello world please play music"
    running.wait_until_empty()


@with_both_engines
def test_an_engine_counts_what_it_does(running: Running) -> None:
    stats = running.scheduler.stats
    before = replace(stats)
    spoken(HELLO, GREEDY, running)
    running.wait_until_empty()
    assert stats.rounds > before.rounds
    assert stats.encoded == before.encoded + 2  # it has two windows
    assert stats.encode_seconds > before.encode_seconds
    assert stats.step_rows > before.step_rows
    assert stats.step_seconds > before.step_seconds
    assert stats.windows_taken == 0
