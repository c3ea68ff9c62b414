"""OpenAI's audio API over plain HTTP: fields, formats, events, errors; and the document that describes it."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from werkzeug.datastructures import MultiDict
from whisper.audio import N_FRAMES, N_SAMPLES, log_mel_spectrogram, pad_or_trim
from whisper.decoding import DecodingOptions, DecodingTask
from whisper.utils import WriteSRT, WriteVTT
from whisper_server.config import Settings
from whisper_server.engine.checkpoint import load_checkpoint
from whisper_server.http import responses
from whisper_server.http.errors import BadField
from whisper_server.http.form.fields import FIELDS
from whisper_server.http.form.request import parse
from whisper_server.http.routes import docs, openapi
from whisper_server.transcribe.transcript import Segment

from tests.server.driving import INFO, reference_model
from tests.server.openai_http import HELLO, HELLO_TEXT, TRANSCRIPTIONS, ask, events
from tests.server.whisper_process import WhisperProcess, ffmpeg, wait_for


def test_json_is_the_default_format(server: WhisperProcess) -> None:
    response = ask(server, model="whisper-1")
    assert response.json() == {"text": HELLO_TEXT, "usage": {"type": "duration", "seconds": 5}}
    assert response.headers["X-Request-Id"]


def test_text(server: WhisperProcess) -> None:
    response = ask(server, response_format="text")
    assert (response.text, response.headers["Content-Type"]) == (
        HELLO_TEXT + "\n",
        "text/plain; charset=utf-8",
    )


def test_verbose_json_has_every_field(server: WhisperProcess) -> None:
    both = ["word", "segment"]
    body = ask(server, response_format="verbose_json", timestamp_granularities_=both).json()
    assert (body["task"], body["language"]) == ("transcribe", "english")
    # Word times move the windows, in which the small model may hear a word more.
    assert body["text"].startswith(HELLO_TEXT)
    assert 4 < body["duration"] < 4.5
    assert set(body["segments"][0]) == {
        *("id", "seek", "start", "end", "text", "tokens", "temperature"),
        *("avg_logprob", "compression_ratio", "no_speech_prob"),
    }
    assert [word["word"] for word in body["words"]] == body["text"].split()
    assert all(0 <= word["start"] <= word["end"] <= body["duration"] + 0.1 for word in body["words"])


def test_granularities_choose_what_is_told(server: WhisperProcess) -> None:
    only = ask(server, response_format="verbose_json", timestamp_granularities_="word").json()
    assert "words" in only
    assert "segments" not in only
    usual = ask(server, response_format="verbose_json").json()
    assert "segments" in usual
    assert "words" not in usual


def test_subtitles_are_those_of_openai_whisper(server: WhisperProcess) -> None:
    segments = ask(server, response_format="verbose_json").json()["segments"]
    segments = [one for one in segments if one["text"]]
    for writer, name, kind in ((WriteSRT, "srt", "application/x-subrip"), (WriteVTT, "vtt", "text/vtt")):
        file = io.StringIO()
        writer(".").write_result({"segments": segments}, file)
        response = ask(server, response_format=name)
        assert response.headers["Content-Type"].startswith(kind)
        assert response.text == file.getvalue()


@pytest.mark.parametrize("seconds", [0, 0.0004, 1.9996, 59.9999, 60, 3599.9996, 3600, 35999.5])
def test_times_of_subtitles_round_as_openai_whisper_does(seconds: float) -> None:
    one = Segment(
        id=0,
        seek=0,
        start=seconds,
        end=seconds + 1.5,
        text=" a --> b ",
        tokens=(),
        temperature=0,
        avg_logprob=0,
        compression_ratio=1,
        no_speech_prob=0,
    )
    silent = replace(one, text=" ")  # which players would show as an empty box
    for writer, mine in ((WriteSRT, responses.srt), (WriteVTT, responses.vtt)):
        file = io.StringIO()
        writer(".").write_result({"segments": [{"start": one.start, "end": one.end, "text": one.text}]}, file)
        assert mine([silent, one, silent]) == file.getvalue()


@pytest.mark.parametrize("form", ["json", "text", "verbose_json"])
def test_streamed_text_is_the_text_not_streamed(server: WhisperProcess, workshop: Path, form: str) -> None:
    long = workshop / "streamed.wav"
    if not long.exists():
        ffmpeg("-stream_loop", "9", "-i", HELLO, long)
    answer = ask(server, file=long).json()
    whole = answer["text"]
    *deltas, done = events(ask(server, file=long, stream="true", response_format=form))
    assert {delta["type"] for delta in deltas} == {"transcript.text.delta"}
    assert done["type"] == "transcript.text.done"
    assert "".join(delta["delta"] for delta in deltas) == done["text"] == whole
    assert done["usage"] == answer["usage"]
    if form == "verbose_json":
        assert [one for delta in deltas for one in delta["segments"]] == done["segments"]


def test_text_comes_while_the_rest_is_transcribed(server: WhisperProcess, workshop: Path) -> None:
    """Of a file too long to be done meanwhile; the server's own counters say how far it is when the first words arrive."""
    hour = workshop / "hour.mp3"
    ffmpeg("-stream_loop", "839", "-i", HELLO, "-b:a", "32k", hour)
    counted = server.metric("whisper_audio_seconds_total")
    with (
        hour.open("rb") as file,
        requests.post(
            server.url + TRANSCRIPTIONS,
            files={"file": file},
            data={"language": "en", "stream": "true"},
            stream=True,
            timeout=300,
        ) as response,
    ):
        first = next(line for line in response.iter_lines() if line.startswith(b"data: {"))
        assert json.loads(first.removeprefix(b"data: "))["type"] == "transcript.text.delta"
        assert server.metric("whisper_requests_in_flight") == 1
        assert server.metric("whisper_queue_audio_seconds") > 0
        assert server.metric("whisper_audio_seconds_total") == counted
    wait_for(lambda: server.metric("whisper_requests_in_flight") == 0)


def test_options_reach_the_engine(server: WhisperProcess) -> None:
    hot = ask(server, response_format="verbose_json", temperature="0.7").json()["segments"]
    assert {one["temperature"] for one in hot} == {0.7}


def test_a_temperature_of_almost_nothing_is_none(server: WhisperProcess) -> None:
    almost, none = (
        ask(server, response_format="verbose_json", temperature=each).json() for each in ("1e-40", "0")
    )
    assert almost["segments"] == none["segments"]


def test_broken_audio_is_named(server: WhisperProcess, workshop: Path) -> None:
    broken = workshop / "broken.mp3"
    broken.write_bytes(b"no audio at all")
    for stream in ("false", "true"):  # before the first event: a status of its own
        response = ask(server, file=broken, stream=stream)
        assert response.status_code == 400
        assert response.json()["error"]["message"].startswith("broken.mp3: it is not audio")


def test_models(server: WhisperProcess) -> None:
    listed = requests.get(server.url + "/v1/models", timeout=10).json()
    assert [model["id"] for model in listed["data"]] == ["demo", "whisper-1"]
    assert requests.get(server.url + "/v1/models/demo", timeout=10).json() == listed["data"][0]
    unknown = requests.get(server.url + "/v1/models/gpt-4o-transcribe", timeout=10)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
    assert ask(server, model="gpt-4o-transcribe").json()["error"]["param"] == "model"


def test_other_errors_have_the_same_form(server: WhisperProcess) -> None:
    for method, path, status, advice in (
        ("GET", "/v1/nothing", 404, "POST /v1/audio/transcriptions"),
        ("GET", TRANSCRIPTIONS, 405, "use POST"),
        ("POST", "/v1/models/demo", 405, "use GET"),
        ("POST", TRANSCRIPTIONS, 400, "curl -F file=@speech.wav"),
    ):
        response = requests.request(method, server.url + path, timeout=10)
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
        assert advice in response.json()["error"]["message"]
    lost = requests.post(server.url + "/audio/transcriptions", timeout=10)  # a base URL without /v1
    assert lost.status_code == 404
    assert "POST /v1/audio/transcriptions" in lost.json()["error"]


def test_log_probabilities_are_those_of_the_tokens(server: WhisperProcess) -> None:
    """As openai-whisper's model gives them after its filters, for the tokens that were chosen."""
    answer = ask(server, include_="logprobs", language="en").json()
    told = answer["logprobs"]
    assert bytes(byte for each in told for byte in each["bytes"]).decode().strip() == answer["text"]
    assert "".join(each["token"] for each in told).strip() == answer["text"]
    segments = ask(server, response_format="verbose_json", language="en").json()["segments"]
    tokens = [token for segment in segments for token in segment["tokens"]]
    reference = reference_model(load_checkpoint("demo", None))
    task = DecodingTask(reference, DecodingOptions(language="en", fp16=False))
    mel = log_mel_spectrogram(str(HELLO), padding=N_SAMPLES)[None, :, :-N_FRAMES]
    features = reference.embed_audio(pad_or_trim(mel, N_FRAMES))  # zeros behind it, as transcribe has it
    expected, so_far = [], torch.tensor([task.initial_tokens])
    for token in tokens:
        logits = reference.logits(so_far, features)[:, -1].detach()
        for rule in task.logit_filters:
            rule.apply(logits, so_far)
        if token < task.tokenizer.eot:
            expected.append(float(logits.log_softmax(-1)[0, token]))
        so_far = torch.cat([so_far, torch.tensor([[token]])], dim=1)
    assert [each["logprob"] for each in told] == pytest.approx(expected, abs=1e-3)


def test_log_probabilities_are_streamed_with_their_text(server: WhisperProcess) -> None:
    whole = ask(server, include_="logprobs").json()
    *deltas, done = events(ask(server, include_="logprobs", stream="true"))
    assert done["logprobs"] == [each for delta in deltas for each in delta["logprobs"]] == whole["logprobs"]
    assert "logprobs" not in ask(server).json()
    assert all("logprobs" not in event for event in events(ask(server, stream="true")))


def test_log_probabilities_need_an_engine_that_tells_them() -> None:
    with pytest.raises(BadField, match="the engine faster-whisper tells no log-probabilities"):
        parse(MultiDict({"include[]": "logprobs"}), "transcribe", Settings(engine="faster-whisper"), INFO)


# The document.


def test_document_is_valid_and_names_every_route(server: WhisperProcess) -> None:
    document = requests.get(server.url + "/openapi.json", timeout=10).json()
    OpenAPIV31SpecValidator(document).validate()
    for path, operations in document["paths"].items():
        concrete = path.replace("{model}", "demo").replace("{name}", "app.js")
        allowed = requests.options(server.url + concrete, timeout=10).headers["Allow"]
        assert {method.upper() for method in operations} == set(allowed.split(", ")) - {"OPTIONS", "HEAD"}
    about = requests.get(server.url, timeout=10).json()
    assert {entry.split()[1] for entry in about["endpoints"]} <= set(document["paths"])


def test_the_page_for_people_has_all_of_the_document_and_nothing_from_elsewhere(
    server: WhisperProcess,
) -> None:
    document = requests.get(server.url + "/openapi.json", timeout=10).json()
    answer = requests.get(server.url + "/docs", timeout=10)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    text = answer.text
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert f"<code>{method.upper()} {path}</code> {operation['summary']}" in text
    for name, schema in document["components"]["schemas"].items():
        assert f'<section id="{name}">' in text
        for field in schema["properties"]:
            assert f"<code>{field}</code>" in text
    assert set(re.findall(r'href="#(.*?)"', text)) <= set(re.findall(r' id="(.*?)"', text))
    assert "://" not in text, "it fetches nothing"
    assert "<script" not in text


def test_words_of_the_document_are_text_on_its_page() -> None:
    made = docs.page(openapi.document(Settings(model="<img src=x>"), needs_key=True))
    assert "Speech to text with &lt;img src=x&gt;." in made
    assert "Needs an API key" in made


def test_document_has_the_fields_that_are_served(server: WhisperProcess) -> None:
    document = requests.get(server.url + "/openapi.json", timeout=10).json()
    documented = set(document["components"]["schemas"]["AudioRequest"]["properties"]) - {"file"}
    assert documented == set(FIELDS)


def test_answers_are_as_documented(server: WhisperProcess) -> None:
    document = requests.get(server.url + "/openapi.json", timeout=10).json()
    words: dict[str, Any] = {
        "response_format": "verbose_json",
        "timestamp_granularities_": ["word", "segment"],
    }
    bad = ask(server, temperature="7").json()
    for schema, answer in (
        ("Transcription", ask(server).json()),
        ("Transcription", ask(server, include_="logprobs").json()),
        ("VerboseTranscription", ask(server, **words).json()),
        ("Models", requests.get(server.url + "/v1/models", timeout=10).json()),
        ("OpenAIError", bad),
        ("Error", requests.post(server.url + "/whisper", timeout=10).json()),
    ):
        pointed = {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
        Draft202012Validator(pointed).validate(answer)
        described = document["components"]["schemas"][schema]["properties"]
        assert set(answer) <= set(described)
