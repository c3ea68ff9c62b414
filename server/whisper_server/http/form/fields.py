"""The form fields of OpenAI's audio API and openai-whisper's own options: one table, which the OpenAPI document shows as well."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from whisper_server.config import MAX_PROMPT_CHARACTERS
from whisper_server.http.form import values
from whisper_server.http.responses import FORMATS

MAX_BEAMS = 8

NOT_SERVED = {
    **dict.fromkeys(
        ("known_speaker_names[]", "known_speaker_references[]", "diarize", "diarization"),
        "speakers are not told apart",
    ),
    **dict.fromkeys(("keywords[]", "hotwords"), "use prompt: words in it are more likely to be recognised"),
    "languages[]": "use language, or leave it out to have the language detected",
    "vad_parameters": "use vad=true, whose parameters are fixed",
    "temperature_inc": "leave it out: temperature 0 rises in steps of 0.2 where the text is not good enough",
    "batch_size": "leave it out: all requests share the batches of the device; parallel=true cuts a long file into parts",
    "max_new_tokens": "leave it out: a window's text ends by itself",
    **dict.fromkeys(
        ("repetition_penalty", "no_repeat_ngram_size"), "use compression_ratio_threshold against repetitions"
    ),
}
"""Fields of OpenAI's API and of other servers that are not fulfilled here, and what to do instead."""

ALIASES = {"vad_filter": "vad", "initial_prompt": "prompt"}
"""Names that other servers and openai-whisper itself have for a field."""

IGNORED = {"user"}
"""Fields that clients send with all requests, and that mean nothing for audio."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One form field: `parse` raises ValueError("must be ...")."""

    name: str
    parse: Callable[[str], Any]
    schema: Mapping[str, Any] = field(default_factory=dict)
    meaning: str = ""
    repeated: bool = False


_FLAG = {"type": "boolean", "default": False}
_THRESHOLD = values.or_none(values.number(-1000, 1000))
_PROMPT = f"text that precedes the speech: names, spelling, style; its last {MAX_PROMPT_CHARACTERS} characters count"

FIELDS = {
    entry.name: entry
    for entry in (
        # OpenAI's own.
        Field(name="model", parse=str, schema={"type": "string"}, meaning="one of /v1/models"),
        Field(
            name="language",
            parse=values.language,
            schema={"type": "string", "example": "en"},
            meaning="the language spoken, as a code or name; auto: detected; absent: the server's default, or detected",
        ),
        Field(
            name="prompt",
            parse=lambda text: text[-MAX_PROMPT_CHARACTERS:],
            schema={"type": "string"},
            meaning=_PROMPT,
        ),
        Field(
            name="response_format",
            parse=values.one_of(*FORMATS),
            schema={"type": "string", "enum": list(FORMATS), "default": "json"},
        ),
        Field(
            name="temperature",
            parse=values.number(0, 1),
            schema={"type": "number", "minimum": 0, "maximum": 1, "default": 0},
            meaning="0, or less than 0.001: rising step by step where the text is not good enough",
        ),
        Field(
            name="timestamp_granularities[]",
            parse=values.granularities,
            schema={
                "type": "array",
                "items": {"type": "string", "enum": ["word", "segment"]},
                "default": ["segment"],
            },
            meaning="word needs response_format verbose_json",
            repeated=True,
        ),
        Field(
            name="include[]",
            parse=values.one_of("logprobs"),
            schema={"type": "array", "items": {"type": "string", "enum": ["logprobs"]}},
            meaning="logprobs: the log-probability of each token; needs response_format json, and the engine openai-whisper",
            repeated=True,
        ),
        Field(
            name="stream",
            parse=values.boolean,
            schema=_FLAG,
            meaning="server-sent events: text as it becomes final; response_format json, text or verbose_json",
        ),
        Field(
            name="chunking_strategy",
            parse=values.chunking,
            schema={"type": "string", "enum": ["auto"]},
            meaning="auto: long audio is cut at silences and transcribed side by side, as parallel=true",
        ),
        # openai-whisper's, by its own names.
        Field(
            name="task",
            parse=values.one_of("transcribe", "translate"),
            schema={"type": "string", "enum": ["transcribe", "translate"]},
            meaning="as the path says already",
        ),
        Field(
            name="beam_size",
            parse=values.whole_number(1, MAX_BEAMS),
            schema={"type": "integer", "minimum": 1, "maximum": MAX_BEAMS},
            meaning="at temperature 0; absent: greedy",
        ),
        Field(
            name="patience",
            parse=values.number(0.1, 4),
            schema={"type": "number", "minimum": 0.1, "maximum": 4},
            meaning="of beam search: needs beam_size",
        ),
        Field(
            name="best_of",
            parse=values.whole_number(1, MAX_BEAMS),
            schema={"type": "integer", "minimum": 1, "maximum": MAX_BEAMS},
            meaning="samples to choose from at temperatures above 0",
        ),
        Field(
            name="length_penalty",
            parse=values.number(0, 1),
            schema={"type": "number", "minimum": 0, "maximum": 1},
        ),
        Field(
            name="suppress_tokens",
            parse=values.tokens,
            schema={"type": "string", "default": "-1"},
            meaning="numbers separated by commas; -1 stands for symbols that are no speech; none: suppress nothing",
        ),
        Field(
            name="condition_on_previous_text",
            parse=values.boolean,
            schema={"type": "boolean", "default": True},
            meaning="whether a window's text is the prompt of the next one",
        ),
        Field(
            name="carry_initial_prompt",
            parse=values.boolean,
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
        Field(name="without_timestamps", parse=values.boolean, schema=_FLAG, meaning="one segment a window"),
        Field(
            name="word_timestamps",
            parse=values.boolean,
            schema=_FLAG,
            meaning="as timestamp_granularities[] word",
        ),
        Field(
            name="clip_timestamps",
            parse=values.spans,
            schema={"type": "string"},
            meaning="transcribe only these spans: seconds, start,end,start,end,... separated by commas",
        ),
        Field(
            name="hallucination_silence_threshold",
            parse=values.or_none(values.number(0.1, 3600)),
            schema={"type": "string"},
            meaning="seconds; longer silences around what is probably invented are skipped",
        ),
        # Our own.
        Field(
            name="vad",
            parse=values.boolean,
            schema={"type": "boolean"},
            meaning="transcribe only what has a voice in it",
        ),
        Field(
            name="parallel",
            parse=values.boolean,
            schema=_FLAG,
            meaning="cut long audio at silences, and transcribe the parts side by side, each without the text before it",
        ),
        Field(
            name="seed",
            parse=values.whole_number(0, 2**31 - 1),
            schema={"type": "integer", "minimum": 0, "maximum": 2**31 - 1, "default": 0},
            meaning="of the random choice at temperatures above 0",
        ),
    )
}
"""Every form field but `file`, by name."""
