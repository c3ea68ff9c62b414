"""Work outside the device: bounded, in turns, and not begun when nobody waits for it."""

import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from whisper_server.audio.executor import Executor, Turn

from tests.server.driving import soon, turn_of
from tests.server.whisper_process import wait_for


def gone() -> None:
    raise ConnectionError


@pytest.mark.parametrize("threads", [1, 2])
def test_clients_take_turns_and_what_nobody_waits_for_is_not_begun(threads: int) -> None:
    executor: Executor[str] = Executor("test", threads)
    enough, order = threading.Semaphore(0), list[str]()

    def work(client: str) -> str:
        order.append(client)
        assert enough.acquire(timeout=60)
        return client

    with ThreadPoolExecutor(12) as pool:
        held = [pool.submit(executor.run, partial(work, "many"), turn_of("many")) for _ in range(threads)]
        wait_for(lambda: len(order) == threads)
        pile = [pool.submit(executor.run, partial(work, "many"), turn_of("many")) for _ in range(3)]
        wait_for(lambda: len(executor) == 3)
        with pytest.raises(ConnectionError):
            executor.run(partial(work, "gone"), Turn(client="gone", deadline=soon(), check_cancelled=gone))
        with pytest.raises(TimeoutError, match="deadline"):
            executor.run(partial(work, "late"), turn_of("late", 0.1))
        assert len(executor) == 3, "who does not wait is not counted"
        other = pool.submit(executor.run, partial(work, "other"), turn_of("other"))
        wait_for(lambda: len(executor) == 4)
        time.sleep(0.05)  # what is held costs something
        enough.release()
        wait_for(lambda: len(order) == threads + 1)
        enough.release(10)
        assert [each.result(60) for each in (*held, *pile)] == ["many"] * (threads + 3)
        assert other.result(60) == "other"
    assert order == [*["many"] * threads, "other", "many", "many", "many"]


def test_no_client_has_all_threads() -> None:
    executor: Executor[str] = Executor("test", 3, for_one=2)
    enough, order = threading.Semaphore(0), list[str]()

    def work() -> str:
        order.append("many")
        assert enough.acquire(timeout=60)
        return "many"

    with ThreadPoolExecutor(5) as pool:
        pile = [pool.submit(executor.run, work, turn_of("many")) for _ in range(5)]
        wait_for(lambda: len(executor) == 3)
        try:
            for _ in range(3):  # each time it is done, the thread waits for somebody else again
                assert executor.run(lambda: "other", turn_of("other", 20)) == "other"
            assert (len(order), len(executor)) == (2, 3)
        finally:
            enough.release(5)
        assert [each.result(60) for each in pile] == ["many"] * 5


def test_work_that_has_begun_is_waited_for_as_it_holds_what_it_was_given() -> None:
    executor: Executor[None] = Executor("test")
    begun, done = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        time.sleep(1.5)
        done.set()

    def gone_once_it_has_begun() -> None:
        assert begun.wait(60)
        gone()

    with pytest.raises(ConnectionError):
        executor.run(work, Turn(client="a", deadline=soon(), check_cancelled=gone_once_it_has_begun))
    assert begun.is_set()
    assert done.is_set()


def test_an_error_is_its_callers_alone_and_leaves_nothing_for_the_garbage_collector() -> None:
    class Held:
        """As the samples of a file."""

    executor: Executor[int] = Executor("test")

    def fail() -> weakref.ref[Held]:
        held = Held()

        def work(_: Held) -> int:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            executor.run(partial(work, held), turn_of("a"))
        return weakref.ref(held)

    gc.collect()
    gc.disable()
    try:
        held = fail()
        assert executor.run(lambda: 7, turn_of("a")) == 7
        wait_for(lambda: held() is None, 5)
    finally:
        gc.enable()
