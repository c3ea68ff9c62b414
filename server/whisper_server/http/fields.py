"""The form fields of OpenAI's audio API and openai-whisper's own options: one table, which the OpenAPI document shows as well."""

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from whisper_server.config import MAX_PROMPT_CHARACTERS
from whisper_server.http.responses import FORMATS
from whisper_server.languages import CODES, NAMES

MAX_BEAMS = 8
MAX_LIST = 1000
_TEXT_TOKENS = 50256  # below it there are none of the control tokens, in any model

NOT_SERVED = {
    "include[]": "log-probabilities of tokens are not served; verbose_json has avg_logprob of each segment",
    "known_speaker_names[]": "speakers are not told apart",
    "known_speaker_references[]": "speakers are not told apart",
    "keywords[]": "use prompt: words in it are more likely to be recognised",
    "languages[]": "use language, or leave it out to have the language detected",
}
"""Fields of OpenAI's API that no Whisper model can fulfil, and what to do instead."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One form field: `parse` raises ValueError("must be ...")."""

    name: str
    parse: Callable[[str], Any]
    schema: Mapping[str, Any] = field(default_factory=dict)
    meaning: str = ""
    repeated: bool = False


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("must be true or false")
    return text.lower() in ("true", "1")


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"must be a number from {low:g} to {high:g}")
        return value

    return parse


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,10}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _or_none(parse: Callable[[str], float]) -> Callable[[str], float | None]:
    return lambda text: None if text.lower() in ("", "none", "null") else parse(text)


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text == "diarized_json":
            raise ValueError(
                f"diarized_json is not served: speakers are not told apart; use one of {', '.join(allowed)}"
            )
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return parse


def _language(text: str) -> str | None:
    code = CODES.get(text.lower(), text.lower())
    if text and code not in NAMES:
        raise ValueError("must be a language that Whisper knows, as a code or name such as en or German")
    return code or None


def _chunking(text: str) -> str:
    if text != "auto":
        raise ValueError(
            "must be auto; for cuts at silences that follow from the audio, use vad=true and parallel=true"
        )
    return text


def _spans(text: str) -> tuple[float, ...]:
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    times = [float(part) if re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,6})?", part) else math.nan for part in parts]
    rising = all(early < late for early, late in itertools.pairwise(times))
    if len(times) > MAX_LIST or any(map(math.isnan, times)) or not rising:
        raise ValueError(
            f"must be rising seconds, start,end,start,end,... like 0,12.5,60; at most {MAX_LIST} of them"
        )
    return tuple(times)


def _tokens(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    valid = all(re.fullmatch("-1|[0-9]{1,6}", part) and int(part) < _TEXT_TOKENS for part in parts)
    if len(parts) > MAX_LIST or not valid:
        raise ValueError(
            f"must be numbers of text tokens like -1,220,50, below {_TEXT_TOKENS}; at most {MAX_LIST} of them"
        )
    return tuple(map(int, parts))


_FLAG = {"type": "boolean", "default": False}
_THRESHOLD = _or_none(_number(-1000, 1000))
_PROMPT = f"text that precedes the speech: names, spelling, style; its last {MAX_PROMPT_CHARACTERS} characters count"

FIELDS = {
    entry.name: entry
    for entry in (
        # OpenAI's own.
        Field(name="model", parse=str, schema={"type": "string"}, meaning="one of /v1/models"),
        Field(
            name="language",
            parse=_language,
            schema={"type": "string", "example": "en"},
            meaning="the language spoken, as a code or name; absent: the server's default, or detected",
        ),
        Field(
            name="prompt",
            parse=lambda text: text[-MAX_PROMPT_CHARACTERS:] or None,
            schema={"type": "string"},
            meaning=_PROMPT,
        ),
        Field(
            name="response_format",
            parse=_one_of(*FORMATS),
            schema={"type": "string", "enum": list(FORMATS), "default": "json"},
        ),
        Field(
            name="temperature",
            parse=_number(0, 1),
            schema={"type": "number", "minimum": 0, "maximum": 1, "default": 0},
            meaning="0, or less than 0.001: rising step by step where the text is not good enough",
        ),
        Field(
            name="timestamp_granularities[]",
            parse=_one_of("word", "segment"),
            schema={
                "type": "array",
                "items": {"type": "string", "enum": ["word", "segment"]},
                "default": ["segment"],
            },
            meaning="needs response_format verbose_json",
            repeated=True,
        ),
        Field(
            name="stream",
            parse=_boolean,
            schema=_FLAG,
            meaning="server-sent events: text as it becomes final; response_format json, text or verbose_json",
        ),
        Field(
            name="chunking_strategy",
            parse=_chunking,
            schema={"type": "string", "enum": ["auto"]},
            meaning="auto: long audio is cut at silences and transcribed side by side, as parallel=true",
        ),
        # openai-whisper's, by its own names.
        Field(
            name="beam_size",
            parse=_whole(1, MAX_BEAMS),
            schema={"type": "integer", "minimum": 1, "maximum": MAX_BEAMS},
            meaning="at temperature 0; absent: greedy",
        ),
        Field(
            name="patience",
            parse=_number(0.1, 4),
            schema={"type": "number", "minimum": 0.1, "maximum": 4},
            meaning="of beam search: needs beam_size",
        ),
        Field(
            name="best_of",
            parse=_whole(1, MAX_BEAMS),
            schema={"type": "integer", "minimum": 1, "maximum": MAX_BEAMS},
            meaning="samples to choose from at temperatures above 0",
        ),
        Field(
            name="length_penalty", parse=_number(0, 1), schema={"type": "number", "minimum": 0, "maximum": 1}
        ),
        Field(
            name="suppress_tokens",
            parse=_tokens,
            schema={"type": "string", "default": "-1"},
            meaning="numbers separated by commas; -1 stands for symbols that are no speech",
        ),
        Field(
            name="condition_on_previous_text",
            parse=_boolean,
            schema={"type": "boolean", "default": True},
            meaning="whether a window's text is the prompt of the next one",
        ),
        Field(
            name="carry_initial_prompt",
            parse=_boolean,
            schema=_FLAG,
            meaning="whether prompt precedes each window",
        ),
        Field(
            name="compression_ratio_threshold",
            parse=_THRESHOLD,
            schema={"type": "string", "default": "2.4"},
            meaning="text that is more repetitive is tried again at a higher temperature; none: never",
        ),
        Field(
            name="logprob_threshold",
            parse=_THRESHOLD,
            schema={"type": "string", "default": "-1.0"},
            meaning="text that is less probable is tried again at a higher temperature; none: never",
        ),
        Field(
            name="no_speech_threshold",
            parse=_THRESHOLD,
            schema={"type": "string", "default": "0.6"},
            meaning="a window that is more probably silent is skipped; none: never",
        ),
        Field(name="without_timestamps", parse=_boolean, schema=_FLAG, meaning="one segment a window"),
        Field(
            name="word_timestamps", parse=_boolean, schema=_FLAG, meaning="as timestamp_granularities[] word"
        ),
        Field(
            name="clip_timestamps",
            parse=_spans,
            schema={"type": "string"},
            meaning="transcribe only these spans: seconds, start,end,start,end,... separated by commas",
        ),
        Field(
            name="hallucination_silence_threshold",
            parse=_or_none(_number(0.1, 3600)),
            schema={"type": "string"},
            meaning="seconds; longer silences around what is probably invented are skipped",
        ),
        # Our own.
        Field(
            name="vad",
            parse=_boolean,
            schema={"type": "boolean"},
            meaning="transcribe only what has a voice in it",
        ),
        Field(
            name="parallel",
            parse=_boolean,
            schema=_FLAG,
            meaning="cut long audio at silences, and transcribe the parts side by side, each without the text before it",
        ),
        Field(
            name="seed",
            parse=_whole(0, 2**31 - 1),
            schema={"type": "integer", "minimum": 0, "maximum": 2**31 - 1, "default": 0},
            meaning="of the random choice at temperatures above 0",
        ),
    )
}
"""Every form field but `file`, by name."""
