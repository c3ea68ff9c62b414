"""The Docker engine for tests of images; a module that needs it imports `engine`."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "docker-engine"


@pytest.fixture(scope="module")
def engine() -> Iterator[None]:
    """One that was started for these tests is stopped after them. Without one they are skipped, or fail if they must run."""
    was_running = subprocess.run([SCRIPT, "status"], capture_output=True, check=False).returncode == 0
    started = subprocess.run([SCRIPT, "up"], stderr=subprocess.PIPE, text=True, check=False)
    if started.returncode != 0:
        reason = f"no Docker engine: {started.stderr.strip()[-1000:]}"
        if os.environ.get("WHISPER_REQUIRE_DOCKER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    yield
    if not was_running:
        subprocess.run([SCRIPT, "down"], capture_output=True, check=True)
