"""The queue: bounded in requests, bytes and seconds, with an estimate of when to come back."""

from contextlib import ExitStack

import pytest
from werkzeug.exceptions import ServiceUnavailable, TooManyRequests
from whisper_server.http.admission import Admission, Limits, State


def make(requests: int = 4, size: int = 1000, seconds: float = 100.0) -> Admission:
    return Admission(Limits(requests=requests, bytes=size, audio_seconds=seconds), lambda: State.READY)


def retry_after(refusal: pytest.ExceptionInfo[TooManyRequests]) -> int:
    return int(dict(refusal.value.get_headers())["Retry-After"])


def test_requests_are_bounded() -> None:
    queue = make(requests=2)
    with queue.admit("a", 1), queue.admit("a", 1):
        assert queue.in_flight == 2
        with pytest.raises(TooManyRequests, match="WHISPER_MAX_QUEUE"):
            queue.admit("a", 1)
    with queue.admit("a", 1):
        pass
    assert queue.in_flight == 0


def test_bytes_are_bounded_until_the_uploads_are_gone() -> None:
    queue = make()
    with queue.admit("a", 800) as first:
        with pytest.raises(TooManyRequests, match="WHISPER_MAX_QUEUE_BYTES"):
            queue.admit("a", 300)
        first.resize(0)
        with queue.admit("a", 300):
            assert queue.bytes == 300
    assert queue.bytes == 0


def test_one_large_upload_is_let_in_when_there_is_no_other() -> None:
    with make(size=10).admit("a", 5000):
        pass


def test_seconds_are_bounded_and_freed() -> None:
    queue = make()
    with queue.admit("a", 1) as first, queue.admit("a", 1) as second:
        first.hold(70)
        with pytest.raises(TooManyRequests, match="WHISPER_MAX_QUEUE_AUDIO_SECONDS") as refusal:
            second.hold(31)
        assert 1 <= retry_after(refusal) <= 60
        second.hold(30)
        assert queue.audio_seconds == 100
    assert queue.audio_seconds == 0


def test_one_clients_pile_keeps_no_other_client_out() -> None:
    queue = make(requests=4, size=1000, seconds=100)
    with ExitStack() as pile:
        for _ in range(4):
            pile.enter_context(queue.admit("heavy", 250)).hold(25)
        with pytest.raises(TooManyRequests):
            queue.admit("heavy", 1)
        with queue.admit("light", 250) as place:
            place.hold(10)
            place.hold(15)  # its next file
            with pytest.raises(TooManyRequests, match="WHISPER_MAX_QUEUE_AUDIO_SECONDS"):
                place.hold(1)
            with pytest.raises(TooManyRequests, match="WHISPER_MAX_QUEUE"):
                queue.admit("third", 0)
    assert (queue.in_flight, queue.bytes, queue.audio_seconds) == (0, 0, 0)


def test_the_room_for_others_is_bounded_in_bytes_and_not_for_a_second_request() -> None:
    queue = make(requests=100)
    with queue.admit("heavy", 1000), queue.admit("light", 100) as first:
        with pytest.raises(TooManyRequests, match="WHISPER_MAX_QUEUE_BYTES"):
            queue.admit("light", 100)
        with pytest.raises(TooManyRequests, match="WHISPER_MAX_QUEUE_BYTES"):
            queue.admit("third", 200)
        first.resize(0)
        with queue.admit("light", 100):
            pass


def test_clients_that_were_refused_or_served_are_forgotten() -> None:
    queue = make(requests=1)
    with queue.admit("a", 1), queue.admit("b", 1):
        for number in range(10):
            with pytest.raises(TooManyRequests):
                queue.admit(str(number), 1)
    assert not queue._places


def test_the_estimate_for_audio_is_when_those_before_will_have_been_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("whisper_server.http.admission.time.monotonic", lambda: clock[-1])
    queue = make(seconds=400)
    with queue.admit("a", 1) as first, queue.admit("a", 1) as second, queue.admit("a", 1) as third:
        first.hold(300)
        second.hold(100)
        estimates = []
        for passed in (0.0, 20.0, 1000.0):
            clock.append(passed)
            with pytest.raises(TooManyRequests) as refusal:
                third.hold(5)
            estimates.append(retry_after(refusal))
    assert estimates == [30, 10, 1]  # ten times real time is what it supposes at first


def test_requests_of_one_moment_are_answered_in_the_order_in_which_they_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("whisper_server.http.admission.time.monotonic", lambda: 0.0)
    queue = make(requests=20, seconds=1000)
    with ExitStack() as stack:
        places = [stack.enter_context(queue.admit("a", 1)) for _ in range(12)]
        for number, place in enumerate(places):
            place.hold(300 if number == 0 else 50)
        with pytest.raises(TooManyRequests) as refusal:
            places[-1].hold(200)
    assert retry_after(refusal) == 30, "the first one's alone is enough"


def test_one_long_file_is_let_in_when_there_is_no_other() -> None:
    with make(seconds=10).admit("a", 1) as place:
        place.hold(5000)


def test_estimate_follows_what_requests_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("whisper_server.http.admission.time.monotonic", lambda: now)
    queue = make(requests=1)
    estimates = []
    for took in [8.0] * 30 + [1000.0] * 30 + [0.01] * 60:
        with queue.admit("a", 1) as place:
            place.hold(1)
            with pytest.raises(TooManyRequests) as refusal:
                queue.admit("a", 1)
            estimates.append(retry_after(refusal))
            now += took
    assert (estimates[29], estimates[59], estimates[-1]) == (8, 60, 1)


@pytest.mark.parametrize("state", [State.LOADING, State.DRAINING])
def test_nobody_comes_in_while_loading_or_draining(state: State) -> None:
    queue = Admission(Limits(requests=1, bytes=1, audio_seconds=1), lambda: state)
    with pytest.raises(ServiceUnavailable, match=state.value):
        queue.admit("a", 1)
