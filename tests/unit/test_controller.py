"""One run of the operator, from beginning to end."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import kopf
import pytest
from whisper_operator import controller, term
from whisper_operator.config import Settings
from whisper_operator.informer.relist import WentBack
from whisper_operator.kube.client import Api
from whisper_operator.kube.kinds import DEPLOYMENT, ENDPOINT
from whisper_operator.kube.objects import Key, Raw
from whisper_operator.leader.leadership import Leadership
from whisper_operator.policy.live import LivePolicy
from whisper_operator.process.shutdown import ShutdownWatchdog
from whisper_operator.rollouts.progress import WHOLE, Progress
from whisper_operator.rollouts.turn import Turn


class Nowhere(Api):
    """No API server."""

    server = "http://127.0.0.1:1"

    def __init__(self) -> None: ...


WHOLE_ONE = Progress(serves=WHOLE)


def made(**settings: Any) -> controller._Running:
    chosen = Settings(**settings)
    return controller._Running(Nowhere(), chosen, LivePolicy(None, chosen), Nowhere(), "whisper-operator")


def endpoint(namespace: str, name: str) -> Raw:
    metadata = {"namespace": namespace, "name": name, "uid": f"{namespace}-{name}"}
    return {"metadata": {**metadata, "resourceVersion": str(ord(name))}, "spec": {}}


async def at_once(*_: object) -> None: ...


@asynccontextmanager
async def leading(
    monkeypatch: pytest.MonkeyPatch,
    running: controller._Running,
    look: Callable[..., Awaitable[None]],
    *,
    left: Collection[str] = (),
    catch_up: Callable[..., Awaitable[None]] = at_once,
) -> AsyncIterator[None]:
    """The term of a leader, with `look` in place of a look at an endpoint; `left`: another installation's namespaces."""
    monkeypatch.setattr(term, "reconcile", look)
    monkeypatch.setattr(running, "_list", catch_up)
    monkeypatch.setattr(Leadership, "leads", True)
    monkeypatch.setattr(running.leadership, "leaves", lambda namespace: namespace in left)
    lead = asyncio.create_task(running._lead())
    try:
        yield
    finally:
        lead.cancel()
        await asyncio.gather(lead, return_exceptions=True)


@pytest.mark.parametrize("why", ["nobody watches", "a restore"])
@pytest.mark.parametrize("is_told_to_end", [False, True])
async def test_it_begins_anew_unless_it_is_told_to_end_meanwhile(
    is_told_to_end: bool, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kopf takes its time to end, and Kubernetes tells once."""
    running = made()

    async def kopfs(*, stop_flag: asyncio.Event, **_: Any) -> None:
        await stop_flag.wait()
        if is_told_to_end:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.1)

    async def anew(*_: object) -> bool:
        return True

    async def went_back(*_: object) -> None:
        raise WentBack

    monkeypatch.setattr(kopf, "operator", kopfs)
    monkeypatch.setattr(running.watches, "settle", at_once)
    monkeypatch.setattr(running, "_list_at_first", at_once)
    monkeypatch.setattr(running.lister, "wait", at_once)
    monkeypatch.setattr(running, *(("_keep_true", anew) if why != "a restore" else ("_list", went_back)))
    watchdog = ShutdownWatchdog()
    try:
        assert await running.run(watchdog) is not is_told_to_end
    finally:
        watchdog.cancel()
        for sign in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(sign)


async def test_nobody_is_upgraded_before_all_were_looked_at_and_who_could_not_be_written_makes_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The workers tell the train of each look. Nobody looks at what another installation looks after, nor waits for that."""
    running = made()
    for each in (("n", "a"), ("n", "b"), ("theirs", "c")):
        running.cache.upsert(ENDPOINT, endpoint(*each))
    running.cache.train.begin([("theirs", "c")])  # as after a term in which it was ours
    turns: list[tuple[str, Turn]] = []
    enough = asyncio.Event()

    async def ask(key: Key, *_: Any, **__: Any) -> None:
        turns.append((key[1], running.cache.train.ask(key, WHOLE_ONE, most=1)))
        if len(turns) == 4:
            enough.set()

    async with leading(monkeypatch, running, ask, left={"theirs"}):
        await asyncio.wait_for(enough.wait(), 30)
    assert turns[:4] == [("a", Turn.WAIT), ("b", Turn.WAIT), ("a", Turn.BOARD), ("b", Turn.BOARD)]


async def test_what_is_left_to_another_installation_while_it_waits_to_be_looked_at_holds_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = made(workers=1)
    for namespace in "mn":
        running.cache.upsert(ENDPOINT, endpoint(namespace, "a"))
    left = set[str]()
    boarded = asyncio.Event()

    async def ask(key: Key, *_: Any, **__: Any) -> None:
        left.add("n" if key[0] == "m" else "m")  # the other one, which was queued as ours
        if running.cache.train.ask(key, WHOLE_ONE, most=1).goes:
            boarded.set()

    async with leading(monkeypatch, running, ask, left=left):
        await asyncio.wait_for(boarded.wait(), 30)


async def test_what_comes_to_be_ours_is_weighed_and_waited_for_before_anybody_there_is_upgraded_or_given_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of a namespaced installation's first term is that, as its claims begin later; and a namespace that another gave up."""
    running = made(workers=1, server_repository="r", server_version="1")
    for name in "abc":
        running.cache.upsert(ENDPOINT, endpoint("n", name))
    left = {"n"}
    turns: list[tuple[str, Turn]] = []
    enough = asyncio.Event()

    async def ask(key: Key, *_: Any, **__: Any) -> None:
        assert len(running.cache.ledger._entries) == 3
        turns.append((key[1], running.cache.train.ask(key, WHOLE_ONE, most=1)))
        if turns[-1][1].goes:
            enough.set()

    async with leading(monkeypatch, running, ask, left=left):
        while running.queue._closed:
            await asyncio.sleep(0)
        assert turns == []
        left.clear()
        running._claim_changed("n")
        running.queue.add(("n", "b"))  # by an event, before all have been weighed
        await asyncio.wait_for(enough.wait(), 30)
    assert turns[:4] == [("a", Turn.WAIT), ("b", Turn.WAIT), ("c", Turn.WAIT), ("a", Turn.BOARD)]


async def test_a_kind_that_hangs_holds_up_a_new_leader_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = made()
    running.cache.upsert(ENDPOINT, endpoint("n", "a"))
    began = asyncio.Event()

    async def hang(places: list[Any]) -> None:
        if any(kind is not ENDPOINT for kind, _ in places):
            await asyncio.Event().wait()

    async def begin(*_: Any, **__: Any) -> None:
        began.set()

    monkeypatch.setattr(controller, "CATCH_UP_SECONDS", 0.05)
    monkeypatch.setattr(running.lister, "behind", lambda version: [(DEPLOYMENT, None), (ENDPOINT, None)])
    async with leading(monkeypatch, running, begin, catch_up=hang):
        await asyncio.wait_for(began.wait(), 30)


def test_who_follows_counts_and_tells_of_no_upgrade() -> None:
    """Two replicas would each count the same endpoints, and one that led before would go on with what it knew."""
    running = made()
    train = running.cache.train
    with train.look(("n", "a")):
        train.ask(("n", "a"), WHOLE_ONE, most=1)
    assert set(train.states().values()) == {0}
    train.end()
    assert not train._line


@pytest.mark.parametrize("is_policy", [False, True])
async def test_who_comes_or_goes_while_all_are_weighed_is_looked_at_after_that(
    is_policy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody works where endpoints are weighed, and an event comes once. Two such weighings may overlap."""
    running = made(workers=1)
    looks: list[str] = []
    weighing, go_on = asyncio.Event(), asyncio.Event()

    async def look(key: Key, *_: Any, **__: Any) -> None:
        looks.append(key[1])

    async def weigh(*_: Any) -> None:
        weighing.set()
        await go_on.wait()

    running.cache.upsert(ENDPOINT, endpoint("n", "a"))
    running.cache.upsert(ENDPOINT, endpoint("n", "b"))
    monkeypatch.setattr(term, "weigh", at_once)
    async with leading(monkeypatch, running, look):
        while len(looks) < 2:
            await asyncio.sleep(0)
        looks.clear()
        monkeypatch.setattr(term, "weigh", weigh)
        assert running.term is not None
        if is_policy:
            running.term.policy_changed()
        running._claim_changed("n")
        await asyncio.wait_for(weighing.wait(), 30)
        for key in (
            *running.cache.upsert(ENDPOINT, endpoint("n", "c")),
            *running.cache.delete(ENDPOINT, endpoint("n", "b")),
        ):
            running.queue.add(key)
        for _ in range(20):
            await asyncio.sleep(0)
        assert looks == []
        go_on.set()
        for _ in range(1000):
            await asyncio.sleep(0)
        assert set(looks) == {"a", "b", "c"}
    assert running.term is None


async def test_a_term_that_ends_while_all_are_weighed_leaves_a_queue_that_takes_in_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = made()
    weighing = asyncio.Event()

    async def weigh(*_: Any) -> None:
        weighing.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(term, "weigh", weigh)
    async with leading(monkeypatch, running, at_once):
        await asyncio.wait_for(weighing.wait(), 30)
    running.queue.add(("n", "a"))
    assert len(running.queue) == 0
