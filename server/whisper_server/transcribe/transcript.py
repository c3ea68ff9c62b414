"""What was said in one file: the records that every response format is made from."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Word:
    """One word; times in seconds from the beginning of the file."""

    word: str
    """With the blank that precedes it, as openai-whisper has it."""
    start: float
    end: float
    probability: float


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A phrase, by openai-whisper's own field names; times in seconds from the beginning of the file."""

    id: int
    seek: int
    """Where its window begins, in frames of 10 ms."""
    start: float
    end: float
    text: str
    tokens: tuple[int, ...]
    token_logprobs: tuple[float, ...] | None = None
    """One for each of `tokens`; None where the engine can't tell."""
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: tuple[Word, ...] | None = None
    """None unless they were asked for."""


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """All of one file."""

    text: str
    """Without blanks around it."""
    language: str
    """A code: the one asked for, or the one detected."""
    duration: float
    """Of the audio, in seconds."""
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Update:
    """What became final since the last update, in the order of the file. All deltas joined are the transcript's text."""

    delta: str
    segments: tuple[Segment, ...]
