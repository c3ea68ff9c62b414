"""A transcript in the formats of the API. It is asked for as verbose_json, whatever is wanted: only that tells how far it is."""

import json
from collections.abc import Iterable
from typing import Any

SUFFIXES = {"text": ".txt", "json": ".json", "srt": ".srt", "vtt": ".vtt", "verbose_json": ".json"}
"""Of files, by format."""


def rendered(transcript: dict[str, Any], format: str) -> str:
    """`transcript` is the API's verbose_json; what the API itself would answer in that format."""
    match format:
        case "text":
            return f"{transcript['text']}\n"
        case "json":
            return _json({name: transcript[name] for name in ("text", "usage") if name in transcript})
        case "verbose_json":
            return _json(transcript)
        case "srt":
            cues = enumerate(_spoken(transcript), 1)
            return "".join(f"{number}\n{_cue(each, ',', hours=True)}" for number, each in cues)
        case "vtt":
            return "WEBVTT\n\n" + "".join(_cue(each, ".", hours=False) for each in _spoken(transcript))
    raise ValueError(format)


def _spoken(transcript: dict[str, Any]) -> Iterable[dict[str, Any]]:
    return (each for each in transcript["segments"] if each["text"].strip())


def _cue(segment: dict[str, Any], point: str, *, hours: bool) -> str:
    times = " --> ".join(_clock(segment[name], point, hours) for name in ("start", "end"))
    # A text that looks like the line with the times would end the cue.
    return f"{times}\n{segment['text'].strip().replace('-->', '->')}\n\n"


def _clock(seconds: float, point: str, hours: bool) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    head = f"{hour:02d}:" if hours or hour else ""
    return f"{head}{minute:02d}:{second:02d}{point}{milliseconds:03d}"


def _json(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False) + "\n"
