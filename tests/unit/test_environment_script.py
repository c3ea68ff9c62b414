"""scripts/environment says what it does, for how long, and when it is done. Python is a stand-in that downloads nothing."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = """#!/bin/sh
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  *--group*) [ ! -e broken ] || { echo "ERROR: no such package" >&2; exit 1; } ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("scripts/environment", "constraints.txt", "pyproject.toml", "operator/pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def make(checkout: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(checkout / "python")}
    command = ["scripts/environment", "operator"]
    return subprocess.run(
        command, cwd=checkout, env=environment, capture_output=True, text=True, timeout=20, check=False
    )


def test_it_says_how_long_it_takes_and_that_it_is_done_and_then_nothing(checkout: Path) -> None:
    first = make(checkout)
    assert first.returncode == 0, first.stderr
    assert first.stderr.splitlines()[0] == "environment: making .venv: half a minute"
    assert first.stderr.splitlines()[-1].startswith("environment: .venv is made: ")
    assert make(checkout).stderr == ""


def test_what_fails_is_told_and_tried_again(checkout: Path) -> None:
    (checkout / "broken").touch()
    failed = make(checkout)
    assert failed.returncode == 1
    assert "ERROR: no such package" in failed.stderr
    assert "is made" not in failed.stderr
    (checkout / "broken").unlink()
    assert "is made" in make(checkout).stderr
