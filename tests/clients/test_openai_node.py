"""OpenAI's client for Node, unmodified: every call, format, stream, error and retry."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import KEY
from tests.server.whisper_process import EXAMPLES, WhisperProcess, table

FOLDER = Path(__file__).parent / "node"


def test_openai_node(keyed_server: WhisperProcess) -> None:
    if not (FOLDER / "node_modules" / "openai").is_dir():
        pytest.fail("OpenAI's client for Node is missing: run scripts/environment clients")
    environment = {
        **os.environ,
        "SERVER": keyed_server.url,
        "KEY": KEY,
        "AUDIO": str(EXAMPLES / "hello.wav"),
        "TEXT": table(EXAMPLES / "transcripts.tsv")["hello.wav"],
    }
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", "sdk.test.js"],
        cwd=FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 9" in done.stdout
