"""How long a file will take, from what the windows before it took."""

import pytest
from whisper_server.scheduling.pace import KEPT_SECONDS, Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("whisper_server.scheduling.pace.time.monotonic", lambda: now[0])
    return now


def test_nothing_is_said_from_few_windows(clock: list[float]) -> None:
    pace = Pace()
    for _ in range(7):
        pace.note(1, 3.0, 30.0)
        assert pace.needed(3600, 1) is None
        assert pace.needed_side_by_side(3600) is None
    pace.note(1, 3.0, 30.0)
    assert pace.needed(3600, 1) == pytest.approx(360)


def test_company_makes_slow_and_side_by_side_fast(clock: list[float]) -> None:
    pace = Pace()
    for _ in range(10):
        pace.note(1, 1.5, 30.0)
        pace.note(7, 3.0, 30.0)
    assert pace.needed(3000, 1) == pytest.approx(150)
    assert pace.needed(3000, 3) == pytest.approx(150), "not measured: what less company took"
    assert pace.needed(3000, 5) == pace.needed(3000, 30) == pytest.approx(300)
    assert pace.needed_side_by_side(3000) == pytest.approx(300 / 7)


def test_a_file_of_noise_makes_nobody_elses_look_long(clock: list[float]) -> None:
    pace = Pace()
    for number in range(60):
        pace.note(1, 30.0 if number % 2 else 1.5, 30.0)
    assert pace.needed(3000, 1) == pytest.approx(150)


def test_what_was_slow_once_is_tried_again(clock: list[float]) -> None:
    pace = Pace()
    for _ in range(64):
        pace.note(1, 60.0, 30.0)
    assert pace.needed(3000, 1) == pytest.approx(6000)
    clock[0] += KEPT_SECONDS + 1
    assert pace.needed(3000, 1) is None
