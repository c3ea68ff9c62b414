"""OpenAI's client for Python, unmodified: every call, format, stream, error and retry."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
import requests
from openai import OpenAI
from whisper_server.engine.checkpoint import load_checkpoint

from tests.server.driving import reference_model
from tests.server.whisper_process import EXAMPLES, WhisperProcess, running, table

HELLO = EXAMPLES / "hello.wav"
TEXT = table(EXAMPLES / "transcripts.tsv")["hello.wav"]
MODEL = "whisper-1"
KEY = "sk-python"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WhisperProcess]:
    """A server with a key that takes one request at a time."""
    secret = tmp_path_factory.mktemp("secret")
    (secret / "python").write_text(KEY)
    settings = {"WHISPER_API_KEYS_DIR": str(secret), "WHISPER_MAX_QUEUE": "1"}
    with running(tmp_path_factory.mktemp("narrow"), **settings) as process:
        process.wait_until_ready()
        yield process


@pytest.fixture
def client(narrow: WhisperProcess) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{narrow.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


def test_models(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo", MODEL]
    assert client.models.retrieve("demo").owned_by == "whisper-server"
    with pytest.raises(openai.NotFoundError) as refusal:
        client.models.retrieve("gpt-4o-transcribe")
    assert refusal.value.code == "model_not_found"


def test_json(client: OpenAI) -> None:
    answer = client.audio.transcriptions.create(file=HELLO, model=MODEL)
    assert answer.text == TEXT
    assert answer.usage is not None
    assert answer.usage.type == "duration"
    assert answer._request_id


def test_logprobs(client: OpenAI) -> None:
    answer = client.audio.transcriptions.create(file=HELLO, model=MODEL, include=["logprobs"])
    assert answer.logprobs
    assert "".join(each.token or "" for each in answer.logprobs).strip() == TEXT
    assert all(each.logprob is not None and each.logprob <= 0 for each in answer.logprobs)


def test_text_and_subtitles(client: OpenAI) -> None:
    assert client.audio.transcriptions.create(file=HELLO, model=MODEL, response_format="text") == TEXT + "\n"
    srt = client.audio.transcriptions.create(file=HELLO, model=MODEL, response_format="srt")
    assert srt.startswith("1\n00:00:0")
    vtt = client.audio.transcriptions.create(file=HELLO, model=MODEL, response_format="vtt")
    assert vtt.startswith("WEBVTT\n\n00:0")


def test_verbose_json(client: OpenAI) -> None:
    answer = client.audio.transcriptions.create(
        file=HELLO,
        model=MODEL,
        prompt="hello",
        temperature=0,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert answer.language == "english"
    assert 4 < answer.duration < 4.5
    assert answer.segments
    assert answer.words
    assert answer.words[0].word == "hello"
    assert answer.segments[0].seek == 0


def test_stream(client: OpenAI) -> None:
    events = list(client.audio.transcriptions.create(file=HELLO, model=MODEL, stream=True))
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == TEXT
    (done,) = [event for event in events if event.type == "transcript.text.done"]
    assert done.text == TEXT
    assert done.usage is not None
    assert done.usage.to_dict() == {"type": "duration", "seconds": 5}
    assert events[-1] is done


def test_asynchronous_stream(narrow: WhisperProcess) -> None:
    async def listen() -> str:
        async with openai.AsyncOpenAI(base_url=f"{narrow.url}/v1", api_key=KEY, max_retries=0) as client:
            stream = await client.audio.transcriptions.create(file=HELLO, model=MODEL, stream=True)
            return "".join([event.delta async for event in stream if event.type == "transcript.text.delta"])

    assert asyncio.run(listen()) == TEXT


def test_extension_fields(client: OpenAI) -> None:
    extra = {"beam_size": 2, "vad": False, "seed": 3, "condition_on_previous_text": False}
    assert client.audio.transcriptions.create(file=HELLO, model=MODEL, language="en", extra_body=extra).text


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # as OpenAI sees its own endpoint
def test_translation(client: OpenAI) -> None:
    """It is openai-whisper's own, in which the demo model uses other words; and it is English, whatever was heard."""
    reference = reference_model(load_checkpoint("demo", None))
    expected = reference.transcribe(str(HELLO), task="translate", fp16=False)["text"].strip()
    assert expected != TEXT
    assert client.audio.translations.create(file=HELLO, model=MODEL).text == expected
    told = client.audio.translations.create(
        file=HELLO, model=MODEL, response_format="verbose_json", extra_body={"language": "de"}
    )
    heard = reference.transcribe(str(HELLO), task="translate", language="de", fp16=False)["text"].strip()
    assert (told.text, told.language) == (heard, "english")
    assert told.to_dict()["task"] == "translate"
    assert heard != expected


def test_bad_requests(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"broken\.wav: it is not audio"):
        client.audio.transcriptions.create(file=("broken.wav", b"no audio"), model=MODEL)
    with pytest.raises(openai.BadRequestError) as refusal:
        client.audio.transcriptions.create(
            file=HELLO, model=MODEL, response_format="srt", include=["logprobs"]
        )
    assert (refusal.value.param, refusal.value.type) == ("include[]", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="speakers are not told apart"):
        client.audio.transcriptions.create(
            file=HELLO, model=MODEL, extra_body={"known_speaker_names": ["Ann", "Bob"]}
        )
    with pytest.raises(openai.BadRequestError, match="must be auto"):
        client.audio.transcriptions.create(file=HELLO, model=MODEL, chunking_strategy={"type": "server_vad"})


def test_large_uploads(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refusal:
        client.audio.transcriptions.create(file=("big.wav", bytes(30 << 20)), model=MODEL)
    assert refusal.value.status_code == 413


def refusals(server: WhisperProcess, status: int) -> float:
    lines = requests.get(server.ops_url + "/metrics", timeout=10).text.splitlines()
    wanted = [
        line for line in lines if line.startswith("whisper_requests_total{") and f'status="{status}"' in line
    ]
    return sum(float(line.split()[-1]) for line in wanted)


def test_permanent_errors_are_not_retried(narrow: WhisperProcess) -> None:
    before = refusals(narrow, 401), refusals(narrow, 400)
    with OpenAI(base_url=f"{narrow.url}/v1", api_key="wrong", max_retries=5) as stranger:
        with pytest.raises(openai.AuthenticationError) as refusal:
            stranger.models.list()
        assert refusal.value.code == "invalid_api_key"
    with (
        OpenAI(base_url=f"{narrow.url}/v1", api_key=KEY, max_retries=5) as known,
        pytest.raises(openai.BadRequestError),
    ):
        known.audio.transcriptions.create(file=("broken.wav", b"no audio"), model=MODEL)
    assert (refusals(narrow, 401), refusals(narrow, 400)) == (before[0] + 1, before[1] + 1)


def test_a_full_queue_is_retried_until_there_is_room(narrow: WhisperProcess, long_speech: Path) -> None:
    before = refusals(narrow, 429)

    def ask(path: Path) -> str:
        with OpenAI(base_url=f"{narrow.url}/v1", api_key=KEY, max_retries=200) as patient:
            return patient.audio.transcriptions.create(file=path, model=MODEL).text

    with ThreadPoolExecutor(4) as clients:
        texts = list(clients.map(ask, [long_speech, HELLO, HELLO, HELLO]))
    assert texts[1:] == [TEXT] * 3
    assert refusals(narrow, 429) > before


@pytest.fixture
def long_speech(tmp_path: Path) -> Path:
    from tests.server.whisper_process import ffmpeg

    ffmpeg("-stream_loop", "9", "-i", HELLO, tmp_path / "long.wav")
    return tmp_path / "long.wav"
