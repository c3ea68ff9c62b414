"""The times of words: openai-whisper's `add_word_timestamps` around an engine's alignment."""

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from whisper.audio import HOP_LENGTH, SAMPLE_RATE, TOKENS_PER_SECOND
from whisper.timing import WordTiming, merge_punctuations
from whisper.tokenizer import Tokenizer

from whisper_server.engine.interface import Align, Alignment, Window
from whisper_server.transcribe.transcript import Segment, Word

PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"
SENTENCE_ENDS = ".。!！?？"
MAX_MEDIAN_SECONDS = 0.7


@dataclass
class _Durations:
    """Of the words of one window, in seconds."""

    median: float
    longest: float
    """Beyond that, a word at a boundary is cut."""


def end_of(segments: Sequence[Segment]) -> float | None:
    """When the last word ends; the last segment's end if there are no words, None if there are no segments."""
    for segment in reversed(segments):
        for word in reversed(segment.words or ()):
            return word.end
    return segments[-1].end if segments else None


def timed(
    segments: Sequence[Segment],
    *,
    tokenizer: Tokenizer,
    window: Window,
    language: str,
    task: str,
    num_frames: int,
    last_speech: float,
) -> Generator[Align, Any, list[Segment]]:
    """The segments of one window with their words, and with beginnings and ends that agree with these."""
    if not segments:
        return []
    texts = [[token for token in segment.tokens if token < tokenizer.eot] for segment in segments]
    tokens = list(itertools.chain.from_iterable(texts))
    timings: list[WordTiming] = []
    if tokens:
        alignment: Alignment = yield Align(
            window=window, text_tokens=tuple(tokens), language=language, task=task, num_frames=num_frames
        )
        timings = _words(alignment, tokens, tokenizer)
    durations = _durations(timings)
    _shorten_at_sentences(timings, durations)
    merge_punctuations(timings, PREPENDED, APPENDED)
    offset = segments[0].seek * HOP_LENGTH / SAMPLE_RATE
    result: list[Segment] = []
    index = 0
    for segment, text in zip(segments, texts, strict=True):
        saved = 0
        found: list[dict[str, Any]] = []
        while index < len(timings) and saved < len(text):
            timing = timings[index]
            if timing.word:
                found.append(
                    {
                        "word": timing.word,
                        "start": round(offset + float(timing.start), 2),
                        "end": round(offset + float(timing.end), 2),
                        "probability": float(timing.probability),
                    }
                )
            saved += len(timing.tokens)
            index += 1
        if found:
            segment = _agree(segment, found, durations, last_speech)
            last_speech = segment.end
        result.append(replace(segment, words=tuple(Word(**word) for word in found)))
    return result


def _words(alignment: Alignment, tokens: list[int], tokenizer: Tokenizer) -> list[WordTiming]:
    texts, word_tokens = tokenizer.split_to_word_tokens([*tokens, tokenizer.eot])
    if len(word_tokens) <= 1:
        return []
    text_indices, time_indices = alignment.path()
    bounds = np.pad(np.cumsum([len(part) for part in word_tokens[:-1]]), (1, 0))
    jumps = np.pad(np.diff(text_indices), (1, 0), constant_values=1).astype(bool)
    times = time_indices[jumps] / TOKENS_PER_SECOND
    chances = [np.mean(alignment.token_probabilities[first:end]) for first, end in itertools.pairwise(bounds)]
    rows = zip(texts, word_tokens, times[bounds[:-1]], times[bounds[1:]], chances, strict=False)
    return [WordTiming(*row) for row in rows]


def _durations(timings: Sequence[WordTiming]) -> _Durations:
    lengths = np.array([timing.end - timing.start for timing in timings])
    lengths = lengths[lengths.nonzero()]
    median = min(MAX_MEDIAN_SECONDS, float(np.median(lengths)) if len(lengths) else 0.0)
    return _Durations(median, median * 2)


def _shorten_at_sentences(timings: Sequence[WordTiming], durations: _Durations) -> None:
    if not any(timing.end != timing.start for timing in timings):
        return
    for before, timing in itertools.pairwise(timings):
        if timing.end - timing.start > durations.longest:
            if timing.word in SENTENCE_ENDS:
                timing.end = timing.start + durations.longest
            elif before.word in SENTENCE_ENDS:
                timing.start = timing.end - durations.longest


def _agree(
    segment: Segment, found: list[dict[str, Any]], durations: _Durations, last_speech: float
) -> Segment:
    """Shorten words that are too long after a pause, and let segment and words begin and end together."""
    median, longest = durations.median, durations.longest
    first, last = found[0], found[-1]
    second = found[1] if len(found) > 1 else None
    after_pause = first["end"] - last_speech > median * 4
    if after_pause and (
        first["end"] - first["start"] > longest
        or (second is not None and second["end"] - first["start"] > longest * 2)
    ):
        if second is not None and second["end"] - second["start"] > longest:
            first["end"] = second["start"] = max(second["end"] / 2, second["end"] - longest)
        first["start"] = max(0, first["end"] - longest)
    start, end = segment.start, segment.end
    if start < first["end"] and start - 0.5 > first["start"]:
        first["start"] = max(0, min(first["end"] - median, start))
    else:
        start = first["start"]
    if end > last["start"] and end + 0.5 < last["end"]:
        last["end"] = max(last["start"] + median, end)
    else:
        end = last["end"]
    return replace(segment, start=start, end=end)
