"""Status writes: gathered, many in a row, then one a minute, and afresh for a new spec."""

from whisper_operator.status.throttle import BURST, GATHER_SECONDS, SECONDS, Throttle


def spend_burst(throttle: Throttle) -> float:
    """Write as often as may be, from time 0 on; the time of the last write."""
    times = [index * GATHER_SECONDS for index in range(BURST)]
    assert [throttle.wait("u", 1, now) for now in times] == [0.0] * BURST
    return times[-1]


def test_a_burst_and_then_one_a_minute() -> None:
    throttle = Throttle()
    last = spend_burst(throttle)
    assert throttle.wait("u", 1, last + GATHER_SECONDS) == SECONDS - last - GATHER_SECONDS
    assert throttle.wait("u", 1, SECONDS - 1) == 1.0
    assert throttle.wait("u", 1, SECONDS) == 0.0
    assert throttle.wait("u", 1, SECONDS) == SECONDS
    assert throttle.wait("other", 1, SECONDS) == 0.0


def test_what_happens_close_together_is_written_together() -> None:
    throttle = Throttle()
    assert throttle.wait("u", 1, 10.0) == 0.0
    assert throttle.wait("u", 1, 10.0) == GATHER_SECONDS
    assert throttle.wait("u", 1, 10.0 + GATHER_SECONDS / 2) == GATHER_SECONDS / 2
    assert throttle.wait("u", 1, 10.0 + GATHER_SECONDS) == 0.0


def test_flapping_for_an_hour_costs_about_one_write_a_minute() -> None:
    throttle = Throttle()
    written = sum(throttle.wait("u", 1, float(second)) == 0.0 for second in range(3600))
    assert written <= BURST + 60


def test_a_new_generation_is_written_at_once() -> None:
    throttle = Throttle()
    last = spend_burst(throttle)
    assert throttle.wait("u", 1, last) > 0
    assert throttle.wait("u", 2, last) == 0.0


def test_under_pressure_the_first_news_waits_too_but_not_for_ever() -> None:
    throttle = Throttle()
    assert throttle.wait("u", 1, 0.0, backlogged=True) == GATHER_SECONDS
    assert throttle.wait("u", 1, GATHER_SECONDS / 2, backlogged=True) == GATHER_SECONDS / 2
    assert throttle.wait("u", 1, GATHER_SECONDS, backlogged=True) == 0.0


def test_quiet_endpoints_are_forgotten() -> None:
    throttle = Throttle()
    for number in range(25_000):
        assert throttle.wait(f"u{number}", 1, number * SECONDS) == 0.0
    assert len(throttle._buckets) <= 10_000
