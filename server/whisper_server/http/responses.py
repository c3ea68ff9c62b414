"""Transcripts as OpenAI's API writes them down."""

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from whisper.tokenizer import Tokenizer

from whisper_server.languages import NAMES
from whisper_server.transcribe.transcript import Segment, Transcript, Word

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")


def json(transcript: Transcript) -> dict[str, Any]:
    """The text and little more."""
    return {"text": transcript.text, "usage": _usage(transcript)}


def verbose(transcript: Transcript, task: str, granularities: frozenset[str]) -> dict[str, Any]:
    """All that is known; `granularities` of "segment" and "word" say which times are wanted."""
    body: dict[str, Any] = {
        "task": task,
        # Of the text, that is; it was heard in transcript.language.
        "language": "english" if task == "translate" else NAMES[transcript.language],
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
    }
    if "segment" in granularities:
        body["segments"] = [segment(each) for each in transcript.segments]
    if "word" in granularities:
        body["words"] = words(transcript.segments)
    return body | {"usage": _usage(transcript)}


def segment(one: Segment) -> dict[str, Any]:
    """A segment with the fields of OpenAI's API."""
    fields = asdict(one)
    del fields["words"], fields["token_logprobs"]
    return {**fields, "tokens": list(one.tokens), "start": round(one.start, 3), "end": round(one.end, 3)}


def words(segments: Iterable[Segment]) -> list[dict[str, Any]]:
    """The words of all segments, without the blanks around them."""
    return [_word(each) for one in segments for each in one.words or ()]


def srt(segments: Iterable[Segment]) -> str:
    """SubRip: numbered cues, each followed by an empty line."""
    return "".join(
        f"{number}\n{_clock(one.start, ',', True)} --> {_clock(one.end, ',', True)}\n{_cue(one)}\n\n"
        for number, one in enumerate(_spoken(segments), 1)
    )


def vtt(segments: Iterable[Segment]) -> str:
    """WebVTT."""
    cues = (
        f"{_clock(one.start, '.')} --> {_clock(one.end, '.')}\n{_cue(one)}\n\n" for one in _spoken(segments)
    )
    return "WEBVTT\n\n" + "".join(cues)


def logprobs(segments: Iterable[Segment], tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """The log-probability of each token of the text; a token may be a part of a character, whose bytes tell it then."""
    return [
        {"token": (piece := tokenizer.encoding.decode_single_token_bytes(token)).decode(errors="replace")}
        | {"logprob": logprob, "bytes": list(piece)}
        for one in segments
        for token, logprob in zip(one.tokens, one.token_logprobs or (), strict=False)
        if token < tokenizer.eot
    ]


def _usage(transcript: Transcript) -> dict[str, Any]:
    """What the audio counts, as of OpenAI's models that are paid by its duration."""
    return {"type": "duration", "seconds": math.ceil(transcript.duration)}


def _word(one: Word) -> dict[str, Any]:
    return {"word": one.word.strip(), "start": round(one.start, 3), "end": round(one.end, 3)}


def _spoken(segments: Iterable[Segment]) -> Iterable[Segment]:
    """Those that have a text: players show an empty cue as a box."""
    return (one for one in segments if one.text.strip())


def _cue(one: Segment) -> str:
    # An arrow in the text would be taken for the line with the times.
    return one.text.strip().replace("-->", "->")


def _clock(seconds: float, point: str, always_hours: bool = False) -> str:
    milliseconds = max(0, round(seconds * 1000))
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours:02d}:" if always_hours or hours else ""
    return f"{head}{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
