"""The Lease as a candidate sees it, on a clock that the tests move."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from whisper_operator.kube.errors import Conflict
from whisper_operator.leader.lock import Lock, Timing

WALL = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


class Server:
    """One Lease, as the API server keeps it: a write names the state that it is about."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0

    def write(self, body: dict[str, Any]) -> dict[str, Any]:
        seen = body["metadata"].get("resourceVersion")
        if seen != (self.lease or {"metadata": {}})["metadata"].get("resourceVersion"):
            raise Conflict("the object has been modified")
        self.version += 1
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        return self.lease


class Candidate:
    """A process with a clock of its own, as far apart from others' as the test says."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.lock = Lock("whisper-operator", "whisper-operator", name)

    def round(self, now: float, wall: datetime = WALL, *, answered_after: float = 0.0) -> bool:
        """What leadership does each time; whether it has the Lease then."""
        lock = self.lock
        if lock.stale or not lock.holds(now):
            lock.see(self.server.lease, now)
        if lock.due(now) and lock.may_be_had(now):
            try:
                lock.wrote(self.server.write(lock.body(wall)), now, now + answered_after)
            except Conflict:
                lock.conflicted()
        return lock.holds(now + answered_after)


def held() -> tuple[Server, Candidate, Candidate]:
    """A Lease, who has had it since 0, and who has seen that at 1."""
    server = Server()
    first, second = Candidate(server, "a"), Candidate(server, "b")
    first.round(0)
    second.round(1)
    return server, first, second


def spec(server: Server) -> dict[str, Any]:
    assert server.lease is not None
    found: dict[str, Any] = server.lease["spec"]
    return found


def test_the_first_has_it_at_once_and_keeps_it_while_it_renews() -> None:
    server = Server()
    first, second = Candidate(server, "a"), Candidate(server, "b")
    assert first.round(0)
    assert spec(server) == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 10,
        "acquireTime": "2026-01-02T03:04:05.000678Z",
        "renewTime": "2026-01-02T03:04:05.000678Z",
        "leaseTransitions": 0,
    }
    for second_of_test in range(1, 60):
        now = float(second_of_test)
        assert first.round(now, WALL + timedelta(seconds=now))
        assert not second.round(now, WALL + timedelta(seconds=now))
    assert spec(server)["acquireTime"] == "2026-01-02T03:04:05.000678Z"
    assert spec(server)["renewTime"] > spec(server)["acquireTime"]
    assert second.lock.holder == "a"


def test_it_is_renewed_every_two_seconds_and_no_more_often() -> None:
    server = Server()
    first = Candidate(server, "a")
    for tenth in range(100):
        first.round(tenth / 10)
    assert server.version == 5


def test_of_two_that_begin_together_one_has_it() -> None:
    server = Server()
    first, second = Candidate(server, "a"), Candidate(server, "b")
    for each in (first, second):
        each.lock.see(None, 0)
    bodies = [each.lock.body(WALL) for each in (first, second)]
    first.lock.wrote(server.write(bodies[0]), 0, 0)
    try:
        server.write(bodies[1])
    except Conflict:
        second.lock.conflicted()
    assert first.lock.holds(0)
    assert not second.lock.holds(0)
    assert not second.round(1)


def test_the_holder_stops_before_another_may_begin_whatever_the_clocks_say() -> None:
    """The process's clock is hours apart from the other's, and the wall clocks step back and forth: neither is compared."""
    server = Server()
    first, second = Candidate(server, "a"), Candidate(server, "b")
    assert first.round(1000, WALL)
    # b sees it as late as can be: at the very end of the time for which a goes on.
    ends = 1000 + Timing().renew
    assert not first.lock.holds(ends)
    apart = 50_000.0
    assert not second.round(1000 + apart, WALL - timedelta(hours=3))
    assert not second.round(1009.9 + apart, WALL + timedelta(days=30))
    assert second.round(1010 + apart, WALL)
    assert spec(server)["leaseTransitions"] == 1
    assert 1010 - ends == 4


def test_time_counts_from_when_a_sign_of_life_was_sent() -> None:
    server = Server()
    first = Candidate(server, "a")
    assert first.round(0, answered_after=5.9)
    assert not first.lock.holds(6)
    assert not Candidate(server, "b").round(20, answered_after=7), "the answer came after the time was over"


def test_who_sees_it_for_the_first_time_waits_its_whole_duration() -> None:
    server = Server()
    Candidate(server, "a").round(0)
    newcomer = Candidate(server, "b")
    assert not newcomer.round(1_000_000), "it can't know since when"
    assert newcomer.round(1_000_010)


def test_a_longer_duration_that_its_holder_wrote_is_kept() -> None:
    server = Server()
    Candidate(server, "a").round(0)
    spec(server)["leaseDurationSeconds"] = 60
    other = Candidate(server, "b")
    assert not other.round(0)
    assert not other.round(59)
    assert other.round(60)


def test_a_frozen_holder_that_wakes_has_it_no_longer_by_its_clock_alone() -> None:
    _, first, second = held()
    assert second.round(11)
    assert not first.lock.holds(30), "before it has asked anybody"
    assert not first.round(30)
    assert first.lock.holder == "b"
    assert second.round(13)


def test_a_frozen_holder_that_nobody_replaced_begins_a_new_term() -> None:
    """What it knows is old by then: it has to look again."""
    server = Server()
    first = Candidate(server, "a")
    first.round(0)
    assert first.lock.predecessor == -1
    assert (first.lock.since, first.lock.gained) == (0, 0)
    assert first.round(60)
    assert first.lock.predecessor == math.inf
    assert (first.lock.since, first.lock.gained) == (60, 0)


def test_a_renewal_that_fails_is_tried_again_until_the_time_is_over() -> None:
    server = Server()
    first = Candidate(server, "a")
    first.round(0)
    write, server.write = server.write, _conflict  # type: ignore[method-assign]
    assert first.round(2)
    assert first.round(4)
    server.write = write  # type: ignore[method-assign]
    assert first.round(5.9)
    assert first.round(8)
    assert first.lock.since == 0, "it is the same term"


def _conflict(body: dict[str, Any]) -> dict[str, Any]:
    raise Conflict("the object has been modified")


def test_somebodys_label_on_it_costs_one_more_read() -> None:
    server = Server()
    first = Candidate(server, "a")
    first.round(0)
    assert server.lease is not None
    labelled = {**server.lease["metadata"], "labels": {"x": "y"}}
    server.write({**server.lease, "metadata": labelled})
    assert first.round(2), "refused"
    assert first.round(3), "read again, and renewed"
    assert first.lock.ends == 9
    assert server.lease["metadata"]["labels"] == {"x": "y"}


def test_a_label_is_no_sign_of_life() -> None:
    server = Server()
    Candidate(server, "a").round(0)
    second = Candidate(server, "b")
    second.round(0)
    assert server.lease is not None
    server.write({**server.lease, "metadata": {**server.lease["metadata"], "labels": {"x": "y"}}})
    assert not second.round(9)
    assert second.round(10)


def test_a_renewal_whose_answer_was_lost_counts_for_the_others_and_not_for_the_holder() -> None:
    server, first, second = held()
    server.write(first.lock.body(WALL + timedelta(seconds=5)))
    assert first.lock.ends == 6
    assert not second.round(5)
    assert not second.round(14.9)
    assert second.round(15)


def test_one_that_was_given_back_is_had_at_once_and_tells_until_when_the_other_wrote() -> None:
    server, first, second = held()
    server.write(first.lock.release(WALL))
    assert not first.lock.holds(1)
    assert second.round(1.5)
    assert second.lock.predecessor == 2
    assert spec(server)["leaseDurationSeconds"] == 10


def test_one_that_was_deleted_is_made_anew_by_its_holder_and_by_others_only_later() -> None:
    server, first, second = held()
    server.lease = None
    assert not second.round(1.5)
    assert first.round(2), "refused, as it is gone"
    assert first.round(3)
    assert spec(server)["holderIdentity"] == "a"
    assert not second.round(4)
    server.lease = None
    assert not second.round(5)
    assert second.round(15)
    assert second.lock.predecessor == math.inf


def test_who_sees_anothers_name_in_it_has_lost_it_at_once() -> None:
    """As after somebody deleted it, and a third one, who had never seen it, was faster."""
    server = Server()
    first, third = Candidate(server, "a"), Candidate(server, "c")
    first.round(0)
    server.lease = None
    assert third.round(1)
    first.round(2)
    assert first.lock.ends == 6
    assert not first.round(3)


def test_marks_are_written_beside_those_of_others() -> None:
    lock = Lock("n", "l", "a", labels={"app": "w"}, annotations={"scope": "*"})
    lock.see({"metadata": {"name": "l", "annotations": {"note": "x"}, "managedFields": []}, "spec": {}}, 0)
    assert lock.body(WALL)["metadata"] == {
        "name": "l",
        "labels": {"app": "w"},
        "annotations": {"note": "x", "scope": "*"},
    }


def test_our_name_that_somebody_puts_back_is_no_term_of_ours() -> None:
    """As etcd does from a backup: whoever had it since may go on until its own time is over."""
    server = Server()
    first, second = Candidate(server, "a"), Candidate(server, "b")
    first.round(0)
    before = server.lease
    second.round(1)
    assert second.round(11)
    first.round(12)
    server.lease = before
    assert not first.round(13)
    assert second.lock.holds(16)
    assert not first.round(22)
    assert first.round(23)


def test_a_lease_whose_taking_was_not_answered_is_ours_all_the_same() -> None:
    server, first, second = held()
    server.write(first.lock.release(WALL))
    second.lock.see(server.lease, 2)
    server.write(second.lock.body(WALL))
    assert second.round(3)


def test_one_that_was_lost_and_is_gone_is_not_made_anew_at_once() -> None:
    """Its holder of long ago knows no better than others since when."""
    server = Server()
    first = Candidate(server, "a")
    first.round(0)
    server.lease = None
    assert not first.round(60)
    assert first.round(70)


def test_a_shared_one_that_had_run_out_counts_as_taken_from_another() -> None:
    server = Server()
    Candidate(server, "a").round(0, WALL)
    for seconds, gained in ((5, -math.inf), (500, 1)):
        later = Lock("whisper-operator", "whisper-operator", "a", shared=True)
        later.see(server.lease, 1)
        later.wrote(server.write(later.body(WALL + timedelta(seconds=seconds))), 1, 1)
        assert later.gained == gained


def test_a_shared_one_that_another_of_us_has_taken_is_had_at_once() -> None:
    server = Server()
    one, other = (Lock("whisper-operator", "whisper-operator", "a", shared=True) for _ in range(2))
    Candidate(server, "b").round(0)
    one.see(server.lease, 0)
    other.see(server.lease, 0)
    other.wrote(server.write(other.body(WALL)), 10, 10)
    one.see(server.lease, 11)
    assert one.may_be_had(11)
