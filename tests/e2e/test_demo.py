"""The demo as a newcomer meets it, but for the terminal: it must end by itself and say the truth with its exit status."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(900)


def leftovers() -> set[str]:
    folder = ROOT / ".cache" / "devcluster" / "clusters"
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def demo() -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # without a terminal
        [sys.executable, "-m", "devcluster.demo"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_demo_ends_well_and_leaves_nothing() -> None:
    if not (ROOT / ".venv-server" / "bin" / "whisper-server").exists():
        pytest.fail("the server's environment is missing: run scripts/environment server")
    before = leftovers()
    done = demo()
    assert done.returncode == 0, done.stdout + done.stderr
    for child in ("BackendConfig", "Service", "Deployment", "ManagedCertificate", "Ingress"):
        assert f"{child} whisper" in done.stdout
    assert "condition Ready                            True (Ready)" in done.stdout
    assert (
        '{"results":[{"filename":"hello.wav","transcript":"hello world please play music"}]}' in done.stdout
    )
    assert leftovers() <= before
