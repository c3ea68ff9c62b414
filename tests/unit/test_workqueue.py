"""The queue's contract: no key twice at a time, none lost, failures later and apart."""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from whisper_operator import workqueue
from whisper_operator.kube.errors import Retry, Unavailable
from whisper_operator.kube.metrics import REGISTRY
from whisper_operator.workqueue import WorkQueue


@asynccontextmanager
async def working(
    queue: WorkQueue[str], job: Callable[[str], Awaitable[float | None]], workers: int = 4
) -> AsyncIterator[None]:
    task = asyncio.create_task(queue.work(workers, job))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_many_adds_of_a_waiting_key_are_one_piece_of_work() -> None:
    queue, done = WorkQueue[str](), list[str]()

    async def job(key: str) -> None:
        done.append(key)

    for _ in range(100):
        queue.add("a")
    queue.add("b")
    assert len(queue) == 2
    async with working(queue, job):
        await until(lambda: len(done) >= 2)
        await asyncio.sleep(0.05)
    assert sorted(done) == ["a", "b"]


async def test_a_key_added_during_its_work_is_worked_on_once_more_and_never_twice_at_a_time() -> None:
    queue, running, most, runs = WorkQueue[str](), 0, 0, 0
    go = asyncio.Event()

    async def job(key: str) -> None:
        nonlocal running, most, runs
        running, runs = running + 1, runs + 1
        most = max(most, running)
        await go.wait()
        running -= 1

    queue.add("a")
    async with working(queue, job):
        await until(lambda: running == 1)
        for _ in range(5):
            queue.add("a")
        go.set()
        await until(lambda: runs == 2)
        await asyncio.sleep(0.05)
    assert (most, runs) == (1, 2)


async def test_a_failing_key_backs_off_and_does_not_hold_up_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workqueue, "FIRST_DELAY", 0.01)
    queue, tries, done = WorkQueue[str](), 0, list[str]()

    async def job(key: str) -> None:
        nonlocal tries
        if key == "broken":
            tries += 1
            if tries < 4:
                raise ValueError("broken")
        done.append(key)

    queue.add("broken")
    async with working(queue, job, workers=1):
        await until(lambda: tries == 1)
        queue.add("fine")
        await until(lambda: "broken" in done)
    assert done == ["fine", "broken"]
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 3
    assert errors[0].__dict__["endpoint"] == "broken"


async def test_a_passing_reason_is_retried_without_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workqueue, "FIRST_DELAY", 0.01)
    queue, tries = WorkQueue[str](), 0

    async def job(key: str) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Retry("somebody was faster")

    queue.add("a")
    async with working(queue, job):
        await until(lambda: tries == 3)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_back_off_doubles_to_a_ceiling() -> None:
    queue = WorkQueue[str]()
    delays = [queue._back_off("a") for _ in range(40)]
    for index, delay in enumerate(delays):
        longest = min(0.2 * 2**index, 300)
        assert longest / 2 <= delay <= longest


async def test_back_off_starts_over_after_success(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, runs, delays = WorkQueue[str](), 0, list[float]()

    def add_at_once(key: str, delay: float) -> None:
        delays.append(delay)
        queue.add(key)

    async def job(key: str) -> None:
        nonlocal runs
        runs += 1
        if runs not in (6, 8):
            raise Retry("not yet")
        if runs == 6:
            queue.add(key)

    monkeypatch.setattr(queue, "add_after", add_at_once)
    queue.add("a")
    async with working(queue, job):
        await until(lambda: runs == 8)
        await asyncio.sleep(0.01)
    assert queue.failing == 0
    longest = [0.2, 0.4, 0.8, 1.6, 3.2, 0.2]
    assert len(delays) == len(longest)
    assert all(most / 2 <= delay <= most for delay, most in zip(delays, longest, strict=True))


async def test_a_retry_comes_no_later_than_it_has_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """News of other children may have made it fail many times within a second."""
    queue, delays = WorkQueue[str](), list[float]()

    def add_at_once(key: str, delay: float) -> None:
        delays.append(delay)
        if len(delays) < 12:
            queue.add(key)

    monkeypatch.setattr(queue, "add_after", add_at_once)

    async def job(key: str) -> None:
        raise Retry("not yet", within=7.0)

    async with working(queue, job):
        queue.add("a")
        await until(lambda: len(delays) == 12)
    assert delays[0] < 1.0
    assert delays[-1] == 7.0


async def test_a_retry_comes_no_sooner_than_the_api_server_asks_for() -> None:
    queue, delays = WorkQueue[str](), list[float]()

    async def job(key: str) -> None:
        raise Unavailable("429", 17.0)

    queue.add("a")
    async with working(queue, job):
        await until(lambda: "a" in queue._timers)
        delays.append(queue._timers["a"].when() - asyncio.get_running_loop().time())
        queue._timers["a"].cancel()
    assert 16 < delays[0] <= 17


async def test_the_next_look_comes_by_itself_and_an_event_comes_first() -> None:
    queue, runs = WorkQueue[str](), 0

    async def job(key: str) -> float | None:
        nonlocal runs
        runs += 1
        return {1: 0.01, 2: 1000.0}.get(runs)

    queue.add("a")
    async with working(queue, job):
        await until(lambda: runs == 2)
        queue.add("a")
        await until(lambda: runs == 3)


async def test_the_earlier_of_two_looks_counts() -> None:
    queue, runs = WorkQueue[str](), 0

    async def job(key: str) -> None:
        nonlocal runs
        runs += 1

    queue.add_after("a", 0.01)
    queue.add_after("a", 1000.0)
    async with working(queue, job):
        await until(lambda: runs == 1)


async def test_a_key_backlogged_by_others_only_also_by_those_under_way() -> None:
    queue, seen, go = WorkQueue[str](), dict[str, bool](), asyncio.Event()

    async def job(key: str) -> None:
        seen[key] = queue.backlogged(key)
        await go.wait()

    queue.add("new")
    async with working(queue, job):
        await until(lambda: len(seen) == 1)
        queue.add("old", low_priority=True)
        await until(lambda: len(seen) == 2)
        go.set()
    assert seen == {"new": False, "old": True}


async def test_what_may_wait_comes_after_what_may_not() -> None:
    queue, done = WorkQueue[str](), list[str]()

    async def job(key: str) -> None:
        done.append(key)

    for key in ("old", "older", "promoted"):
        queue.add(key, low_priority=True)
    assert (queue.backlogged("old"), len(queue)) == (False, 3)
    queue.add("new")
    queue.add("promoted")
    queue.add("promoted", low_priority=True)
    assert (queue.backlogged("old"), queue.backlogged("new"), len(queue)) == (True, True, 4)
    async with working(queue, job, workers=1):
        await until(lambda: len(done) >= 4)
        await asyncio.sleep(0.05)
    assert done == ["new", "promoted", "old", "older"]


async def test_a_namespace_that_hangs_leaves_workers_to_the_others() -> None:
    """Whatever is added to it meanwhile; and no key of its own is lost, nor worked on twice."""
    queue = WorkQueue[str](lambda key: key.split("/")[0])
    begun, go = list[str](), asyncio.Event()

    async def job(key: str) -> None:
        begun.append(key)
        if key.startswith("bad/"):
            await go.wait()

    for each in range(6):
        queue.add(f"bad/{each}", low_priority=each > 2)
    async with working(queue, job, workers=4):
        await until(lambda: len(begun) == 2)
        queue.add("good/1")
        await until(lambda: "good/1" in begun)
        assert begun == ["bad/0", "bad/1", "good/1"]
        assert (len(queue), queue.active) == (4, 2)
        for key in ("bad/2", "bad/3", "bad/6"):  # one that waits so, one of low priority no longer, a new one
            queue.add(key)
        queue.add("good/2", low_priority=True)
        await until(lambda: "good/2" in begun)
        assert (len(queue), queue.active) == (5, 2)
        go.set()
        await until(lambda: queue.active == 0 and not len(queue))
    assert begun[:4] == ["bad/0", "bad/1", "good/1", "good/2"]
    assert (sorted(begun[4:7]), sorted(begun[7:])) == (["bad/2", "bad/3", "bad/6"], ["bad/4", "bad/5"])
    assert (queue._parked, dict(queue._busy)) == ({}, {})


async def test_many_namespaces_that_hang_leave_workers_to_the_others() -> None:
    """And get more of them as soon as others don't need them."""
    queue = WorkQueue[str](lambda key: key.split("/")[0])
    begun, go = list[str](), {each: asyncio.Event() for each in "abcd"}

    async def job(key: str) -> None:
        begun.append(key)
        if key[0] in go:
            await go[key[0]].wait()

    def with_workers(namespace: str) -> int:
        return sum(key.startswith(namespace) for key in begun)

    for each in range(40):
        for namespace in "abcd":
            queue.add(f"{namespace}/{each}")
    async with working(queue, job, workers=16):
        await until(lambda: not len(queue._ready))
        assert queue.active < 16
        assert min(map(with_workers, "abcd")) >= 1
        queue.add("good/1")
        await until(lambda: "good/1" in begun)
        had = queue._busy["d"]
        for namespace in "abc":
            go[namespace].set()
        await until(lambda: all(with_workers(namespace) == 40 for namespace in "abc"))
        go["d"].set()
        await until(lambda: queue.active == 0 and not len(queue))
    assert had < 8
    assert with_workers("d") == 40
    assert (queue._parked, dict(queue._busy)) == ({}, {})


async def test_a_namespace_gets_the_workers_that_others_need_no_longer() -> None:
    queue = WorkQueue[str](lambda key: key.split("/")[0])
    others, turn, most = asyncio.Event(), asyncio.Event(), 0

    async def job(key: str) -> None:
        nonlocal most
        if key.startswith("other/"):
            await others.wait()
            return
        most = max(most, queue._busy["n"])
        await turn.wait() if most < 4 else None

    for each in range(8):
        queue.add(f"other/{each}")
    async with working(queue, job, workers=8):
        await until(lambda: queue.active == 4)
        for each in range(20):
            queue.add(f"n/{each}")
        await until(lambda: not len(queue._ready))
        assert most == 2
        others.set()
        await until(lambda: queue._busy.get("other", 0) == 0)
        turn.set()
        turn.clear()
        await until(lambda: most == 4)
        turn.set()
        await until(lambda: queue.active == 0 and not len(queue))


async def test_a_key_is_backlogged_by_those_of_its_namespace_that_wait_for_one_of_its_workers() -> None:
    """With two workers, it has one of them."""
    queue = WorkQueue[str](lambda key: "n")
    seen = dict[str, bool]()

    async def job(key: str) -> None:
        await asyncio.sleep(0.001)
        seen[key] = queue.backlogged(key)

    for each in range(10):
        queue.add(f"n/{each}")
    async with working(queue, job, workers=2):
        await until(lambda: len(seen) == 10)
    assert [each for each, backlogged in seen.items() if not backlogged] == ["n/9"]


async def test_one_worker_is_enough_for_a_namespace() -> None:
    queue, done = WorkQueue[str](lambda key: "n"), list[str]()

    async def job(key: str) -> None:
        done.append(key)

    for key in "abc":
        queue.add(key)
    async with working(queue, job, workers=1):
        await until(lambda: len(done) == 3)


async def test_it_counts_as_other_workqueues_do() -> None:
    def value(name: str) -> float:
        return REGISTRY.get_sample_value(f"whisper_operator_workqueue_{name}") or 0.0

    names = ("adds_total", "retries_total", "queue_duration_seconds_count", "work_duration_seconds_count")
    before = {name: value(name) for name in names}
    queue, runs = WorkQueue[str](), 0

    async def job(key: str) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise Retry("not yet")

    queue.add("a")
    queue.add("a")
    async with working(queue, job):
        await until(lambda: runs == 2)
        await asyncio.sleep(0.01)
    assert {name: value(name) - before[name] for name in names} == {
        "adds_total": 2,
        "retries_total": 1,
        "queue_duration_seconds_count": 2,
        "work_duration_seconds_count": 2,
    }


class Counted(OrderedDict[int, float]):
    """Keys, and how often one of them was touched."""

    touched = 0

    def __iter__(self) -> Iterator[int]:
        for key in super().__iter__():
            self.touched += 1
            yield key

    def __contains__(self, key: object) -> bool:
        self.touched += 1
        return super().__contains__(key)


def cost(keys: int) -> int:
    """How many keys are touched by a thousand looks at a queue in which so many wait."""
    queue = WorkQueue[int]()
    queue._ready.low = low = Counted()
    for key in range(keys):
        queue.add(key, low_priority=True)
    low.touched = 0
    for key in range(1000):
        assert not queue.backlogged(key)
        queue.add(key, low_priority=True)
    return low.touched


async def test_what_it_costs_does_not_depend_on_how_many_keys_wait() -> None:
    assert cost(10_000) == cost(1000) > 0


async def test_a_closed_queue_forgets_all_and_takes_nothing_in() -> None:
    queue, done = WorkQueue[str](), list[str]()
    queue.add("before")
    queue.add_after("later", 0.01)
    queue.close()
    queue.add("closed")
    queue.add_after("closed", 0.01)
    assert len(queue) == 0
    queue.open()
    queue.add("after")

    async def job(key: str) -> None:
        done.append(key)

    working = asyncio.create_task(queue.work(2, job))
    await asyncio.sleep(0.05)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert done == ["after"]
    queue.close()
    queue.open()
    queue.add("again")
    working = asyncio.create_task(queue.work(2, job))
    await asyncio.sleep(0.05)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert done == ["after", "again"]
