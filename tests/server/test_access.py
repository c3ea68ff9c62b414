"""API keys: who may call, how it is told, and what is known of the client afterwards."""

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from whisper_server.http.auth import ApiKeys, KeysError

from tests.server.openai_http import TRANSCRIPTIONS
from tests.server.whisper_process import COMMAND, EXAMPLES, WhisperProcess, part, running, wait_for

HELLO = EXAMPLES / "hello.wav"


def mount(directory: Path, **keys: str) -> None:
    """Write keys as the kubelet does: into a new directory, to which a link is then moved."""
    version = directory / f"..{time.time_ns()}"
    version.mkdir(parents=True)
    for name, key in keys.items():
        (version / name).write_text(key)
    link = directory / "..new"
    link.symlink_to(version.name)
    old = (directory / "..data").resolve() if (directory / "..data").exists() else None
    link.rename(directory / "..data")
    for name in keys:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    for entry in directory.iterdir():
        if entry.is_symlink() and not entry.exists():
            entry.unlink()
    if old:
        shutil.rmtree(old)


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("secret")
    mount(directory, alice="sk-alice\n", bob="sk-bob", blank="  \n")
    return directory


@pytest.fixture(scope="module")
def locked(secret: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WhisperProcess]:
    """A server that needs keys, with a JSON log."""
    settings = {"WHISPER_API_KEYS_DIR": str(secret), "WHISPER_LOG_FORMAT": "json"}
    with running(tmp_path_factory.mktemp("locked"), **settings) as process:
        process.wait_until_ready()
        yield process


def call(server: WhisperProcess, path: str = "/v1/models", **headers: str) -> requests.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return requests.get(server.url + path, headers=named, timeout=30)


def test_who_has_no_known_key_is_refused(locked: WhisperProcess) -> None:
    for value in (
        "",
        "Bearer",
        "Bearer  ",
        "Bearer sk-eve",
        "Basic c2stYWxpY2U6",
        "sk-alice",
        "Bearer sk-alic",
        "Bearer é",
    ):
        response = (
            call(locked, Authorization=value.encode("latin-1").decode("latin-1")) if value else call(locked)
        )
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert response.headers["x-should-retry"] == "false"
        assert "sk-" not in response.text
    plain = locked.post(part(HELLO))
    assert (plain.status_code, set(plain.json())) == (401, {"error"})
    assert "Authorization: Bearer KEY" in plain.json()["error"]


def test_refusals_come_before_the_body_is_read(locked: WhisperProcess) -> None:
    for path in (TRANSCRIPTIONS, "/whisper"):
        response = requests.post(locked.url + path, data=b"not multipart", timeout=30)
        assert response.status_code == 401


def test_who_is_refused_is_not_asked_for_the_body(locked: WhisperProcess) -> None:
    with socket.create_connection(("127.0.0.1", locked.port), timeout=60) as client:
        client.sendall(
            f"POST {TRANSCRIPTIONS} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 401 ")


def test_known_keys_are_let_in(locked: WhisperProcess) -> None:
    for value in ("Bearer sk-alice", "bearer sk-bob", "Bearer  sk-bob "):
        assert call(locked, Authorization=value).status_code == 200
    response = locked.post(part(HELLO), headers={"Authorization": "Bearer sk-alice"})
    assert response.status_code == 200


def test_what_costs_nothing_needs_no_key(locked: WhisperProcess) -> None:
    for path in ("/", "/ui", "/ui/app.js", "/docs", "/openapi.json"):
        assert call(locked, path).status_code == 200
    about = call(locked, "/").json()
    assert about["key_needed"] is True
    assert about["usage"].startswith('curl -H "Authorization: Bearer KEY" -F ')
    document = call(locked, "/openapi.json").json()
    assert {"401", "403"} <= set(document["paths"]["/whisper"]["post"]["responses"])


def test_a_key_sent_in_the_clear_is_refused(locked: WhisperProcess) -> None:
    for path, form in (("/v1/models", "https_required"), ("/whisper", None)):
        response = call(locked, path, Authorization="Bearer sk-alice", X_Forwarded_Proto="http")
        assert response.status_code == 403
        assert "https://" in response.text
        assert form is None or response.json()["error"]["code"] == form
    assert call(locked, Authorization="Bearer sk-alice", X_Forwarded_Proto="https").status_code == 200


def test_preflight_needs_no_key_and_allows_to_send_one(locked: WhisperProcess) -> None:
    wanted = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    for path in ("/whisper", TRANSCRIPTIONS):
        response = requests.options(
            locked.url + path, headers={"Origin": "https://any.example", **wanted}, timeout=10
        )
        assert response.status_code == 200
        assert response.headers["Access-Control-Allow-Headers"] == wanted["Access-Control-Request-Headers"]
    refused = call(locked, Origin="https://any.example")
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, "*")
    assert "X-Request-Id" in refused.headers["Access-Control-Expose-Headers"]


def test_log_and_metrics_name_the_client_and_never_the_key(locked: WhisperProcess) -> None:
    headers = {"Authorization": "Bearer sk-alice", "X-Request-Id": "from-a-test"}
    response = locked.post(part(HELLO), headers=headers)
    assert response.headers["X-Request-Id"] == "from-a-test"
    wait_for(lambda: "from-a-test" in locked.log)  # written after the answer
    entries = [json.loads(line) for line in locked.log.splitlines()]
    assert any("/blank is empty" in entry.get("message", "") for entry in entries)
    (entry,) = [entry for entry in entries if entry.get("request_id") == "from-a-test"]
    assert (entry["client"], entry["status"]) == ("alice", "200")
    assert 4 < entry["audio_seconds"] < 4.5
    assert 0 < entry["decode_seconds"] < entry["seconds"]
    assert 0 <= entry["queue_seconds"] < entry["seconds"]
    metrics = requests.get(locked.ops_url + "/metrics", timeout=10).text
    assert 'whisper_client_requests_total{client="alice",status="200"}' in metrics
    assert 'whisper_client_audio_seconds_total{client="alice"}' in metrics
    assert "sk-alice" not in locked.log + metrics


def test_request_ids_are_not_a_way_to_forge_log_lines(locked: WhisperProcess) -> None:
    forged = 'x"} {"forged": "line'
    assert call(locked, X_Request_Id=forged).headers["X-Request-Id"] != forged


def test_keys_change_without_a_restart(locked: WhisperProcess, secret: Path) -> None:
    mount(secret, alice="sk-alice-2", carol="sk-carol", bob="sk-bob")
    deadline = time.monotonic() + 30
    while call(locked, Authorization="Bearer sk-carol").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert call(locked, Authorization="Bearer sk-alice").status_code == 401
    assert call(locked, Authorization="Bearer sk-alice-2").status_code == 200
    mount(secret, alice="sk-alice", bob="sk-bob", blank="")  # as it was
    while call(locked, Authorization="Bearer sk-alice").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert call(locked, Authorization="Bearer sk-carol").status_code == 401


def test_a_directory_without_keys_lets_nobody_in(tmp_path: Path) -> None:
    keys = ApiKeys(str(tmp_path))
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "huge").write_text("x" * 5000)
    (tmp_path / "folder").mkdir()
    os.utime(tmp_path)
    keys._read_at = 0.0
    assert [keys.client_of(key) for key in (b"", b"\n", b"x" * 5000)] == [None, None, None]


def test_a_key_that_is_none_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = ApiKeys(str(tmp_path))
    assert keys.complaints == [
        f"WHISPER_API_KEYS_DIR={tmp_path} has no key: every request is refused until it has"
    ]
    assert not caplog.records, "nothing is logged before the log is set up"
    (tmp_path / "good").write_text("sk-good")
    (tmp_path / "blank").write_text(" \n")
    (tmp_path / "huge").write_text("x" * 5000)
    for _ in range(2):
        keys._read_at = 0.0
        assert keys.client_of(b"sk-good") == "good"
    assert [record.getMessage() for record in caplog.records] == [
        f"the API key {tmp_path}/blank is empty, and nobody's; write one into it, or remove it",
        f"the API key {tmp_path}/huge has more than 4096 bytes, and is nobody's; choose a shorter one",
    ], "once"


def test_a_key_that_can_not_be_read_keeps_no_other_from_changing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("alice", "bob"):
        (tmp_path / name).write_text(f"sk-{name}")
    keys, read = ApiKeys(str(tmp_path)), Path.open

    def refuse(path: Path, *rest: Any, **named: Any) -> Any:
        if path.name == "bob":  # a mode would not stop root
            raise PermissionError(13, "Permission denied")
        return read(path, *rest, **named)

    monkeypatch.setattr(Path, "open", refuse)
    (tmp_path / "alice").unlink()
    (tmp_path / "carol").write_text("sk-carol")
    for _ in range(2):
        keys._read_at = 0.0
        assert [keys.client_of(f"sk-{name}".encode()) for name in ("alice", "bob", "carol")] == [
            *(None, "bob", "carol")
        ]
    message = f"the API key {tmp_path}/bob can't be read (Permission denied), and {{}}; mend or remove it"
    assert [record.getMessage() for record in caplog.records] == [message.format("counts as before")]
    unknown = message.format("is nobody's until it can")
    assert ApiKeys(str(tmp_path)).complaints == [unknown], "the others are served"
    (tmp_path / "carol").write_text("\n")
    with pytest.raises(KeysError) as refused:
        ApiKeys(str(tmp_path))
    assert str(refused.value) == f"WHISPER_API_KEYS_DIR={tmp_path} has no key that can be read: {unknown}"


def test_keys_stay_valid_while_the_directory_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "alice").write_text("sk-alice")
    keys = ApiKeys(str(tmp_path / "keys"))
    (tmp_path / "keys").rename(tmp_path / "elsewhere")
    keys._read_at = 0.0
    assert keys.client_of(b"sk-alice") == "alice"


def test_a_missing_directory_ends_the_start_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        KeysError, match="WHISPER_API_KEYS_DIR=/nowhere: No such file or directory; mount a Secret"
    ):
        ApiKeys("/nowhere")
    with running(tmp_path, command=COMMAND, WHISPER_API_KEYS_DIR="/nowhere") as server:
        assert server.wait() == 2
        assert server.log.count("\n") == 1
