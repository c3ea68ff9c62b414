"""Installations that overlap: which may write where, and when."""

import asyncio

import pytest
from whisper_operator.kube.errors import Forbidden, Unavailable
from whisper_operator.leader.installations import CLAIM
from whisper_operator.leader.leadership import LEFT_TO_OTHERS

from tests.unit.leading import Clock, Replica, Server, ends


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.of_all(monkeypatch)


async def test_without_a_recent_look_at_the_others_nothing_is_written(clock: Clock) -> None:
    """One may have come meanwhile."""
    replica = Replica(Server())
    assert await replica.round()
    replica.api.no_list = Unavailable("etcd has no leader")
    clock.now += 5
    assert await replica.round()
    clock.now += 1
    assert not replica.may_write()
    assert not replica.leadership.leads
    replica.api.no_list = None
    assert await replica.round()


async def test_rights_of_an_earlier_version_are_told(clock: Clock) -> None:
    replica = Replica(Server())
    replica.api.no_list = Forbidden(403, "leases is forbidden")
    assert await replica.round(), "which knew of no others either"
    is_fit, words = replica.leadership.state()
    assert not is_fit
    assert "apply deploy/ anew, which gives the right to it (leases is forbidden)" in words
    replica.api.no_list = None
    clock.now += 2
    await replica.round()
    assert replica.leadership.state() == (True, "ok"), "it was applied"
    replica.api.failure = Forbidden(403, "leases is forbidden")
    clock.now += 20
    assert not await replica.round()
    assert (
        "can't have the Lease whisper-operator/whisper-operator-leader: apply deploy/"
        in replica.leadership.state()[1]
    )


async def test_of_two_installations_for_the_cluster_the_younger_writes_nothing_and_says_why(
    clock: Clock,
) -> None:
    server = Server()
    old, new = Replica(server, "old"), Replica(server, "new")
    assert await old.round()
    assert not await new.round()
    assert not new.may_write()
    is_fit, words = new.leadership.state()
    assert not is_fit
    assert (
        "Another installation, in namespace old, looks after the whole cluster too and was there first"
        in words
    )
    assert "kubectl delete lease -n old whisper-operator-leader" in words
    assert LEFT_TO_OTHERS.labels("", "old")._value.get() == 1
    clock.now += 2
    assert await old.round()
    # It ends in good order, and another of its replicas follows: that is no end of the installation.
    await old.leadership._step_down(None, asyncio.create_task(asyncio.sleep(0)))
    clock.now += 3
    assert not await new.round()
    assert await Replica(server, "old").round() is False, "it can't tell whether the younger has stopped"
    del server.objects["old", "whisper-operator-leader"]
    clock.now += 2
    assert await new.round()
    assert new.changed == ["", ""], "left, and no longer"
    assert ("", "old") not in LEFT_TO_OTHERS._metrics


async def test_a_lease_that_somebody_made_up_stops_nobody_however_old(clock: Clock) -> None:
    """Its namespace has no ServiceAccount with the rights of an installation."""
    server = Server()
    assert await Replica(server, "tenant").round(), "that is how such a Lease comes about"
    replica = Replica(server, "old")
    assert await replica.round(), "at once, too"
    assert replica.leadership.state() == (True, "ok")
    server.accounts.add("tenant:whisper-operator")
    clock.now += 4
    assert await replica.round(), "it is not asked all the time"
    clock.now += 1
    assert not await replica.round(), "and often enough for one that is just being installed"


@pytest.mark.parametrize("has_seen_it", [True, False])
async def test_an_older_one_that_comes_back_waits_until_the_younger_has_stopped(
    clock: Clock, has_seen_it: bool
) -> None:
    server = Server()
    old, new = Replica(server, "old"), Replica(server, "new")
    await old.round()
    await new.round()
    if has_seen_it:
        await old.round()
    for _ in range(301):
        clock.now += 1
        await new.round()
    assert new.may_write(), "nobody has seen the old one for five minutes"
    while not old.may_write():
        await old.round()
        clock.now += 0.5
        await new.round()
        assert not (old.may_write() and new.may_write())
    assert not new.may_write()


async def test_an_installation_for_some_namespaces_has_them_to_itself(clock: Clock) -> None:
    server = Server()
    whole, some = Replica(server, "whole"), Replica(server, "some", ("asr", "tts"))
    assert await whole.round()
    assert whole.may_write("asr")
    assert await some.round()
    for _ in range(40):
        assert not (whole.may_write("asr") and some.may_write("asr"))
        clock.now += 0.5
        await whole.round()
        await some.round()
    assert [each.may_write("asr") for each in (whole, some)] == [False, True]
    assert [each.may_write("other") for each in (whole, some)] == [True, False]
    assert sorted(some.changed) == ["asr", "asr", "tts", "tts"], "unsure at first, and then its own"
    is_fit, words = whole.leadership.state()
    assert is_fit
    assert (
        "ok. Another installation, in namespace some, looks after namespace asr: this one writes nothing there"
        in words
    )
    assert some.leadership.state() == (True, "ok")
    assert LEFT_TO_OTHERS.labels("asr", "some")._value.get() == 1
    del server.objects["asr", "whisper-operator-endpoints"]
    some.api.failure = Unavailable("gone")
    clock.now += 2
    await whole.round()
    assert whole.may_write("asr")
    assert not whole.may_write("tts")
    assert whole.changed == ["asr", "tts", "asr"] or whole.changed == ["tts", "asr", "asr"]


async def test_of_two_for_some_namespaces_the_first_has_those_that_both_name(clock: Clock) -> None:
    server = Server()
    first, second = Replica(server, "a", ("asr",)), Replica(server, "b", ("asr", "tts"))
    for _ in range(15):
        await first.round()
        await second.round()
        clock.now += 1
    assert [first.may_write("asr"), second.may_write("asr"), second.may_write("tts")] == [True, False, True]
    assert second.leadership.state()[0], "it has one left"
    third = Replica(server, "c", ("asr",))
    await third.round()
    is_fit, words = third.leadership.state()
    assert not is_fit
    assert "Another installation, in namespace a, looks after namespace asr" in words


async def test_a_hand_over_between_replicas_keeps_the_claims_and_waits_for_nothing(clock: Clock) -> None:
    server = Server()
    first, second = Replica(server, "a", ("asr",)), Replica(server, "a", ("asr",))
    await first.round()
    clock.now += 11
    await first.round()
    assert first.may_write()
    writes = server.version
    await second.round()
    assert server.version == writes, "who follows claims nothing"
    await first.leadership._step_down(None, asyncio.create_task(asyncio.sleep(0)))
    assert not first.may_write()
    assert await second.round()
    assert second.may_write()


async def test_tenants_leases_cost_next_to_nothing_however_many(clock: Clock) -> None:
    """Only those of two names are asked for, of which a namespace has one each; those that nobody renews are not looked into."""
    server = Server()
    for number in range(2000):
        server.lease("tenant", f"lease-{number}")
    for number in range(100):
        server.lease(f"tenant-{number}")
        server.lease(f"tenant-{number}", CLAIM, holder="whoever")
    replica = Replica(server)
    assert await replica.round()
    assert server.read <= 201
    assert len(server.reviewed) == 100
    for _ in range(301):
        clock.now += 1
        assert await replica.round()
    server.reviewed.clear()
    for _ in range(10):
        clock.now += 1
        assert await replica.round()
    assert server.reviewed == []


@pytest.mark.parametrize("how", ["frozen", "new process", "lost answer"])
async def test_a_claim_that_had_run_out_is_written_by_only_once_another_has_stopped(
    clock: Clock, how: str
) -> None:
    server = Server()
    whole, some = Replica(server, "whole"), Replica(server, "some", ("asr",))
    if how == "lost answer":
        await whole.round()
        assert whole.may_write("asr")
        await some.leadership._renew()
        some.api.lost = True
        await some.leadership._look()
        clock.now += 1
    else:
        for _ in range(12):
            await some.round()
            clock.now += 1
        assert some.may_write("asr")
        await whole.round()
        for _ in range(301):
            clock.now += 1
            await whole.round()
        assert whole.may_write("asr")
        if how == "new process":
            some = Replica(server, "some", ("asr",))
    began = clock.now
    while not some.may_write("asr"):
        await some.round()
        clock.now += 0.5
        if clock.now > began + 3:  # its next look is late
            await whole.round()
        assert not (whole.may_write("asr") and some.may_write("asr"))
    assert clock.now >= began + 10 - 1


async def test_one_namespace_that_can_not_be_claimed_makes_a_replica_unfit_only_if_it_is_the_last(
    clock: Clock,
) -> None:
    server = Server()
    some, other = Replica(server, "some", ("asr", "gone")), Replica(server, "some", ("asr", "gone"))
    for each in (some, other):
        each.api.without = {"gone"}
    await some.round()
    is_fit, words = some.leadership.state()
    assert is_fit
    assert "can't have the Lease gone/whisper-operator-endpoints: apply deploy/" in words
    some.api.without = {"gone", "asr"}
    clock.now += 250
    await some.round()
    assert not some.leadership.state()[0]
    some.api.without = {"gone"}
    clock.now += 60
    await some.round()
    await ends(some)
    await other.round()
    await some.round()
    assert some.leadership.state() == (
        True,
        f"ok, waiting: the Lease is {other.leadership.identity}'s",
    ), "it is no leader's trouble any more"


async def test_who_follows_knows_for_how_long_another_installation_has_been_gone(clock: Clock) -> None:
    server = Server()
    await Replica(server, "old").round()
    first, second = Replica(server, "new"), Replica(server, "new")
    for _ in range(301):
        clock.now += 1
        await first.round()
        await second.round()
    assert first.may_write(), "its Lease is all that is left of the old one"
    await ends(first)
    assert await second.round()
    assert second.may_write()


async def test_a_junior_that_has_stopped_long_ago_is_not_waited_for_at_a_hand_over(clock: Clock) -> None:
    server = Server()
    first, second, junior = Replica(server, "old"), Replica(server, "old"), Replica(server, "new")
    assert await first.round()
    await junior.round()
    clock.now += 1
    assert await first.round(), "it has come later, and seen who was there"
    for _ in range(12):
        for each in (first, second, junior):
            await each.round()
        clock.now += 1
    await ends(first)
    assert await second.round()
    assert second.may_write()


async def test_a_junior_whose_rights_come_later_is_waited_for(clock: Clock) -> None:
    """Until they come it counts as made up, though it may well be writing."""
    server = Server()
    old, new = Replica(server, "old"), Replica(server, "new")
    await old.round()
    clock.now += 400
    server.accounts.remove("new:whisper-operator")
    await new.round()
    assert await old.round()
    server.accounts.add("new:whisper-operator")
    clock.now += 5
    assert not await old.round()
    for _ in range(10):
        clock.now += 1
        await old.round()
    assert old.may_write()


async def test_rights_that_can_not_be_looked_up_count_as_they_were_known(clock: Clock) -> None:
    server = Server()
    server.lease("tenant")
    replica = Replica(server)
    replica.api.no_review = Unavailable("slow")
    assert not await replica.round(), "it may be one"
    replica.api.no_review = None
    clock.now += 1
    assert await replica.round(), "it was for that once"
    replica.api.no_review = Unavailable("slow")
    clock.now += 5
    assert await replica.round()


async def test_a_rival_whose_service_account_has_another_name_is_noticed(clock: Clock) -> None:
    server = Server()
    server.accounts.add("prefixed:their-whisper-operator")
    old, new = Replica(server, "prefixed", account="their-whisper-operator"), Replica(server, "new")
    assert await old.round()
    assert not await new.round()
    assert "prefixed:their-whisper-operator" in server.reviewed


async def test_who_was_told_that_a_namespace_is_left_is_told_when_that_ends(clock: Clock) -> None:
    """Though it ended before anybody else was told."""
    server = Server()
    replica = Replica(server)
    await replica.round()
    server.lease("asr", CLAIM, holder="team")
    await replica.leadership._look()
    assert replica.leadership.leaves("asr")
    del server.objects["asr", CLAIM]
    await replica.leadership._look()
    assert replica.leadership.leaves("asr"), "until it is told"
    replica.leadership._tell()
    assert replica.changed == ["asr"]
    assert not replica.leadership.leaves("asr")


async def test_what_was_seen_before_it_had_a_lease_is_not_enough_to_write(clock: Clock) -> None:
    """Which is older is known only then."""
    server = Server()
    await Replica(server, "old").round()
    new = Replica(server, "new")
    await new.leadership._look()
    clock.now += 1
    await new.leadership._renew()
    assert not new.may_write()


async def test_what_is_left_to_others_is_told_by_who_leads(clock: Clock) -> None:
    server = Server()
    await Replica(server, "old").round()
    first, second = Replica(server, "new"), Replica(server, "new")
    await first.round()
    await second.round()
    assert (first.changed, second.changed) == ([""], [])
    first.api.failure = Unavailable("gone")
    clock.now += 7
    await first.round()
    assert first.changed == [""], "it knows no better than before"
    assert ("", "old") not in LEFT_TO_OTHERS._metrics
