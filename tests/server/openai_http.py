"""OpenAI's API over plain HTTP."""

import json
from pathlib import Path
from typing import Any

import requests

from tests.server.whisper_process import EXAMPLES, WhisperProcess, table

HELLO = EXAMPLES / "hello.wav"
HELLO_TEXT = table(EXAMPLES / "transcripts.tsv")["hello.wav"]
TRANSCRIPTIONS = "/v1/audio/transcriptions"


def ask(
    server: WhisperProcess, path: str = TRANSCRIPTIONS, file: Path = HELLO, **fields: Any
) -> requests.Response:
    """Send a file; `fields` by name, brackets spelled as a last underscore."""
    data = {name[:-1] + "[]" if name.endswith("_") else name: value for name, value in fields.items()}
    with file.open("rb") as opened:
        return requests.post(server.url + path, files={"file": opened}, data=data, timeout=300)


def events(response: requests.Response) -> list[dict[str, Any]]:
    """The data of server-sent events, each under its name, with the end that some clients wait for."""
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("text/event-stream")
    *blocks, end, nothing = response.content.decode().split("\n\n")
    assert blocks[0].startswith(":")
    assert (end, nothing) == ("data: [DONE]", "")
    found = []
    for block in blocks:
        if not block.startswith(":"):
            name, data = block.split("\n")
            found.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {found[-1]['type']}"
    return found
