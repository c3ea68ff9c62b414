"""Calls of CTranslate2 that fail: for one request in them, for want of memory, or for good."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from whisper_server.engine.ctranslate2.engine import FasterWhisper
from whisper_server.engine.ctranslate2.memory import EASING_CALLS, Pressure
from whisper_server.engine.interface import Decode, DeviceLost, Request
from whisper_server.engine.patience import TRIES, pause_after

from tests.server.faster_whisper import Windows, drive, engine


@contextmanager
def failing(problem: Exception, when: Callable[[Sequence[Decode]], bool]) -> Iterator[list[int]]:
    """Let those calls of `generate` fail of which `when` says so; yields how many windows the others had."""
    sizes: list[int] = []
    generate = FasterWhisper._decode

    def decode(self: FasterWhisper, requests: list[Decode]) -> list[Any]:
        if when(requests):
            raise problem
        sizes.append(len(requests))
        return generate(self, requests)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FasterWhisper, "_decode", decode)
        yield sizes


def answers_of(requests: Sequence[Request]) -> list[Any]:
    """As `drive`, but an answer may be an exception."""
    answers: dict[Any, Any] = {}
    for number, request in enumerate(requests):
        engine().submit(number, request)
    while engine().busy():
        answers |= engine().step()
    return [answers[number] for number in range(len(requests))]


def test_a_request_that_fails_fails_alone() -> None:
    """A call gives one answer or exception for all windows in it: nobody knows whose fault it is."""
    with Windows(range(4)) as windows:
        requests = [Decode(window=window, language="en", seed=n) for n, window in enumerate(windows)]
        expected = [each.tokens for each in drive(requests)]
        with failing(RuntimeError("a bad one"), lambda chosen: any(each.seed == 2 for each in chosen)):
            found = answers_of(requests)
        assert str(found[2]) == "a bad one"
        assert [found[n].tokens for n in (0, 1, 3)] == [expected[n] for n in (0, 1, 3)]
        with failing(RuntimeError(), lambda chosen: False) as sizes:  # and the next ones share a call again
            drive(requests)
        assert sizes == [4]


def test_what_no_call_can_be_made_of_is_answered_to_its_own_request() -> None:
    with Windows(range(2)) as windows:
        unknown = Decode(window=windows[0], language="xx")
        absent = Decode(window=windows[0], language="en", suppress_tokens=(99999,))
        fine = Decode(window=windows[1], language="en")
        found = answers_of([unknown, fine, absent])
        assert isinstance(found[0], ValueError)
        assert found[1].tokens == drive([fine])[0].tokens
        assert str(found[2]) == "suppress_tokens: there is no token 99999"
        engine().submit("gone", unknown)
        engine().cancel("gone")
        assert not engine().busy()


def test_calls_are_smaller_while_memory_is_scarce_and_larger_again_after_that() -> None:
    with Windows(range(8)) as windows:
        requests = [Decode(window=window, language="en") for window in windows]
        expected = [each.tokens for each in drive(requests)]
        scarce = RuntimeError("CUDA failed with error out of memory")
        with failing(scarce, lambda chosen: len(chosen) > 2) as sizes:
            assert [each.tokens for each in drive(requests)] == expected
        assert set(sizes) == {2}
        with failing(scarce, lambda chosen: False) as sizes:
            for _ in range(3 * EASING_CALLS):
                drive([replace(requests[0], sample_len=1)])
            sizes.clear()
            drive(requests)
        assert sizes == [8]


def test_a_request_that_finds_no_memory_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour may have it for a moment only; and nobody else waits for that."""
    monkeypatch.setattr("whisper_server.engine.ctranslate2.engine.pause_after", lambda tries: 0.1)
    with Windows(range(2)) as windows:
        short_of_it = Decode(window=windows[0], language="en", seed=1)
        fine = Decode(window=windows[1], language="en", temperature=0.2)
        expected = [each.tokens for each in drive([short_of_it])]
        tries = iter((True, True, True, False))
        with failing(
            MemoryError("std::bad_alloc"), lambda chosen: chosen[0].seed == 1 and next(tries)
        ) as sizes:
            found = answers_of([short_of_it, fine])
        assert [found[0].tokens] == expected
        assert found[1].tokens
        assert sizes[-1] == 1
        assert next(tries, None) is None
        with failing(MemoryError("std::bad_alloc"), lambda chosen: True):
            engine().submit("gone", short_of_it)
            while not engine()._later:
                engine().step()
            engine().cancel("gone")
            assert not engine().busy()


def test_others_share_calls_again_while_one_request_never_finds_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their calls become small when it fails first, and larger again before it was tried for the last time."""
    monkeypatch.setattr("whisper_server.engine.ctranslate2.engine.pause_after", lambda tries: 3600.0)
    monkeypatch.setattr("whisper_server.engine.ctranslate2.memory.EASING_CALLS", 6)
    used = engine()
    monkeypatch.setattr(used, "_memory", Pressure())
    with Windows(range(5)) as windows:
        never, *others = (
            Decode(window=window, language="en", seed=n, sample_len=4) for n, window in enumerate(windows)
        )
        with failing(MemoryError("std::bad_alloc"), lambda chosen: never in chosen) as sizes:
            used.submit("never", never)
            for _ in range(TRIES - 2):
                for number, request in enumerate(others):
                    used.submit(number, request)
                found: set[Any] = set()
                while len(found) < len(others) or not used._later:
                    found |= {ticket for ticket, _ in used.step()}
                assert found == set(range(len(others)))
                used._later = [(0.0, waiting, queue) for _, waiting, queue in used._later]
            used.cancel("never")
        assert 1 in sizes
        assert sizes[-1] == len(others)


def test_without_memory_for_one_window_its_request_fails_and_with_a_lost_device_all_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    def no_pause(tries: int) -> float:
        pauses.append(pause_after(tries))
        return 0.0

    monkeypatch.setattr("whisper_server.engine.ctranslate2.engine.pause_after", no_pause)
    with Windows([0]) as windows:
        request = Decode(window=windows[0], language="en")
        with failing(MemoryError("std::bad_alloc"), lambda chosen: True):
            assert isinstance(answers_of([request])[0], MemoryError)
        assert 7 < sum(pauses) < 9
        assert drive([request])[0].tokens
        lost = RuntimeError("CUDA failed with error an illegal memory access was encountered")
        with failing(lost, lambda chosen: True), pytest.raises(DeviceLost, match="an illegal memory access"):
            answers_of([request])
