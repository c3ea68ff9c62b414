"""A device that hangs is noticed; one that is idle, or slow, is not taken for one."""

import logging

import pytest
from whisper_server.scheduling.stall import Watch


def test_a_device_hangs_when_work_waits_and_nothing_is_computed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, waiting, done = 0.0, False, 0
    monkeypatch.setattr("whisper_server.scheduling.stall.time.monotonic", lambda: now)
    watch = Watch(lambda: waiting, lambda: done, 60)

    def stalled_after(seconds: float) -> bool:
        nonlocal now
        now += seconds
        watch.look()
        return watch.stalled

    with caplog.at_level(logging.WARNING):
        assert not stalled_after(1000), "nothing to do"
        waiting = True
        assert not stalled_after(59)
        done += 1
        assert not stalled_after(59), "slow"
        waiting = False
        assert not stalled_after(30)
        waiting = True
        assert not stalled_after(59)
        assert not caplog.records
        assert stalled_after(2)
        assert stalled_after(1)
        waiting = False
        assert stalled_after(100), "those who waited have given up, which mends nothing"
        assert len(caplog.records) == 1
        done += 1
        assert not stalled_after(1)
        assert "computes again" in caplog.records[-1].message
