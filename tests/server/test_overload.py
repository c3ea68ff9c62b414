"""Ten times too many requests, for a few seconds: the limits here are generous, benchmarks/server/overload.py has figures."""

from pathlib import Path

import pytest

from benchmarks.server.overload import growth, measure

pytestmark = pytest.mark.timeout(600)


def test_too_many_requests(tmp_path: Path) -> None:
    result = measure(tmp_path, seconds=6, factor=10, WHISPER_MAX_QUEUE="8")
    # Only these two answers, and one for every request.
    assert set(result.answers.statuses) == {200, 429}
    assert result.accepted > 0.3 * result.capacity
    assert max(result.healthz) < 10
    assert growth(result.memory) < 1.5
    # Whoever was accepted before SIGTERM has got the answer: as many as the server says it has given.
    assert result.exit_status == 0
    assert result.drained.statuses[200] == result.logged["200"] > 0
    assert set(result.logged) <= {"200", "429", "503"}
