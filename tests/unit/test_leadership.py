"""Who may write, with the clock and the API server in the test's hands."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from whisper_operator.kube.client import Api
from whisper_operator.kube.errors import Conflict, Forbidden, NotLeading, Unavailable
from whisper_operator.kube.kinds import ACCESS_REVIEW, Kind
from whisper_operator.leader import area, leases
from whisper_operator.leader import leadership as module
from whisper_operator.leader.installations import CLAIM, LEADER, MARKS
from whisper_operator.leader.leadership import IS_LEADER, LEFT_TO_OTHERS, Leadership
from whisper_operator.leader.lock import Timing


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> datetime:
        return datetime(2026, 1, 2, tzinfo=UTC) + timedelta(seconds=self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for each in (module, leases, area):
        monkeypatch.setattr(each, "clock", clock)
    monkeypatch.setattr(leases, "wall", clock.wall)
    return clock


class Server:
    """The Leases of a cluster."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.version = 0
        self.accounts = {"old:whisper-operator", "new:whisper-operator", "whole:whisper-operator"}
        """Which may write everywhere."""
        self.read = 0
        """How many Leases were handed out by lists."""
        self.reviewed = list[str]()

    def lease(self, namespace: str, name: str = LEADER, holder: str = "somebody") -> None:
        """What anybody may make who may write in a namespace."""
        annotations = {"whisper-operator.io/looks-after": "*"} if name == LEADER else {}
        metadata: dict[str, Any] = {
            "namespace": namespace,
            "name": name,
            "uid": f"{namespace}/{name}",
            "resourceVersion": "0",
        }
        metadata |= {"labels": MARKS, "annotations": annotations, "creationTimestamp": "2025"}
        self.objects[namespace, name] = {"metadata": metadata, "spec": {"holderIdentity": holder}}


class Connection(Api):
    """One process's, which can be cut. As a writer it tells what the test says of its writes."""

    def __init__(self, server: Server) -> None:
        self.cluster = server
        self.failure: Exception | None = None
        self.no_list: Exception | None = None
        self.no_review: Exception | None = None
        self.without: set[str] = set()
        """Namespaces without rights."""
        self.lost = False
        """Whether the answer to the next write is."""
        self.has_written = True

    async def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        self._meet(namespace)
        return self.cluster.objects.get((namespace or "", name))

    async def create(self, kind: Kind, body: Any) -> dict[str, Any]:
        self._meet(body["metadata"].get("namespace"))
        if kind is ACCESS_REVIEW:
            if self.no_review is not None:
                raise self.no_review
            account = body["spec"]["user"].removeprefix("system:serviceaccount:")
            self.cluster.reviewed.append(account)
            return {"status": {"allowed": account in self.cluster.accounts}}
        if _key(body) in self.cluster.objects:
            raise Conflict("already exists")
        made = {
            "uid": str(self.cluster.version),
            "creationTimestamp": f"2026-01-01T00:{self.cluster.version:04}",
        }
        return self._put({**body, "metadata": {**body["metadata"], **made}})

    async def update(self, kind: Kind, body: Any) -> dict[str, Any]:
        self._meet(body["metadata"]["namespace"])
        held = self.cluster.objects.get(_key(body), {"metadata": {}})
        if held["metadata"].get("resourceVersion") != body["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified")
        return self._put(body)

    async def list_all(
        self,
        kind: Kind,
        namespace: str | None,
        labels: str | None,
        fields: str | None,
        take: Callable[[dict[str, Any]], None],
        **_: Any,
    ) -> int | None:
        self._meet()
        if self.no_list is not None:
            raise self.no_list
        await asyncio.sleep(0)
        assert labels == "app.kubernetes.io/name=whisper-operator"
        for at, each in list(self.cluster.objects.items()):
            assert each["metadata"]["labels"] == {"app.kubernetes.io/name": "whisper-operator"}
            if fields in (None, f"metadata.name={at[1]}"):
                self.cluster.read += 1
                take(each)
        return self.cluster.version

    async def written(self, seconds: float) -> bool:
        return self.has_written

    def _put(self, body: Any) -> dict[str, Any]:
        self.cluster.version += 1
        new = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.cluster.version)}}
        self.cluster.objects[_key(body)] = new
        if self.lost:
            self.lost = False
            raise Unavailable("the answer was lost")
        return cast(dict[str, Any], new)

    def _meet(self, namespace: str | None = None) -> None:
        if self.failure is not None:
            raise self.failure
        if namespace in self.without:
            raise Forbidden(403, "leases is forbidden")


def _key(body: Any) -> tuple[str, str]:
    return body["metadata"]["namespace"], body["metadata"]["name"]


class Replica:
    def __init__(
        self,
        server: Server,
        namespace: str = "whisper-operator",
        namespaces: tuple[str, ...] = (),
        account: str = "whisper-operator",
    ) -> None:
        self.api = Connection(server)
        self.changed: list[str] = []
        self.leadership = Leadership(
            *(self.api, self.api, namespace, namespaces, self.changed.append), service_account=account
        )

    async def round(self) -> bool:
        """Renew and look once; whether it leads then."""
        await self.leadership._renew()
        await self.leadership._look()
        self.leadership._tell()
        return self.leadership.leads

    def may_write(self, namespace: str = "asr") -> bool:
        try:
            self.leadership.may_write(namespace)
        except NotLeading:
            return False
        return True


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


async def test_an_older_one_that_comes_back_waits_until_the_younger_has_stopped(clock: Clock) -> None:
    server = Server()
    old, new = Replica(server, "old"), Replica(server, "new")
    await old.round()
    await new.round()
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
    await first.leadership._step_down(None, asyncio.create_task(asyncio.sleep(0)))
    assert not first.may_write()
    assert await second.round()
    assert second.may_write()


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


async def test_work_ends_when_its_time_is_over_and_begins_again_with_the_next_term(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    replica, terms = Replica(server), list[str]()
    monkeypatch.setattr(module, "FOLLOWERS_SECONDS", 0.01)
    replica.leadership._lock.timing = Timing(retry=0.01)

    async def lead() -> None:
        terms.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
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


async def ends(replica: Replica) -> None:
    """In good order."""
    await replica.leadership._step_down(None)


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


async def test_a_renewal_that_fails_is_tried_again_at_once_and_reads_nothing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    replica = Replica(server)
    assert await replica.round()
    clock.now += 2
    replica.api.failure = Unavailable("slow")
    assert await replica.leadership._renew() < 0.5
    replica.api.failure = None

    async def get(*_: Any) -> None:
        raise AssertionError("there is no time for that")

    monkeypatch.setattr(replica.api, "get", get)
    clock.now += 3
    await replica.leadership._renew()
    clock.now += 3
    assert replica.leadership._lock.holds(clock.now)
