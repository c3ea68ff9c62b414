"""Who had no room, and who is woken by what."""

import pytest
from whisper_operator.policy.amounts import Running

from tests.unit.ledger import Cluster, gpus, under


def test_others_are_woken_once_there_may_be_room() -> None:
    cluster = Cluster(4)
    cluster.note("a", 3, 3)
    cluster.note("b", 2, 0)
    assert not cluster.may("b")
    cluster.note("a", 3, 3)
    assert cluster.woken == []
    cluster.note("a", 2, 3)  # its Deployment is yet to shrink
    assert not cluster.may("b")
    cluster.note("a", 2, 2)
    assert cluster.woken == ["b"]
    assert cluster.may("b")
    cluster.note("c", 1, 0)
    assert not cluster.may("c")
    cluster.ledger.forget(("asr", "a"))  # but what runs of it is still there
    assert cluster.woken == ["b"]
    assert not cluster.may("c")
    cluster.runs("a", 0)
    assert cluster.woken == ["b", "c"]
    assert cluster.may("c")


def test_after_a_term_nobody_waits_any_more_and_what_runs_takes_its_room() -> None:
    cluster = Cluster(4)
    cluster.note("a", 4, 4)
    cluster.note("b", 1, 0)
    assert not cluster.may("b")
    cluster.ledger.end()
    cluster.runs("a", 2)  # as a replica that follows sees
    assert cluster.woken == []
    cluster.ledger.begin(cluster.policy)
    assert cluster.woken == []
    cluster.note("c", 3, 0)
    assert not cluster.may("c")
    cluster.note("a", 1, 1)
    assert cluster.woken == ["c"]
    assert cluster.may("c")


def test_one_that_waits_and_goes_makes_room_only_of_what_it_had() -> None:
    cluster = Cluster(7)
    cluster.note("a", 2, 2)
    cluster.note("b", 3, 3)
    cluster.note("c", 2, 2)
    cluster.note("d", 1, 0)
    cluster.policy = under({"gpus": 4})
    assert [cluster.may(name) for name in "abcd"] == [True, False, False, False]
    cluster.ledger.forget(("asr", "d"))
    assert cluster.woken == []
    cluster.ledger.forget(("asr", "b"))  # its Deployment is still there, but it is no endpoint's that is over
    assert cluster.woken == ["c"]


def test_one_that_can_t_have_it_any_more_keeps_nobody_waiting() -> None:
    """It would have got all GPUs, and then something else that it asks for has gone to another."""
    cluster = Cluster(4)
    cluster.policy = under({"gpus": 4, "cpu": 8})
    cluster.ask("old", 4, cpu=8)
    cluster.ask("young", 2)
    assert not cluster.may("young")
    cluster.ledger.hold(("asr", "orphan"), Running(gpus(0, cpu=4)))
    assert not cluster.may("old")
    assert cluster.woken == ["young"]
    assert cluster.may("young")


@pytest.mark.parametrize("is_over", [True, False])
def test_one_that_waits_on_account_of_what_runs_goes_on_keeping_others_from_what_it_would_get(
    is_over: bool,
) -> None:
    """It is over a lower ceiling, or has pods on their way out: neither is by what it asks for."""
    cluster = Cluster(4)
    cluster.policy = under({"gpus": 3 if is_over else 4, "cpu": 8})
    cluster.note("old", 4, 4)
    cluster.runs("old", 4, going=0 if is_over else 1)
    cluster.ask("old", 4, cpu=8)
    assert not cluster.may("old", new_pods=True)
    cluster.ask("young", 0, cpu=4)
    assert not cluster.may("young")
    assert not cluster.may("old", new_pods=True)
    cluster.ask("old", 4)
    assert cluster.woken == ["young"]


def test_one_that_had_no_room_under_an_earlier_policy_keeps_others_waiting_until_it_is_gone() -> None:
    cluster = Cluster(2)
    cluster.note("old", 3, 0)
    assert not cluster.may("old")
    cluster.policy = under({"gpus": 4})
    cluster.note("young", 2, 0)
    assert not cluster.may("young")  # before the old one was looked at
    cluster.ledger.forget(("asr", "old"))
    assert cluster.woken == ["young"]


def test_the_same_policy_read_anew_leaves_those_waiting_who_wait() -> None:
    cluster = Cluster(4)
    cluster.note("a", 4, 4)
    cluster.note("b", 1, 0)
    assert not cluster.may("b")
    cluster.policy = under({"gpus": 4})
    assert cluster.may("a")
    cluster.note("a", 3, 3)
    assert cluster.woken == ["b"]


def test_only_those_are_woken_for_whom_there_is_room() -> None:
    """A thousand that wait for something else, or for more, are not looked at each time that somebody goes."""
    cluster = Cluster(namespace=4, everywhere=6)
    cluster.note("a", 4, 4, "one")
    cluster.note("b", 2, 2, "two")
    for number in range(100):
        cluster.note(f"greedy-{number}", 2, 0, "one")
        assert not cluster.may(f"greedy-{number}", "one")
        cluster.note(f"other-{number}", 1, 0, "two")
        assert not cluster.may(f"other-{number}", "two")
    cluster.note("b", 1, 1, "two")
    assert cluster.woken == ["other-0"]
    assert cluster.may("other-0", "two")
    cluster.runs("other-0", 1, "two")
    cluster.note("a", 2, 2, "one")
    assert cluster.woken == ["other-0", "greedy-0"]


def test_one_that_lacks_another_thing_by_now_is_woken_by_that_one() -> None:
    cluster = Cluster(4)
    cluster.policy = under({"gpus": 4, "cpu": 8})
    cluster.ledger.hold(("asr", "a"), Running(gpus(4, cpu=2)))
    cluster.ask("b", 1, cpu=4)
    assert not cluster.may("b")
    cluster.ledger.hold(("asr", "a"), Running(gpus(0, cpu=8)))
    assert cluster.woken == []
    cluster.ledger.hold(("asr", "a"), Running(gpus(0, cpu=4)))
    assert cluster.woken == ["b"]


def test_pods_that_end_wake_those_who_come_before_what_the_same_endpoint_still_asks_for() -> None:
    cluster = Cluster(4)
    cluster.note("old", 2, 0)
    cluster.note("young", 4, 2)
    cluster.runs("young", 2, pods=4)
    assert not cluster.may("old")
    cluster.runs("young", 2)
    assert cluster.woken == ["old"]


def test_one_that_is_refused_while_it_waits_is_not_woken() -> None:
    cluster = Cluster(4)
    cluster.note("a", 4, 4)
    cluster.note("b", 1, 0)
    assert not cluster.may("b")
    cluster.ask("b", 0)
    cluster.note("a", 0, 0)
    assert cluster.woken == []


def test_the_oldest_are_woken_first() -> None:
    cluster = Cluster(9)
    cluster.note("a", 9, 9)
    for name in "hgfedcb":
        cluster.note(name, 1, 0)
        assert not cluster.may(name)
    cluster.note("a", 0, 0)
    assert cluster.woken == list("hgfedcb")
