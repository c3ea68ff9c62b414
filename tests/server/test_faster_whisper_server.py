"""The server with WHISPER_ENGINE=faster-whisper, over HTTP."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jiwer
import pytest
import requests

from tests.server.openai_http import HELLO_TEXT, TRANSCRIPTIONS, ask, events
from tests.server.whisper_process import CLIPS, WhisperProcess, ffmpeg, running, table, wait_for

TEXTS = table(CLIPS / "manifest.tsv")
# Measured: 0.059. The slack is for other processors, whose sums differ in the last bits.
MAX_WORD_ERROR_RATE = 0.1
REPEATABLE = {"logprob_threshold": "none", "compression_ratio_threshold": "none"}
"""Without a fallback to a temperature: what CTranslate2 samples there is another text each time."""


@pytest.fixture(scope="module")
def faster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WhisperProcess]:
    """In float32: the demo model is too small for int8, in which it says other words now and then."""
    settings = {"WHISPER_ENGINE": "faster-whisper", "WHISPER_DTYPE": "float32"}
    with running(tmp_path_factory.mktemp("faster"), **settings) as process:
        process.wait_until_ready()
        yield process


@pytest.fixture(scope="module")
def two_minutes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All clips, twice."""
    clips = tmp_path_factory.mktemp("speech")
    listed = clips / "list.txt"
    listed.write_text("".join(f"file '{CLIPS / name}'\n" for name in TEXTS) * 2)
    ffmpeg("-f", "concat", "-safe", "0", "-i", listed, clips / "two-minutes.wav")
    return clips / "two-minutes.wav"


def test_it_is_that_engine(faster: WhisperProcess) -> None:
    assert "by CTranslate2 in float32" in faster.log


def test_json(faster: WhisperProcess) -> None:
    assert ask(faster).json() == {"text": HELLO_TEXT, "usage": {"type": "duration", "seconds": 5}}


def test_verbose_json_with_words(faster: WhisperProcess) -> None:
    both = ["word", "segment"]
    body = ask(faster, response_format="verbose_json", timestamp_granularities_=both).json()
    assert (body["task"], body["language"]) == ("transcribe", "english")
    assert body["text"].startswith(HELLO_TEXT)
    assert "".join(segment["text"] for segment in body["segments"]).strip() == body["text"]
    assert [word["word"] for word in body["words"]] == body["text"].split()
    times = [time for word in body["words"] for time in (word["start"], word["end"])]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= body["duration"] + 0.1


def test_srt(faster: WhisperProcess) -> None:
    first, *_ = ask(faster, response_format="srt").text.split("\n\n")
    number, times, text = first.split("\n")
    assert number == "1"
    assert re.fullmatch(r"00:00:00,\d{3} --> 00:00:0\d,\d{3}", times)
    assert HELLO_TEXT.startswith(text)


@pytest.mark.parametrize("fields", [{}, {"vad": "true", "parallel": "true"}], ids=["in order", "parallel"])
def test_streamed_text_is_the_text_not_streamed(
    faster: WhisperProcess, two_minutes: Path, fields: dict[str, str]
) -> None:
    fields = {"language": "en", **REPEATABLE, **fields}
    whole = ask(faster, file=two_minutes, **fields).json()["text"]
    *deltas, done = events(ask(faster, file=two_minutes, stream="true", **fields))
    assert len(deltas) > 1
    assert "".join(delta["delta"] for delta in deltas) == done["text"] == whole


def test_words_of_a_long_file_in_parallel(faster: WhisperProcess, two_minutes: Path) -> None:
    fields = {"language": "en", "vad": "true", "parallel": "true", "response_format": "verbose_json"}
    body = ask(faster, file=two_minutes, **REPEATABLE, **fields).json()
    starts = [segment["start"] for segment in body["segments"]]
    assert starts == sorted(starts)
    assert starts[-1] > 100
    assert jiwer.wer(" ".join([*TEXTS.values()] * 2), body["text"]) <= MAX_WORD_ERROR_RATE


def test_beams(faster: WhisperProcess) -> None:
    assert ask(faster, beam_size="5", patience="2").json()["text"].startswith(HELLO_TEXT)


def test_a_temperature(faster: WhisperProcess) -> None:
    body = ask(faster, temperature="0.2", best_of="3", response_format="verbose_json").json()
    assert {segment["temperature"] for segment in body["segments"]} == {0.2}
    assert body["text"]


@pytest.mark.parametrize(
    "fields",
    [{}, {"vad": "true", "parallel": "true"}, {"beam_size": "5"}],
    ids=lambda fields: "+".join(fields),
)
def test_client_that_hangs_up_frees_its_place_and_the_device(
    faster: WhisperProcess, two_minutes: Path, fields: dict[str, str]
) -> None:
    hours = two_minutes.with_name("hours.flac")
    if not hours.exists():
        ffmpeg("-stream_loop", "9", "-i", two_minutes, hours)
    with hours.open("rb") as file:
        response = requests.post(
            faster.url + TRANSCRIPTIONS,
            files={"file": file},
            data={"stream": "true", **fields},
            stream=True,
            timeout=120,
        )
        assert response.status_code == 200
        next(line for line in response.iter_lines() if line.startswith(b"data: "))
        assert faster.metric("whisper_requests_in_flight") == 1
        response.close()
    wait_for(lambda: faster.metric("whisper_requests_in_flight") == 0)
    wait_for(lambda: faster.metric("whisper_queue_audio_seconds") == 0)
    assert ask(faster).json()["text"] == HELLO_TEXT


def test_requests_at_once_get_what_each_gets_alone(faster: WhisperProcess) -> None:
    """Other languages, prompts, beams, lengths: some can share a call of CTranslate2's, some can't."""
    asked: list[dict[str, Any]] = [
        {"language": "en"},
        {"language": "en", "prompt": "stop play open close"},
        {"language": "de", "prompt": "zwei drei"},
        {"language": "ja", "without_timestamps": "true"},
        {"language": "en", "beam_size": "3"},
        {"response_format": "verbose_json", "timestamp_granularities_": "word"},
    ]
    requests_of_all = [(CLIPS / name, fields) for name in list(TEXTS)[:4] for fields in asked]

    def answer(file: Path, fields: dict[str, Any]) -> str:
        response = ask(faster, file=file, **REPEATABLE, **fields)
        assert response.status_code == 200, response.text
        return str(response.json()["text"])

    alone = [answer(*each) for each in requests_of_all]
    assert len(set(alone)) > 4  # of the clips, at least
    with ThreadPoolExecutor(len(asked)) as clients:
        together = list(clients.map(answer, *zip(*requests_of_all, strict=True)))
    assert together == alone
