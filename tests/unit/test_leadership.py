"""Which replica of an installation may write, and when."""

import asyncio
from typing import Any

import pytest
from whisper_operator.kube.errors import Unavailable
from whisper_operator.leader import leadership
from whisper_operator.leader.leadership import IS_LEADER
from whisper_operator.leader.lock import Timing

from tests.unit.leading import Clock, Replica, Server, ends


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.of_all(monkeypatch)


async def test_one_of_two_replicas_writes(clock: Clock) -> None:
    server = Server()
    first, second = Replica(server), Replica(server)
    assert not first.may_write(), "before it has asked"
    assert await first.round()
    assert not await second.round()
    assert (first.may_write(), second.may_write()) == (True, False)
    assert first.leadership.state() == (True, "ok")
    assert second.leadership.state() == (True, f"ok, waiting: the Lease is {first.leadership.identity}'s")


async def test_a_replica_that_is_told_other_namespaces_says_so(clock: Clock) -> None:
    """As for a while in an upgrade, so that it is no reason to fail; for ever, if two share a namespace of their own."""
    server = Server()
    await Replica(server, namespaces=("asr", "tts")).round()
    other = Replica(server)
    await other.round()
    is_fit, words = other.leadership.state()
    assert is_fit
    assert words.endswith("who is configured to look after asr,tts, and this one * (* is all namespaces)")


async def test_a_frozen_leader_may_not_write_when_it_wakes_whoever_leads_by_then(clock: Clock) -> None:
    server = Server()
    first, second = Replica(server), Replica(server)
    await first.round()
    await second.round()
    clock.now += 10
    assert not first.may_write(), "by its own clock"
    assert await second.round()
    assert second.leadership.predecessor == float("inf")
    assert not await first.round()
    assert [each.may_write() for each in (first, second)] == [False, True]


async def test_a_leader_that_is_cut_off_stops_before_another_begins(clock: Clock) -> None:
    server = Server()
    first, second = Replica(server), Replica(server)
    assert await first.round()
    first.api.failure = Unavailable("no route to host")
    for _ in range(200):
        clock.now += 0.1
        await first.round()
        await second.round()
        assert not (first.may_write() and second.may_write())
        if second.may_write():
            break
    assert 9.5 < clock.now - 1000 < 11
    is_fit, words = first.leadership.state()
    assert (is_fit, words) == (
        False,
        "can't have the Lease whisper-operator/whisper-operator-leader: no route to host",
    )
    first.api.failure = None
    assert not await first.round()
    assert first.leadership.state()[0]


@pytest.mark.parametrize("has_written", [True, False])
async def test_it_is_given_back_at_the_end_unless_a_write_may_still_be_under_way(
    clock: Clock, has_written: bool
) -> None:
    server = Server()
    first, second = Replica(server), Replica(server)
    first.api.has_written = has_written
    began = asyncio.Event()

    async def lead() -> None:
        began.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(first.leadership.run(lead))
    await began.wait()
    assert IS_LEADER._value.get() == 1
    assert not await second.round()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert IS_LEADER._value.get() == 0
    assert not first.may_write()
    assert await second.round() is has_written


async def test_it_is_not_given_back_if_the_end_of_the_work_cut_off_a_write(clock: Clock) -> None:
    server = Server()
    first, second = Replica(server), Replica(server)
    began = asyncio.Event()

    async def lead() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            first.api.has_written = False

    running = asyncio.create_task(first.leadership.run(lead))
    await began.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not await second.round()


async def test_it_is_given_back_though_the_last_renewal_was_not_answered(clock: Clock) -> None:
    server = Server()
    first, second = Replica(server), Replica(server)
    await first.round()
    clock.now += 2
    first.api.lost = True
    await first.round()
    await ends(first)
    assert await second.round()


async def test_who_comes_to_lead_looks_at_the_others_at_once(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not when a follower would, before which it may not begin."""
    monkeypatch.setattr(leadership, "FOLLOWERS_SECONDS", 0.01)
    server = Server()
    first, second = Replica(server), Replica(server)
    await first.round()
    began, reads = asyncio.Event(), server.read

    async def lead() -> None:
        began.set()

    running = asyncio.create_task(second.leadership.run(lead))
    async with asyncio.timeout(5):
        while server.read == reads:
            await asyncio.sleep(0.01)
        await ends(first)
        await began.wait()
    await running


async def test_work_ends_in_time_though_a_renewal_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica(Server())
    replica.leadership._lock.timing = Timing(renew=0.5, retry=0.01)
    began, ended = asyncio.Event(), asyncio.Event()

    async def lead() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def hang(*_: Any) -> None:
        await asyncio.Event().wait()

    running = asyncio.create_task(replica.leadership.run(lead))
    async with asyncio.timeout(10):
        await began.wait()
        for verb in ("get", "update", "list_all"):
            monkeypatch.setattr(replica.api, verb, hang)
        await ended.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_work_ends_when_its_time_is_over_and_begins_again_with_the_next_term(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    replica, terms = Replica(server), list[str]()
    monkeypatch.setattr(leadership, "FOLLOWERS_SECONDS", 0.01)
    replica.leadership._lock.timing = Timing(retry=0.01)

    async def lead() -> None:
        terms.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            assert IS_LEADER._value.get() == 0
            terms.append("ended")

    running = asyncio.create_task(replica.leadership.run(lead))
    while terms != ["begun"]:
        await asyncio.sleep(0)
    replica.api.failure = Unavailable("gone")
    clock.now += 30
    while terms != ["begun", "ended"]:
        await asyncio.sleep(0.001)
    replica.api.failure = None
    while terms != ["begun", "ended", "begun"]:
        await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert terms == ["begun", "ended"] * 2


async def test_a_fault_of_the_work_ends_all_and_gives_the_lease_back(clock: Clock) -> None:
    server = Server()

    async def lead() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await Replica(server).leadership.run(lead)
    assert server.objects["whisper-operator", "whisper-operator-leader"]["spec"]["holderIdentity"] == ""


async def test_a_look_that_hangs_keeps_no_renewal_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    replica = Replica(server)
    replica.leadership._lock.timing = Timing(retry=0.01)

    async def hang(*_: Any, **__: Any) -> int:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(replica.api, "list_all", hang)
    running = asyncio.create_task(replica.leadership.run(asyncio.Event().wait))  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        while server.version < 5:
            await asyncio.sleep(0.01)
    assert not replica.may_write(), "without a look"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_write_may_take_until_another_may_begin_and_no_longer(clock: Clock) -> None:
    replica = Replica(Server())
    await replica.round()
    assert replica.leadership.may_write("asr") == 9
    clock.now += 5
    assert replica.leadership.may_write("asr") == 4


async def test_a_replica_that_never_led_gives_nothing_back_while_a_write_may_be_under_way(
    clock: Clock,
) -> None:
    """As when its term has just been cancelled, and it has the Lease again."""
    server = Server()
    first, second = Replica(server), Replica(server)
    await first.round()
    first.api.has_written = False
    await ends(first)
    assert not await second.round()


@pytest.mark.parametrize("namespaces", [(), ("asr",)])
async def test_a_term_ends_with_the_lease_though_it_is_taken_anew_at_once(
    clock: Clock, namespaces: tuple[str, ...]
) -> None:
    """As after the machine slept, whose timers know nothing of it: what was known before is old."""
    server = Server()
    replica, terms = Replica(server, namespaces=namespaces), list[str]()
    replica.leadership._lock.timing = Timing(retry=0.01)

    async def lead() -> None:
        terms.append("begun")
        await asyncio.Event().wait()

    running = asyncio.create_task(replica.leadership.run(lead))
    async with asyncio.timeout(10):
        while terms != ["begun"]:
            await asyncio.sleep(0)
        clock.now += 7
        await replica.leadership._renew()  # before anything else runs
        while terms != ["begun", "begun"]:
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_renewal_that_fails_is_tried_again_at_once_and_reads_nothing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    replica = Replica(server)
    assert await replica.round()
    clock.now += 2
    replica.api.failure = Unavailable("slow")
    assert await replica.leadership._renew() < 0.5
    assert replica.leadership.state() == (True, "ok"), "it has it yet"
    replica.api.failure = None

    async def get(*_: Any) -> None:
        raise AssertionError("there is no time for that")

    monkeypatch.setattr(replica.api, "get", get)
    clock.now += 3
    await replica.leadership._renew()
    clock.now += 3
    assert replica.leadership._lock.holds(clock.now)
