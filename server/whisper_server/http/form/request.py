"""A form to what it asks for: each field parsed, all of them checked against each other and against the model."""

import difflib
import itertools
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from werkzeug.datastructures import MultiDict

from whisper_server.config import Settings
from whisper_server.engine.interface import ModelInfo
from whisper_server.http.errors import BadField
from whisper_server.http.form.fields import ALIASES, FIELDS, IGNORED, NOT_SERVED
from whisper_server.transcribe.options import FALLBACK_TEMPERATURES, Options


@dataclass(frozen=True, kw_only=True)
class TranscriptionRequest:
    """What a request wants to have done, and how it wants to be told."""

    options: Options
    format: str
    granularities: frozenset[str]
    stream: bool
    logprobs: bool


_PASSED_ON = (
    *("beam_size", "patience", "best_of", "length_penalty", "suppress_tokens", "condition_on_previous_text"),
    *("carry_initial_prompt", "compression_ratio_threshold", "logprob_threshold", "no_speech_threshold"),
    *("without_timestamps", "clip_timestamps", "hallucination_silence_threshold", "seed"),
)
"""Fields that are options under the same name."""


_OFF = {"false", "0", "no", "off", "none", "null"}
"""What asks for nothing, also of a field that is not served."""
_LEAST_TEMPERATURE = 0.001
"""Below, the scores that are divided by it would overflow, and what it means is that the most probable token be taken."""


def parse(
    form: "MultiDict[str, str]", task: str, settings: Settings, info: ModelInfo
) -> TranscriptionRequest:
    """What a form asks for, with the server's defaults for what it leaves out; raises BadField."""
    values = _values(form)
    chosen = values.get("response_format", "json")
    granularities = frozenset(itertools.chain(*values.get("timestamp_granularities[]", ()))) or frozenset(
        {"segment"}
    )
    stream = values.get("stream", False)
    _check_together(values, task, chosen, granularities, stream)
    if values.get("word_timestamps"):
        granularities |= {"word"}
    temperature = values.get("temperature", 0.0)
    if temperature < _LEAST_TEMPERATURE:
        temperature = 0.0
    options = Options(
        language=_spoken(values.get("language", settings.language), info),
        fast_detection=settings.detect == "fast",
        task=_translated(task, info),
        initial_prompt=values.get("prompt", settings.prompt),
        temperatures=(temperature,) if temperature > 0 else FALLBACK_TEMPERATURES,
        word_timestamps="word" in granularities,
        vad=values.get("vad", settings.vad),
        parallel=values.get("parallel", "chunking_strategy" in values),
        **{name: values[name] for name in _PASSED_ON if name in values},
    )
    logprobs = "include[]" in values
    if logprobs and settings.engine == "faster-whisper":
        raise BadField(
            "include[]",
            "the engine faster-whisper tells no log-probabilities of tokens; verbose_json has avg_logprob of each segment",
        )
    return TranscriptionRequest(
        options=options, format=chosen, granularities=granularities, stream=stream, logprobs=logprobs
    )


def check_duration(options: Options, duration: float) -> None:
    """Raise BadField for spans that begin after the end of the audio, which is known only now."""
    if options.clip_timestamps[::2] and options.clip_timestamps[::2][-1] >= duration:
        raise BadField(
            "clip_timestamps", f"a span begins after the end of the audio, which has {duration:.3f} seconds"
        )


def filled(form: "MultiDict[str, str]") -> "MultiDict[str, str]":
    """The fields that are not empty: many clients send all that they have, and an empty one says nothing."""
    return MultiDict((name, text) for name, text in form.items(multi=True) if text.strip())


def _values(form: "MultiDict[str, str]") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, texts in _canonical(form).items():
        if name in NOT_SERVED:
            if all(text.strip().lower() in _OFF for text in texts):
                continue
            raise BadField(name, f"not served: {NOT_SERVED[name]}")
        if name not in FIELDS:
            raise BadField(name, f"unknown field; {_instead(name)}")
        known = FIELDS[name]
        try:
            parsed = [known.parse(text) for text in texts]
        except ValueError as problem:
            raise BadField(name, str(problem)) from None
        if len(texts) > 1 and not known.repeated:
            raise BadField(name, "given more than once")
        values[name] = parsed if known.repeated else parsed[0]
    return values


def _canonical(form: "MultiDict[str, str]") -> dict[str, list[str]]:
    """Lists may come as name or name[], and what their members are called is of no interest where none is served."""
    texts: dict[str, list[str]] = {}
    form = filled(form)
    for name in form:
        plain = re.sub(r"\[.*", "", name)
        plain = ALIASES.get(plain, plain)
        known = next((each for each in (f"{plain}[]", plain) if each in (*FIELDS, *NOT_SERVED)), name)
        if plain not in IGNORED:
            texts.setdefault(known, []).extend(form.getlist(name))
    return texts


def _instead(name: str) -> str:
    close = difflib.get_close_matches(name, FIELDS, 1)
    return (
        f"did you mean {close[0]}?" if close else "leave it out; /openapi.json describes those that are known"
    )


def _check_together(
    values: Mapping[str, Any], task: str, chosen: str, granularities: Set[str], stream: bool
) -> None:
    if values.get("task", task) != task:
        other = "translations" if task == "transcribe" else "transcriptions"
        raise BadField("task", f"send it to /v1/audio/{other}: the path says what is done")
    if "word" in granularities and chosen != "verbose_json":
        raise BadField("timestamp_granularities[]", "word needs response_format=verbose_json")
    if "include[]" in values and chosen != "json":
        raise BadField("include[]", "logprobs needs response_format=json")
    if stream and chosen in ("srt", "vtt"):
        raise BadField(
            "stream", f"{chosen} is not streamed; use response_format=verbose_json, whose events have times"
        )
    if "patience" in values and "beam_size" not in values:
        raise BadField("patience", "needs beam_size: it is an option of beam search")
    if "patience" in values and round(values["patience"] * values["beam_size"]) < 1:
        raise BadField("patience", "times beam_size must be at least 1: so many texts are looked for")
    if values.get("clip_timestamps") and values.get("vad"):
        raise BadField("vad", "clip_timestamps says already which spans to transcribe; use one of the two")


def _spoken(language: str | None, info: ModelInfo) -> str | None:
    if language == "auto":
        return None
    if language is not None and language not in info.languages:
        which = (
            "English only" if not info.is_multilingual else f"{info.num_languages} languages, not this one"
        )
        raise BadField("language", f"the model {info.name} knows {which}")
    return language


def _translated(task: str, info: ModelInfo) -> str:
    if task == "translate" and not info.translates:
        raise BadField(
            "model",
            f"the model {info.name} does not translate; use /v1/audio/transcriptions, or a server with large-v3",
        )
    return task
