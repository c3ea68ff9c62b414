"""One run of the operator, from beginning to end."""

import asyncio
import os
import signal
from typing import Any

import kopf
import pytest
from whisper_operator import controller, term
from whisper_operator.config import Settings
from whisper_operator.kube.client import Api
from whisper_operator.kube.kinds import DEPLOYMENT, ENDPOINT
from whisper_operator.kube.objects import Key
from whisper_operator.leader.leadership import Leadership
from whisper_operator.policy.live import LivePolicy
from whisper_operator.process.shutdown import ShutdownWatchdog
from whisper_operator.rollouts.progress import WHOLE, Progress
from whisper_operator.rollouts.turn import Turn


class Nowhere(Api):
    """No API server."""

    server = "http://127.0.0.1:1"

    def __init__(self) -> None: ...


@pytest.mark.parametrize("is_told_to_end", [False, True])
async def test_it_begins_anew_unless_it_is_told_to_end_meanwhile(
    is_told_to_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kopf takes its time to end, and Kubernetes tells once."""
    running = controller._Running(
        Nowhere(), Settings(), LivePolicy(None, Settings()), Nowhere(), "whisper-operator"
    )

    async def kopfs(*, stop_flag: asyncio.Event, **_: Any) -> None:
        await stop_flag.wait()
        if is_told_to_end:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.1)

    async def at_once(*_: object) -> bool:
        return True

    monkeypatch.setattr(kopf, "operator", kopfs)
    monkeypatch.setattr(running.watches, "settle", at_once)
    monkeypatch.setattr(running, "_list_at_first", at_once)
    monkeypatch.setattr(running, "_keep_true", at_once)
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
    running = controller._Running(
        Nowhere(), Settings(), LivePolicy(None, Settings()), Nowhere(), "whisper-operator"
    )
    for namespace, name in (("n", "a"), ("n", "b"), ("theirs", "c")):
        metadata = {"namespace": namespace, "name": name, "uid": name, "resourceVersion": "1"}
        running.cache.upsert(ENDPOINT, {"metadata": metadata, "spec": {}})
    running.cache.train.begin([("theirs", "c")])  # as after a term in which it was ours
    turns: list[tuple[str, Turn]] = []
    enough = asyncio.Event()
    whole = Progress(serves=WHOLE)

    async def ask(key: Key, *_: Any, **__: Any) -> None:
        turns.append((key[1], running.cache.train.ask(key, whole, most=1)))
        if len(turns) == 4:
            enough.set()

    async def at_once(*_: object) -> None: ...

    monkeypatch.setattr(term, "reconcile", ask)
    monkeypatch.setattr(running, "_list", at_once)
    monkeypatch.setattr(Leadership, "leads", True)
    monkeypatch.setattr(running.leadership, "leaves", lambda namespace: namespace == "theirs")
    leading = asyncio.create_task(running._lead())
    try:
        await asyncio.wait_for(enough.wait(), 30)
    finally:
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)
    assert turns[:4] == [("a", Turn.WAIT), ("b", Turn.WAIT), ("a", Turn.BOARD), ("b", Turn.BOARD)]


async def test_what_is_left_to_another_installation_while_it_waits_to_be_looked_at_holds_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = controller._Running(
        Nowhere(), Settings(workers=1), LivePolicy(None, Settings(workers=1)), Nowhere(), "whisper-operator"
    )
    for namespace in "mn":
        metadata = {"namespace": namespace, "name": "a", "uid": namespace, "resourceVersion": "1"}
        running.cache.upsert(ENDPOINT, {"metadata": metadata, "spec": {}})
    left = set[str]()
    boarded = asyncio.Event()
    whole = Progress(serves=WHOLE)

    async def ask(key: Key, *_: Any, **__: Any) -> None:
        left.add("n" if key[0] == "m" else "m")  # the other one, which was queued as ours
        if running.cache.train.ask(key, whole, most=1).goes:
            boarded.set()

    async def at_once(*_: object) -> None: ...

    monkeypatch.setattr(term, "reconcile", ask)
    monkeypatch.setattr(running, "_list", at_once)
    monkeypatch.setattr(Leadership, "leads", True)
    monkeypatch.setattr(running.leadership, "leaves", lambda namespace: namespace in left)
    leading = asyncio.create_task(running._lead())
    try:
        await asyncio.wait_for(boarded.wait(), 30)
    finally:
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)


async def test_what_comes_to_be_ours_is_weighed_and_waited_for_before_anybody_there_is_upgraded_or_given_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of a namespaced installation's first term is that, as its claims begin later; and a namespace that another gave up."""
    settings = Settings(workers=1, server_repository="r", server_version="1")
    running = controller._Running(
        *(Nowhere(), settings, LivePolicy(None, settings), Nowhere(), "whisper-operator")
    )
    for name in "abc":
        metadata = {"namespace": "n", "name": name, "uid": name, "resourceVersion": "1"}
        running.cache.upsert(ENDPOINT, {"metadata": metadata, "spec": {}})
    left = {"n"}
    turns: list[tuple[str, Turn]] = []
    enough = asyncio.Event()
    whole = Progress(serves=WHOLE)

    async def ask(key: Key, *_: Any, **__: Any) -> None:
        assert len(running.cache.ledger._entries) == 3
        turns.append((key[1], running.cache.train.ask(key, whole, most=1)))
        if turns[-1][1].goes:
            enough.set()

    async def at_once(*_: object) -> None: ...

    monkeypatch.setattr(term, "reconcile", ask)
    monkeypatch.setattr(running, "_list", at_once)
    monkeypatch.setattr(Leadership, "leads", True)
    monkeypatch.setattr(running.leadership, "leaves", lambda namespace: namespace in left)
    leading = asyncio.create_task(running._lead())
    try:
        while running.queue._closed:
            await asyncio.sleep(0)
        assert turns == []
        left.clear()
        running._claim_changed("n")
        running.queue.add(("n", "b"))  # by an event, before all have been weighed
        await asyncio.wait_for(enough.wait(), 30)
    finally:
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)
    assert turns[:4] == [("a", Turn.WAIT), ("b", Turn.WAIT), ("c", Turn.WAIT), ("a", Turn.BOARD)]


async def test_a_kind_that_hangs_holds_up_a_new_leader_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = controller._Running(
        Nowhere(), Settings(), LivePolicy(None, Settings()), Nowhere(), "whisper-operator"
    )
    metadata = {"namespace": "n", "name": "a", "uid": "a", "resourceVersion": "1"}
    running.cache.upsert(ENDPOINT, {"metadata": metadata, "spec": {}})
    began = asyncio.Event()

    async def hang(places: list[Any]) -> None:
        if any(kind is not ENDPOINT for kind, _ in places):
            await asyncio.Event().wait()

    async def begin(*_: Any, **__: Any) -> None:
        began.set()

    monkeypatch.setattr(controller, "CATCH_UP_SECONDS", 0.05)
    monkeypatch.setattr(term, "reconcile", begin)
    monkeypatch.setattr(running, "_list", hang)
    monkeypatch.setattr(running.lister, "behind", lambda version: [(DEPLOYMENT, None), (ENDPOINT, None)])
    monkeypatch.setattr(Leadership, "leads", True)
    monkeypatch.setattr(running.leadership, "leaves", lambda namespace: False)
    leading = asyncio.create_task(running._lead())
    try:
        await asyncio.wait_for(began.wait(), 30)
    finally:
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)


def test_who_follows_counts_and_tells_of_no_upgrade() -> None:
    """Two replicas would each count the same endpoints, and one that led before would go on with what it knew."""
    running = controller._Running(
        Nowhere(), Settings(), LivePolicy(None, Settings()), Nowhere(), "whisper-operator"
    )
    train = running.cache.train
    with train.look(("n", "a")):
        train.ask(("n", "a"), Progress(serves=WHOLE), most=1)
    assert set(train.states().values()) == {0}
    train.end()
    assert not train._line


@pytest.mark.parametrize("is_policy", [False, True])
async def test_who_comes_or_goes_while_all_are_weighed_is_looked_at_after_that(
    is_policy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody works where endpoints are weighed, and an event comes once. Two such weighings may overlap."""
    settings = Settings(workers=1)
    running = controller._Running(
        *(Nowhere(), settings, LivePolicy(None, settings), Nowhere(), "whisper-operator")
    )
    looks: list[str] = []
    weighing, go_on = asyncio.Event(), asyncio.Event()

    def endpoint(name: str) -> dict[str, Any]:
        return {
            "metadata": {"namespace": "n", "name": name, "uid": name, "resourceVersion": str(ord(name))},
            "spec": {},
        }

    async def look(key: Key, *_: Any, **__: Any) -> None:
        looks.append(key[1])

    async def weigh(*_: Any) -> None:
        weighing.set()
        await go_on.wait()

    async def at_once(*_: object) -> None: ...

    running.cache.upsert(ENDPOINT, endpoint("a"))
    running.cache.upsert(ENDPOINT, endpoint("b"))
    monkeypatch.setattr(running, "_list", at_once)
    monkeypatch.setattr(Leadership, "leads", True)
    monkeypatch.setattr(running.leadership, "leaves", lambda namespace: False)
    monkeypatch.setattr(term, "weigh", at_once)
    monkeypatch.setattr(term, "reconcile", look)
    leading = asyncio.create_task(running._lead())
    try:
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
            *running.cache.upsert(ENDPOINT, endpoint("c")),
            *running.cache.delete(ENDPOINT, endpoint("b")),
        ):
            running.queue.add(key)
        for _ in range(20):
            await asyncio.sleep(0)
        assert looks == []
        go_on.set()
        for _ in range(1000):
            await asyncio.sleep(0)
        assert set(looks) == {"a", "b", "c"}
    finally:
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)
    assert running.term is None


async def test_a_term_that_ends_while_all_are_weighed_leaves_a_queue_that_takes_in_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = controller._Running(
        Nowhere(), Settings(), LivePolicy(None, Settings()), Nowhere(), "whisper-operator"
    )
    weighing = asyncio.Event()

    async def weigh(*_: Any) -> None:
        weighing.set()
        await asyncio.Event().wait()

    async def at_once(*_: object) -> None: ...

    monkeypatch.setattr(running, "_list", at_once)
    monkeypatch.setattr(term, "weigh", weigh)
    leading = asyncio.create_task(running._lead())
    await asyncio.wait_for(weighing.wait(), 30)
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    running.queue.add(("n", "a"))
    assert len(running.queue) == 0
