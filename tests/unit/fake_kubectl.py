"""A kubectl that answers from a table, for what a real one says only of clusters that are not at hand."""

import json
import shlex
from pathlib import Path

import pytest

Answer = tuple[int, str, str]
"""Exit status, what it prints, and what it complains of."""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, Answer]) -> None:
    """Put it on the PATH alone; an answer is for the first words that are part of the command."""
    cases = [
        f"*{shlex.quote(words)}*) printf %s {shlex.quote(output)}; printf %s {shlex.quote(said)} >&2; exit {status};;"
        for words, (status, output, said) in answers.items()
    ]
    program = folder / "kubectl"
    program.write_text(
        "\n".join(["#!/bin/sh", 'case "$*" in', *cases, "esac", 'echo "unexpected: $*" >&2; exit 9'])
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def got(body: object) -> Answer:
    return 0, json.dumps(body), ""


def refused(complaint: str) -> Answer:
    return 1, "", complaint


def endpoint(**spec: object) -> dict[str, object]:
    """One that serves."""
    conditions = [
        {"type": each, "status": "True", "reason": "Serving", "message": ""}
        for each in ("Available", "Ready")
    ]
    return {
        "metadata": {"name": "whisper", "namespace": "asr", "generation": 1},
        "spec": spec,
        "status": {"conditions": conditions, "url": "https://whisper.example.com"},
    }
