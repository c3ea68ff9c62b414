"""What a request to OpenAI's API may say, what known clients say, and what is answered to nonsense."""

from typing import Any

import pytest
import requests
from werkzeug.datastructures import MultiDict
from whisper_server.config import Settings
from whisper_server.http.form.fields import ALIASES, FIELDS, IGNORED, NOT_SERVED
from whisper_server.http.form.request import parse

from tests.server.driving import INFO
from tests.server.openai_http import HELLO, HELLO_TEXT, TRANSCRIPTIONS, ask
from tests.server.whisper_process import WhisperProcess

BAD_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"response_format": "xml"}, "response_format", "must be one of json, text, srt"),
    ({"response_format": "diarized_json"}, "response_format", "speakers are not told apart"),
    ({"temperature": "1.5"}, "temperature", "from 0 to 1"),
    ({"temperature": "nan"}, "temperature", "from 0 to 1"),
    ({"language": "klingon"}, "language", "a language that Whisper knows"),
    ({"timestamp_granularities_": "word"}, "timestamp_granularities[]", "word needs response_format"),
    ({"timestamp_granularities": "word"}, "timestamp_granularities[]", "word needs response_format"),
    (
        {"timestamp_granularities_": "phrase", "response_format": "verbose_json"},
        "timestamp_granularities[]",
        "word or segment",
    ),
    ({"stream": "maybe"}, "stream", "true or false"),
    ({"stream": "true", "response_format": "srt"}, "stream", "verbose_json"),
    ({"include_": "speakers"}, "include[]", "must be one of logprobs"),
    ({"include_": "logprobs", "response_format": "text"}, "include[]", "needs response_format=json"),
    ({"hotwords": "Kubernetes"}, "hotwords", "use prompt"),
    ({"keywords_": "Kubernetes"}, "keywords[]", "use prompt"),
    ({"languages_": "en"}, "languages[]", "use language"),
    ({"diarize": "true"}, "diarize", "speakers are not told apart"),
    ({"diarization": "true"}, "diarization", "speakers are not told apart"),
    ({"vad_parameters": "{}"}, "vad_parameters", "use vad=true"),
    ({"temperature_inc": "0.4"}, "temperature_inc", "leave it out"),
    ({"batch_size": "16"}, "batch_size", "parallel=true"),
    ({"max_new_tokens": "128"}, "max_new_tokens", "leave it out"),
    ({"repetition_penalty": "1.1"}, "repetition_penalty", "use compression_ratio_threshold"),
    ({"no_repeat_ngram_size": "3"}, "no_repeat_ngram_size", "use compression_ratio_threshold"),
    ({"chunking_strategy[type]": "server_vad"}, "chunking_strategy", "must be auto"),
    ({"language": ["en", "de"]}, "language", "given more than once"),
    (
        {"chunking_strategy[type]": "server_vad", "chunking_strategy[prefix_padding_ms]": "300"},
        "chunking_strategy",
        "must be auto",
    ),
    ({"known_speaker_names_": "Ann"}, "known_speaker_names[]", "not served"),
    ({"known_speaker_references_": "data:"}, "known_speaker_references[]", "not served"),
    ({"beam_size": "9"}, "beam_size", "from 1 to 8"),
    ({"best_of": "100000"}, "best_of", "from 1 to 8"),
    ({"patience": "1"}, "patience", "needs beam_size"),
    ({"patience": "inf", "beam_size": "2"}, "patience", "from 0.1 to 4"),
    ({"patience": "0.1", "beam_size": "4"}, "patience", "at least"),
    ({"length_penalty": "2"}, "length_penalty", "from 0 to 1"),
    ({"suppress_tokens": "50257"}, "suppress_tokens", "text tokens"),
    ({"suppress_tokens": ",".join(["1"] * 1001)}, "suppress_tokens", "at most 1000"),
    ({"clip_timestamps": "5,1"}, "clip_timestamps", "rising"),
    ({"clip_timestamps": "99"}, "clip_timestamps", "after the end of the audio"),
    ({"clip_timestamps": "0,1", "vad": "true"}, "vad", "one of the two"),
    ({"logprob_threshold": "high"}, "logprob_threshold", "a number"),
    ({"hallucination_silence_threshold": "0"}, "hallucination_silence_threshold", "from 0.1"),
    ({"seed": "-1"}, "seed", "whole number"),
    ({"language": ["en", "de"]}, "language", "more than once"),
    ({"task": "translate"}, "task", "/v1/audio/translations"),
    ({"vad": "true", "vad_filter": "false"}, "vad", "more than once"),
    ({"clip_timestamps": "0,2,2,2"}, "clip_timestamps", "rising"),
    ({"beamsize": "2"}, "beamsize", "unknown field; did you mean beam_size?"),
    ({"quality": "hd"}, "quality", "unknown field; leave it out; /openapi.json"),
]


@pytest.mark.parametrize(("fields", "param", "reason"), BAD_FIELDS, ids=lambda value: str(value)[:40])
def test_nonsense_is_refused_by_name(
    server: WhisperProcess, fields: dict[str, Any], param: str, reason: str
) -> None:
    response = ask(server, **fields)
    error = response.json()["error"]
    assert (response.status_code, set(error)) == (400, {"message", "type", "param", "code"})
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert reason in error["message"]
    assert response.headers["x-should-retry"] == "false"


def test_every_field_has_a_test_of_nonsense() -> None:
    harmless = {"model", "prompt", "condition_on_previous_text", "carry_initial_prompt", "without_timestamps"}
    harmless |= {
        "word_timestamps",
        "parallel",
        "compression_ratio_threshold",
        "no_speech_threshold",
    }  # as their likes
    assert {param for _, param, _ in BAD_FIELDS} - {"beamsize", "quality"} | harmless == {
        *FIELDS,
        *NOT_SERVED,
    }


def test_file_must_be_one_and_a_file(server: WhisperProcess) -> None:
    for parts in ([("file", HELLO.open("rb")), ("file", HELLO.open("rb"))], [("audio", HELLO.open("rb"))]):
        response = requests.post(server.url + TRANSCRIPTIONS, files=parts, timeout=60)
        assert response.status_code == 400
        assert "in the field file" in response.json()["error"]["message"]
        for _, file in parts:
            file.close()
    missing = requests.post(server.url + TRANSCRIPTIONS, files={"model": (None, "whisper-1")}, timeout=60)
    assert (missing.status_code, missing.json()["error"]["param"]) == (400, "file")
    text = requests.post(server.url + TRANSCRIPTIONS, files={"file": (None, "speech.wav")}, timeout=60)
    assert "this is text" in text.json()["error"]["message"]


def multipart(server: WhisperProcess, path: str, *parts: tuple[bytes, bytes]) -> requests.Response:
    """A body to the letter: (the rest of a part's Content-Disposition, content)."""
    body = b"".join(
        b"--b\r\nContent-Disposition: form-data; " + rest + b"\r\n\r\n" + content + b"\r\n"
        for rest, content in parts
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return requests.post(server.url + path, body + b"--b--\r\n", headers=headers, timeout=60)


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (rb"D:\rec\a.wav", r"D:\rec\a.wav"),
        (rb"D:\\rec\\a.wav", r"D:\rec\a.wav"),
        (rb"the \"best\".wav", 'the "best".wav'),
        ("Grüße\\Köln.wav".encode(), "Grüße\\Köln.wav"),
    ],
)
def test_file_names_come_back_as_they_were_sent(server: WhisperProcess, sent: bytes, name: str) -> None:
    file = (b'name="file"; filename="' + sent + b'"', HELLO.read_bytes())
    assert multipart(server, "/whisper", file).json()["results"][0]["filename"] == name
    broken = (b'name="file"; filename="' + sent + b'"', b"no audio")
    assert multipart(server, TRANSCRIPTIONS, broken).json()["error"]["message"].startswith(f"{name}: it is")


def test_a_file_input_that_was_left_empty_is_no_file(server: WhisperProcess) -> None:
    empty, file = (b'name="file"; filename=""', b""), (b'name="file"; filename="a.wav"', HELLO.read_bytes())
    assert multipart(server, TRANSCRIPTIONS, empty).json()["error"]["message"].startswith("file: missing")
    nameless = multipart(server, TRANSCRIPTIONS, (b'name="file"; filename=""', b"no audio")).json()
    assert nameless["error"]["message"].startswith("the file: it is not audio")
    other = (b'name="video"; filename=""', b"")
    assert multipart(server, TRANSCRIPTIONS, file, other).json()["text"] == HELLO_TEXT


def test_empty_fields_are_absent_ones(server: WhisperProcess) -> None:
    """As programs send them that send all they have, whether it was set or not."""
    every: dict[str, Any] = dict.fromkeys((*FIELDS, *NOT_SERVED, *ALIASES, *IGNORED, "unknown"), "")
    assert ask(server, **every).json() == ask(server).json()
    assert ask(server, model=" ", temperature=" ", stream=" ").json() == ask(server).json()
    assert ask(server, "/v1/audio/translations", **every).status_code == 200


# What known clients send besides, with what comes of it where it changes something.
TAKEN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"vad_filter": "true"}, {"vad": "true"}),
    ({"initial_prompt": "hello world"}, {"prompt": "hello world"}),
    ({"task": "transcribe"}, {}),
    ({"user": "somebody"}, {}),
    ({"timestamp_granularities": "segment"}, {}),
    ({"timestamp_granularities_": "segment", "response_format": "srt"}, {"response_format": "srt"}),
    ({"diarize": "false", "hotwords": "none"}, {}),
    ({"clip_timestamps": "0,2,2,4"}, {"clip_timestamps": "0,2,2,4"}),
    *(
        (
            {"response_format": "verbose_json", **fields},
            {"response_format": "verbose_json", "timestamp_granularities_": ["word", "segment"]},
        )
        for fields in (
            {"timestamp_granularities": ["word", "segment"]},
            {"timestamp_granularities[0]": "word", "timestamp_granularities[1]": "segment"},
            {"timestamp_granularities": "word,segment"},
            {"timestamp_granularities_": '["word", "segment"]'},
        )
    ),
]


@pytest.mark.parametrize(("sent", "meant"), TAKEN, ids=lambda value: str(value)[:50])
def test_what_known_clients_send_is_taken(
    server: WhisperProcess, sent: dict[str, Any], meant: dict[str, Any]
) -> None:
    answer = ask(server, **sent)
    assert answer.status_code == 200, answer.text
    assert answer.content == ask(server, **meant).content


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("jv", "javanese"),
        ("nb", "norwegian"),
        ("fil", "tagalog"),
        ("iw", "hebrew"),
        ("pt-BR", "portuguese"),
        ("zh_TW", "chinese"),
        ("EN-us", "english"),
        ("Mandarin", "chinese"),
        ("Haitian Creole", "haitian creole"),
    ],
)
def test_languages_go_by_other_names(server: WhisperProcess, told: str, name: str) -> None:
    assert ask(server, language=told, response_format="verbose_json").json()["language"] == name


def test_a_language_can_be_detected_where_the_server_has_one_of_its_own() -> None:
    settings = Settings(language="de")
    for form, language in (({}, "de"), ({"language": ""}, "de"), ({"language": "auto"}, None)):
        assert parse(MultiDict(form), "transcribe", settings, INFO).options.language == language
    assert parse(MultiDict({"language": "AUTO"}), "transcribe", Settings(), INFO).options.language is None
