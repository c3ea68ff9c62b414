"""Files in parts: where somebody speaks, and the parts side by side."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
from whisper_server.audio.mel import Spectrogram
from whisper_server.audio.vad import spans
from whisper_server.engine.interface import Mel

from tests.server.driving import turn_of
from tests.server.scheduler import GREEDY, HELLO, LONG, Running, spoken, with_both_engines


@with_both_engines
def test_spans_that_are_given_are_not_looked_for(running: Running) -> None:
    given = replace(GREEDY, clip_timestamps=(0.0, 1.0))
    expected = spoken(HELLO, given, running)
    assert expected.text != spoken(HELLO, GREEDY, running).text
    for looked_for in (replace(given, vad=True), replace(given, parallel=True)):
        assert spoken(HELLO, looked_for, running).text == expected.text


@with_both_engines
def test_voice_detection_is_a_matter_of_clips(running: Running) -> None:
    silence = np.zeros(16000 * 40, np.int16)
    file = np.concatenate([HELLO, silence, HELLO])
    times = tuple(time for span in spans(file) for time in span)
    assert len(times) == 4, "two spans of speech"
    by_voice = spoken(file, replace(GREEDY, vad=True), running)
    by_clips = spoken(file, replace(GREEDY, clip_timestamps=times), running)
    assert by_voice == by_clips
    assert by_voice.text.split()[:2] == ["hello", "world"]
    assert spoken(silence, replace(GREEDY, vad=True), running).text == ""


@with_both_engines
def test_parallel_equals_one_transcription_for_each_span_in_the_order_of_the_file(running: Running) -> None:
    parallel = replace(GREEDY, parallel=True)
    with running.scheduler.submit(LONG, parallel, turn_of("a")) as job:
        updates = [update for update in job.updates() if update is not None]
        transcript = job.transcript()
    assert "".join(update.delta for update in updates) == transcript.text
    starts = [segment.start for segment in transcript.segments]
    assert starts == sorted(starts)
    apart = [spoken(LONG, replace(GREEDY, clip_timestamps=span), running) for span in spans(LONG)]
    assert len(apart) > 1
    expected = [(s.start, s.end, s.tokens) for part in apart for s in part.segments]
    assert [(s.start, s.end, s.tokens) for s in transcript.segments] == expected
    running.wait_until_empty()


def test_a_parallel_file_does_not_hold_its_spectrogram_twice(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its windows are cut as the engine takes them, not all at once."""
    cut, longest, windows = Spectrogram.window, 0, list[weakref.ref[Mel]]()

    def watch(self: Spectrogram, seek: int, size: int) -> Mel:
        nonlocal longest
        window = cut(self, seek, size)
        windows.append(weakref.ref(window))
        longest = max(longest, sum(each() is not None for each in windows))
        return window

    monkeypatch.setattr(Spectrogram, "window", watch)
    long = np.concatenate([LONG] * 6)
    assert len(spans(long)) >= 12
    spoken(long, replace(GREEDY, parallel=True), running)
    assert 1 <= longest <= 4, "as many as the engine has windows"


@with_both_engines
def test_cancelling_a_parallel_file_gives_everything_back(running: Running) -> None:
    with running.scheduler.submit(LONG, replace(GREEDY, parallel=True), turn_of("a")) as job:
        next(job.updates())
    running.wait_until_empty()
