"""A file's generator by itself: what it asks for, and what it makes of the answers."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from whisper_server.audio.mel import spectrogram
from whisper_server.engine.interface import Decode, Decoded
from whisper_server.engine.tokens import tokenizer_of
from whisper_server.transcribe.loop import Final, LanguageInfo, MelSegment, Release, transcribe
from whisper_server.transcribe.options import Options
from whisper_server.transcribe.tally import Tally
from whisper_server.transcribe.transcript import Segment

from tests.server.driving import INFO

TOKENIZER = tokenizer_of(INFO)
BEGIN = TOKENIZER.timestamp_begin
HELLO = (BEGIN, *TOKENIZER.encode(" hello world"), BEGIN + 100)
SAME = (BEGIN, *TOKENIZER.encode(" hello" * 60), BEGIN + 100)


def decoded(avg_logprob: float, tokens: tuple[int, ...] = HELLO, no_speech_prob: float = 0.1) -> Decoded:
    return Decoded(tokens=tokens, avg_logprob=avg_logprob, no_speech_prob=no_speech_prob)


def told(answers: list[Decoded], seconds: float = 5.0) -> tuple[list[Segment], list[float], Tally]:
    """The segments of a silent file whose texts are these, the temperatures that were tried, and the tally."""
    tally, texts, temperatures, segments = Tally(total=Tally()), iter(answers), list[float](), list[Segment]()
    sound = spectrogram(np.zeros(int(seconds * 16000), np.int16), 80)
    work = transcribe(sound, INFO, Options(language="en"), LanguageInfo(), tally)

    def answered() -> Iterator[None]:
        answer: Any = None
        while True:
            try:
                asked = work.send(answer)
            except StopIteration:
                return
            answer = None
            match asked:
                case MelSegment(cut):
                    assert cut().shape == (80, 3000)
                    answer = "window"
                case Decode():
                    temperatures.append(asked.temperature)
                    answer = next(texts)
                case Final(final):
                    segments.extend(final)
                case Release():
                    yield

    for _ in answered():
        pass
    return segments, temperatures, tally


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_what_is_no_probability_is_not_good_enough(bad: float) -> None:
    segments, temperatures, _ = told([decoded(bad), decoded(-0.5)])
    assert temperatures == [0.0, 0.2]
    assert [segment.avg_logprob for segment in segments] == [-0.5]


def test_probabilities_that_are_no_numbers_at_any_temperature_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ArithmeticError, match="WHISPER_DTYPE"):
        told([decoded(math.nan, no_speech_prob=math.nan)] * 6)


def test_segments_have_numbers_that_json_can_write() -> None:
    for answers in ([decoded(-math.inf)] * 6, [decoded(-0.5, no_speech_prob=math.nan)]):
        (segment,), _, _ = told(answers)
        json.dumps(asdict(segment), allow_nan=False)
        assert segment.text == " hello world"


def test_what_a_file_took_is_counted_with_the_reasons() -> None:
    answers = [decoded(-2.0), decoded(-0.1, SAME), decoded(-0.5), decoded(-0.5), decoded(-0.5)]
    _, temperatures, tally = told(answers, 61.0)
    assert temperatures == [0.0, 0.2, 0.4, 0.0, 0.0]
    assert tally.windows == 3
    assert tally.tokens == sum(len(each.tokens) for each in answers)
    assert tally.fallbacks == {"logprob": 1, "compression_ratio": 1}
    assert tally.total is not None
    assert (tally.total.windows, tally.total.fallbacks) == (3, tally.fallbacks)


def test_the_last_attempt_is_no_fallback_and_silence_is_none() -> None:
    _, temperatures, tally = told([decoded(-2.0)] * 6)
    assert len(temperatures) == 6
    assert tally.fallbacks == {"logprob": 5}
    segments, temperatures, tally = told([decoded(-2.0, no_speech_prob=0.9)])
    assert (segments, temperatures, dict(tally.fallbacks)) == ([], [0.0], {})
