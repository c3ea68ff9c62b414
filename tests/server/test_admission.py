"""The queue: bounded in requests, bytes and seconds, with an estimate of when to come back."""

import pytest
from werkzeug.exceptions import ServiceUnavailable, TooManyRequests
from whisper_server.admission import Admission, Limits, State


def make(requests: int = 4, size: int = 1000, seconds: float = 100.0) -> Admission:
    return Admission(Limits(requests=requests, bytes=size, audio_seconds=seconds), lambda: State.READY)


def retry_after(refusal: pytest.ExceptionInfo[TooManyRequests]) -> int:
    return int(dict(refusal.value.get_headers())["Retry-After"])


def test_requests_are_bounded() -> None:
    queue = make(requests=2)
    with queue.admit(1), queue.admit(1):
        assert queue.in_flight == 2
        with pytest.raises(TooManyRequests, match="WHISPER_MAX_QUEUE"):
            queue.admit(1)
    with queue.admit(1):
        pass
    assert queue.in_flight == 0


def test_bytes_are_bounded_until_the_uploads_are_gone() -> None:
    queue = make()
    with queue.admit(800) as first:
        with pytest.raises(TooManyRequests, match="WHISPER_MAX_QUEUE_BYTES"):
            queue.admit(300)
        first.resize(0)
        with queue.admit(300):
            assert queue.bytes == 300
    assert queue.bytes == 0


def test_one_large_upload_is_let_in_when_there_is_no_other() -> None:
    with make(size=10).admit(5000):
        pass


def test_seconds_are_bounded_and_freed() -> None:
    queue = make()
    with queue.admit(1) as first, queue.admit(1) as second:
        first.hold(70)
        with pytest.raises(TooManyRequests, match="WHISPER_MAX_QUEUE_AUDIO_SECONDS") as refusal:
            second.hold(31)
        assert 1 <= retry_after(refusal) <= 60
        second.hold(30)
        assert queue.audio_seconds == 100
    assert queue.audio_seconds == 0


def test_one_long_file_is_let_in_when_there_is_no_other() -> None:
    with make(seconds=10).admit(1) as place:
        place.hold(5000)


def test_estimate_follows_what_requests_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("whisper_server.admission.time.monotonic", lambda: now)
    queue = make(requests=1)
    estimates = []
    for took in [8.0] * 30 + [1000.0] * 30 + [0.01] * 60:
        with queue.admit(1) as place:
            place.hold(1)
            with pytest.raises(TooManyRequests) as refusal:
                queue.admit(1)
            estimates.append(retry_after(refusal))
            now += took
    assert (estimates[29], estimates[59], estimates[-1]) == (8, 60, 1)


@pytest.mark.parametrize("state", [State.LOADING, State.DRAINING])
def test_nobody_comes_in_while_loading_or_draining(state: State) -> None:
    queue = Admission(Limits(requests=1, bytes=1, audio_seconds=1), lambda: state)
    with pytest.raises(ServiceUnavailable, match=state.value):
        queue.admit(1)
