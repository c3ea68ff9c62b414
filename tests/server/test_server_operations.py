"""The life of a server: loading, ready, busy, draining, and dying loudly."""

import contextlib
import http.client
import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import requests
from flask import Flask
from whisper_server.http import auth, errors

from tests.server.whisper_process import EXAMPLES, WhisperProcess, ffmpeg, part, running, table, wait_for

HELLO = EXAMPLES / "hello.wav"
HELLO_TEXT = table(EXAMPLES / "transcripts.tsv")["hello.wav"]


def test_from_loading_to_drained(tmp_path: Path) -> None:
    # Slow, so that all of them are under way when it is told to stop.
    with running(tmp_path, slow_steps(0.2), WHISPER_MODLE="tiny") as server:
        while server.ops("/healthz") != 200:  # alive before the model is loaded
            assert server.process.poll() is None, server.log
        assert requests.get(server.ops_url + "/readyz", timeout=10).json() == {"status": "loading"}
        assert requests.get(server.url, timeout=10).status_code == 200
        early = server.post(part(HELLO))
        assert early.status_code == 503
        assert 1 <= int(early.headers["Retry-After"]) <= 60
        assert "loading" in early.json()["error"]

        server.wait_until_ready()
        with ThreadPoolExecutor(6) as clients:
            answers = [clients.submit(server.post, part(HELLO)) for _ in range(6)]
            wait_for(lambda: server.metric("whisper_requests_in_flight") == 6)
            server.terminate()
            while server.ops("/readyz") == 200:
                time.sleep(0.01)
            # None that was accepted is lost.
            responses = [answer.result() for answer in answers]
        assert [response.status_code for response in responses] == [200] * 6
        assert {response.json()["results"][0]["transcript"] for response in responses} == {HELLO_TEXT}
        assert server.wait() == 0
        assert "Traceback" not in server.log
        assert (
            server.log.count("WHISPER_MODLE is not a setting and changes nothing; is WHISPER_MODEL meant?")
            == 1
        )


def test_an_open_stream_is_told_to_its_end_when_the_server_is_told_to_stop(
    tmp_path: Path, workshop: Path
) -> None:
    long = workshop / "stream.wav"
    ffmpeg("-stream_loop", "30", "-i", HELLO, "-t", "90", long)
    with running(tmp_path) as server:
        server.wait_until_ready()
        form = {"stream": "true", "language": "en", "temperature": "0.1"}
        with long.open("rb") as file:
            response = requests.post(
                server.url + "/v1/audio/transcriptions",
                data=form,
                files={"file": file},
                stream=True,
                timeout=300,
            )
        lines = response.iter_lines(decode_unicode=True)
        events = [json.loads(next(line for line in lines if line.startswith("data: {"))[6:])]
        server.terminate()
        wait_for(lambda: server.ops("/readyz") != 200)
        events += [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        assert events[0]["type"] == "transcript.text.delta"
        assert events[-1]["type"] == "transcript.text.done", events[-1]
        assert "".join(event.get("delta", "") for event in events) == events[-1]["text"]
        assert server.wait() == 0


def test_a_stream_past_its_deadline_ends_with_an_error_and_counts_as_one(
    tmp_path: Path, workshop: Path
) -> None:
    settings = {"WHISPER_REQUEST_TIMEOUT_SECONDS": "5"}
    with running(tmp_path, slow_steps(0.5), **settings) as server:
        server.wait_until_ready()
        response = requests.post(
            server.url + "/v1/audio/transcriptions",
            data={"stream": "true", "language": "en"},
            files=[part(HELLO)],
            timeout=300,
        )
        assert response.status_code == 200, "it had begun"
        *_, last, end = response.text.split("\n\n")
        kind, data = last.split("\n")
        assert (kind, end) == ("event: error", "")
        error = json.loads(data.removeprefix("data: "))["error"]
        assert "5 seconds" in error["message"]
        assert error["type"] == "server_error"
        counted = 'whisper_requests_total{endpoint="/v1/audio/transcriptions",status="503"} 1.0'
        wait_for(lambda: counted in requests.get(server.ops_url + "/metrics", timeout=10).text)
        wait_for(lambda: "failed=503" in server.log)
        wait_for(lambda: server.metric("whisper_requests_in_flight") == 0)


def test_operations_answer_while_every_place_is_taken(small_server: WhisperProcess, workshop: Path) -> None:
    long = workshop / "long.mp3"
    ffmpeg("-stream_loop", "10", "-i", HELLO, "-b:a", "64k", "-t", "20", long)
    with ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(small_server.post, part(long)) for _ in range(8)]
        slowest = 0.0
        while not all(answer.done() for answer in answers):
            begin = time.monotonic()
            assert small_server.ops("/healthz") == 200
            slowest = max(slowest, time.monotonic() - begin)
        responses = [answer.result() for answer in answers]
    statuses = [response.status_code for response in responses]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 2
    for response in responses:
        if response.status_code == 429:
            assert 1 <= int(response.headers["Retry-After"]) <= 60
            assert "error" in response.json()
    assert slowest < 5
    assert small_server.metric("whisper_requests_in_flight") == 0


def test_request_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    long = tmp_path / "long.wav"
    ffmpeg("-stream_loop", "200", "-i", HELLO, "-t", "800", long)
    with running(tmp_path, slow_steps(0.1), WHISPER_REQUEST_TIMEOUT_SECONDS="15") as server:
        server.wait_until_ready()
        response = server.post(part(long))
        assert response.status_code == 503
        assert "15 seconds" in response.json()["error"]
        assert "limits.requestTimeoutSeconds" in response.json()["error"]
        # The device is free again, not busy with what nobody waits for.
        wait_for(lambda: server.metric('whisper_engine_windows{state="taken"}') == 0, 10)
        assert server.transcript(HELLO) == HELLO_TEXT


def test_operations_are_not_public_and_the_api_is_not_operational(server: WhisperProcess) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        assert server.ops(path) == 200
        assert requests.get(server.url + path, timeout=10).status_code == 404
    assert server.ops("/") == 404
    assert requests.post(server.ops_url + "/whisper", timeout=10).status_code == 404


COUNTED = (
    *("windows", "tokens", "engine_encoded_windows", "engine_encode_seconds"),
    *("engine_steps", "engine_step_rows", "engine_step_seconds", "engine_out_of_memory"),
)


def test_metrics_count(server: WhisperProcess) -> None:
    before = server.metric("whisper_audio_seconds_total")
    server.transcript(HELLO)
    assert 4 < server.metric("whisper_audio_seconds_total") - before < 4.5
    assert server.metric("whisper_ready") == 1
    counted = {name: server.metric(f"whisper_{name}_total") for name in COUNTED}
    server.transcript(HELLO)
    # Hello has two windows, and its language is detected from one of its own.
    took = {name: server.metric(f"whisper_{name}_total") - before for name, before in counted.items()}
    assert (took["windows"], took["engine_encoded_windows"]) == (2, 3)
    assert took["engine_step_rows"] >= took["tokens"] >= 6
    assert took["engine_steps"] > 0
    assert took["engine_encode_seconds"] > 0
    assert took["engine_step_seconds"] > 0
    assert took["engine_out_of_memory"] == 0
    assert server.metric("whisper_windows_waiting") == 0
    text = requests.get(server.ops_url + "/metrics", timeout=10).text
    assert 'whisper_engine_windows{state="taken"} 0.0' in text
    assert 'whisper_engine_windows{state="free"} 16.0' in text
    assert 'whisper_fallbacks_total{reason="logprob"}' in text
    assert 'whisper_requests_total{endpoint="/whisper",status="200"}' in text
    assert 'whisper_build_info{device="cpu",engine="openai-whisper",model="demo",version="' in text
    requests.get(server.url + "/some/path/of/a/scanner", timeout=10)
    assert "scanner" not in requests.get(server.ops_url + "/metrics", timeout=10).text


def test_index_says_what_this_is(server: WhisperProcess) -> None:
    about = requests.get(server.url, timeout=10).json()
    assert (about["name"], about["model"]) == ("whisper-server", "demo")
    assert about["usage"] == f"curl -F file=@speech.wav {server.url}/whisper"
    proxied = {"Host": "whisper.example.com", "X-Forwarded-Proto": "https"}
    # From another address than 127.0.0.1, which gunicorn takes for a proxy that it may believe.
    with closing(
        http.client.HTTPConnection("127.0.0.1", server.port, 10, source_address=("127.0.0.2", 0))
    ) as client:
        client.request("GET", "/", headers=proxied)
        usage = json.load(client.getresponse())["usage"]
    assert usage == "curl -F file=@speech.wav https://whisper.example.com/whisper"


def test_browsers_are_sent_to_the_page(server: WhisperProcess) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}
    assert requests.get(server.url, headers=browser, timeout=10).url == f"{server.url}/ui"
    sent = requests.get(server.url, headers=browser, timeout=10, allow_redirects=False)
    assert (sent.status_code, sent.headers["Location"], sent.headers["Vary"]) == (302, "ui", "Accept")
    for accepts in ("*/*", "application/json", "application/json, text/plain, */*"):
        program = requests.get(server.url, headers={"Accept": accepts}, timeout=10)
        assert program.json()["name"] == "whisper-server"


def test_what_is_not_there_is_answered_with_what_is(server: WhisperProcess) -> None:
    lost = requests.get(server.url + "/transcribe", timeout=10)
    assert lost.status_code == 404
    assert "no /transcribe here, but GET /" in lost.json()["error"]
    assert "POST /whisper" in lost.json()["error"]
    wrong = requests.get(server.url + "/whisper", timeout=10)
    assert (wrong.status_code, set(wrong.headers["Allow"].split(", "))) == (405, {"OPTIONS", "POST"})
    assert wrong.json()["error"] == "GET is not possible here; use POST"
    assert "GET /healthz" in requests.get(server.ops_url + "/health", timeout=10).json()["error"]


def test_limits_are_named_for_server_and_operator(small_server: WhisperProcess, workshop: Path) -> None:
    limits = (Path(__file__).parents[2] / "crds" / "whisperendpoints.yaml").read_text()
    names = ("UPLOAD_BYTES", "maxUploadBytes"), ("AUDIO_SECONDS", "maxAudioSeconds")
    ffmpeg("-stream_loop", "20", "-i", HELLO, "-b:a", "16k", workshop / "too-long.mp3")
    too_large = small_server.post(("file", ("large.wav", bytes(2 << 20))))
    too_long = small_server.post(part(workshop / "too-long.mp3"))
    for refused, (variable, field) in zip((too_large, too_long), names, strict=True):
        assert refused.status_code == 413
        assert f"WHISPER_MAX_{variable}, or limits.{field} of a WhisperEndpoint" in refused.json()["error"]
        assert f"{field}:" in limits


def test_a_fault_is_told_by_an_id_that_the_log_has(caplog: pytest.LogCaptureFixture) -> None:
    app = Flask("faulty")
    errors.install(app)
    auth.install(app, None, 0)

    @app.get("/v1/faulty")
    def faulty() -> str:
        raise RuntimeError("something that is nobody's business")

    answer = app.test_client().get("/v1/faulty", headers={"X-Request-Id": "the-one"})
    assert answer.status_code == 500
    assert answer.json is not None
    assert (
        answer.json["error"]["message"]
        == "internal error; the server's log says more, of the request the-one"
    )
    (record,) = caplog.records
    assert "request the-one" in record.getMessage()
    assert record.exc_info
    assert "nobody's business" in str(record.exc_info[1])


def test_any_page_may_call_by_default(server: WhisperProcess) -> None:
    headers = {"Origin": "https://any.example", "Access-Control-Request-Method": "POST"}
    preflight = requests.options(server.url + "/whisper", headers=headers, timeout=10)
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    refused = requests.get(server.url + "/whisper", headers=headers, timeout=10)
    assert refused.headers["Access-Control-Allow-Origin"] == "*"


def test_only_configured_pages_may_call(small_server: WhisperProcess) -> None:
    allowed = {}
    for origin in ("https://app.example.com", "https://evil.example.com"):
        response = requests.get(small_server.url, headers={"Origin": origin}, timeout=10)
        allowed[origin] = response.headers.get("Access-Control-Allow-Origin")
        assert "Origin" in response.headers["Vary"]
    assert allowed == {"https://app.example.com": "https://app.example.com", "https://evil.example.com": None}


def test_json_log_is_json(small_server: WhisperProcess) -> None:
    before = small_server.log.count("POST /whisper")
    small_server.transcript(HELLO)
    wait_for(lambda: small_server.log.count("POST /whisper") > before)  # the line is written after the answer
    entries = [json.loads(line) for line in small_server.log.splitlines()]
    access = [entry for entry in entries if entry["logger"] == "gunicorn.access"]
    # The last one: other tests have asked this server before.
    taken = [each for each in access if each["request"] == "POST /whisper HTTP/1.1"][-1]
    assert taken["status"] == "200"
    assert taken["windows"] == 2
    assert taken["tokens"] >= 6
    assert taken["fallbacks"] == 0
    assert any("ready: demo on cpu" in entry.get("message", "") for entry in entries)


def slow_steps(seconds: float) -> tuple[str, ...]:
    """A server whose engine takes so long for each step."""
    return faulty(f"(time.sleep({seconds}), step())[1]")


def faulty(step: str) -> tuple[str, ...]:
    """A server whose engine's steps do this, once it is loaded; `step` in it is the engine's own."""
    return (
        sys.executable,
        "-c",
        "import sys, time\n"
        "from whisper_server import __main__\n"
        "from whisper_server.http import server\n"
        "load = server.load\n"
        "def load_faulty(settings):\n"
        "    loaded = load(settings)\n"
        "    step = loaded.step\n"
        f"    loaded.step = lambda: {step}\n"
        "    return loaded\n"
        "server.load = load_faulty\n"
        "sys.exit(__main__.main([]))\n",
    )


def test_death_of_the_device_thread_ends_the_server(tmp_path: Path) -> None:
    # The fault: what a library does that calls exit() in the thread that owns the model.
    with running(tmp_path, faulty("sys.exit('the device is gone')")) as server:
        server.wait_until_ready()
        with contextlib.suppress(requests.ConnectionError):  # what a client sees of a server that ends
            server.post(part(HELLO))
        assert server.wait() == 3
        assert "the device thread died" in server.log


def test_a_device_that_hangs_is_noticed(tmp_path: Path) -> None:
    settings = {"WHISPER_STALL_SECONDS": "2", "WHISPER_REQUEST_TIMEOUT_SECONDS": "8"}
    with running(tmp_path, faulty("time.sleep(3600)"), **settings) as server:
        server.wait_until_ready()
        time.sleep(3)  # idle is no hanging
        assert server.ops("/healthz") == 200
        with ThreadPoolExecutor(1) as clients:
            waiting = clients.submit(server.post, part(HELLO))
            wait_for(lambda: server.ops("/healthz") == 503)
            assert "hangs" in requests.get(server.ops_url + "/healthz", timeout=10).json()["status"]
            assert server.ops("/readyz") == 503
            refused = server.post(part(HELLO))
            assert (refused.status_code, waiting.done()) == (503, False)
            assert "stalled" in refused.json()["error"]
            assert waiting.result().status_code == 503
        time.sleep(2)
        assert server.ops("/healthz") == 503, "that nobody waits any more mends nothing"
        assert server.log.count("WHISPER_STALL_SECONDS") == 1


@pytest.mark.parametrize("engine", ["openai-whisper", "faster-whisper"])
def test_with_as_many_threads_as_the_server_chooses(tmp_path: Path, engine: str) -> None:
    with running(tmp_path, OMP_NUM_THREADS="", WHISPER_ENGINE=engine, WHISPER_DTYPE="float32") as server:
        server.wait_until_ready()
        with ThreadPoolExecutor(4) as clients:
            assert {*clients.map(server.transcript, [HELLO] * 8)} == {HELLO_TEXT}


def peak_memory(process: int) -> int:
    """Bytes that it has had at most."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) << 10


@pytest.mark.parametrize("fields", [{}, {"parallel": "true"}], ids=["one after another", "side by side"])
def test_a_full_burst_takes_the_memory_of_its_audio(tmp_path: Path, fields: dict[str, str]) -> None:
    """Of each second its samples and its spectrogram, 64 kB, once; and one file in the making, which takes more."""
    files, seconds = 8, 300
    long = tmp_path / "long.flac"
    ffmpeg("-stream_loop", "100", "-i", HELLO, "-t", str(seconds), long)
    with running(tmp_path, WHISPER_MAX_QUEUE=str(files), WHISPER_REQUEST_TIMEOUT_SECONDS="60") as server:
        server.wait_until_ready()
        server.transcript(HELLO)
        before = peak_memory(server.worker())
        form = {"language": "en", **fields}

        def post(number: int) -> int:
            url = server.url + "/v1/audio/transcriptions"
            return requests.post(url, data=form, files=[part(long)], timeout=300).status_code

        with ThreadPoolExecutor(files) as clients:
            statuses = {*clients.map(post, range(files))}
        # On a slow machine they are not done in time, which is no matter here.
        assert statuses <= {200, 413, 503}
        grown = peak_memory(server.worker()) - before
        assert grown < files * seconds * 64_000 + seconds * 1_000_000 + (50 << 20)


def test_kill_of_the_worker_ends_the_server(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        while server.ops("/healthz") != 200:
            assert server.process.poll() is None, server.log
        os.kill(server.worker(), signal.SIGKILL)
        assert server.wait() == 3
        assert "the worker ended without being asked to" in server.log
