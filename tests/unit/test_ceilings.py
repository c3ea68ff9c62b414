"""How much endpoints may ask for, of which who has something keeps it."""

from random import Random

import pytest
from whisper_operator.policy.amounts import Running
from whisper_operator.spec.endpoint import SpecError

from tests.unit.ledger import Cluster, gpus, under


def test_what_there_is_room_for_is_granted_in_the_order_of_age() -> None:
    cluster = Cluster(4)
    cluster.created = {"a": "1", "b": "2", "c": "3"}
    for name in ("c", "b", "a"):
        cluster.note(name, 2, 0)
    # Whichever is looked at first.
    assert [cluster.may(name) for name in ("c", "b", "a")] == [False, True, True]


def test_who_has_something_keeps_it_though_an_older_one_asks_for_more() -> None:
    cluster = Cluster(4)
    cluster.note("old", 4, 2)
    cluster.note("new", 2, 2)
    assert [cluster.may(name) for name in ("old", "new")] == [False, True]


def test_one_that_asks_for_too_much_keeps_nobody_else_waiting() -> None:
    cluster = Cluster(4)
    cluster.note("greedy", 100, 0)
    cluster.note("modest", 4, 0)
    assert [cluster.may(name) for name in ("greedy", "modest")] == [False, True]


def test_one_that_lacks_something_else_keeps_nobody_waiting_either() -> None:
    cluster = Cluster(4)
    cluster.policy = under({"gpus": 4, "cpu": 8})
    cluster.note("greedy", 4, 0, cpu=100)
    cluster.note("modest", 4, 0, cpu=4)
    cluster.note("late", 1, 0, cpu=1)
    assert [cluster.may(name) for name in ("late", "greedy", "modest")] == [False, False, True]


def test_two_are_never_told_the_same_room_before_the_cluster_shows_it() -> None:
    cluster = Cluster(4)
    cluster.note("new", 4, 0)
    assert cluster.may("new")
    cluster.created["old"] = "-"
    cluster.note("old", 4, 0)
    assert not cluster.may("old")
    cluster.note("new", 4, 4)
    assert not cluster.may("old")
    assert cluster.may("new")


@pytest.mark.parametrize("ceiling", [{"namespace": 3}, {"everywhere": 3}])
def test_a_lower_ceiling_takes_nothing_away_and_the_youngest_say_so(ceiling: dict[str, int]) -> None:
    cluster = Cluster(**ceiling)
    for name in ("a", "b", "c"):
        cluster.note(name, 2, 2)
    cluster.ask("d", 0, cpu=1)
    assert [cluster.may(name) for name in ("a", "b", "c")] == [True, False, False]
    assert cluster.may("d"), "who has no part in it is not over it"
    cluster.note("a", 1, 1)
    assert [cluster.may(name) for name in ("a", "b", "c")] == [True, True, False]


def test_one_that_is_over_may_always_ask_for_less() -> None:
    cluster = Cluster(3)
    cluster.note("a", 3, 3)
    cluster.note("b", 3, 4)
    assert cluster.may("b")
    cluster.note("b", 3, 3)
    assert not cluster.may("b")


def test_what_has_no_endpoint_any_more_takes_room_until_it_is_gone() -> None:
    """After a deletion that orphans; nobody has to have seen the endpoint, as after a restart."""
    cluster = Cluster(4)
    cluster.runs("orphan", 4)
    cluster.note("b", 4, 0)
    assert not cluster.may("b")
    cluster.runs("orphan", 0)
    assert cluster.woken == ["b"]
    assert cluster.may("b")


def test_pods_on_their_way_out_take_room_until_they_are_gone() -> None:
    """Whether their endpoint is suspended, has fewer replicas or is deleted."""
    cluster = Cluster(4)
    cluster.note("a", 4, 4)
    assert cluster.may("a")
    cluster.note("b", 4, 0)
    cluster.ask("a", 0)
    cluster.runs("a", 0, pods=4)
    assert not cluster.may("b")
    cluster.runs("a", 0, going=4)
    assert not cluster.may("b")
    # Nor does it get the same room a second time itself.
    cluster.ask("a", 4)
    assert not cluster.may("a")
    cluster.ask("a", 0)
    cluster.ledger.forget(("asr", "a"))
    assert not cluster.may("b")
    cluster.runs("a", 0, going=1)
    assert not cluster.may("b")
    cluster.runs("a", 0)
    assert cluster.may("b")


def test_another_change_of_pods_waits_until_those_before_are_gone_where_they_take_more_than_there_is() -> (
    None
):
    """Else each change would start as many pods as there are, however many are on their way out."""
    cluster = Cluster(4)
    cluster.note("a", 3, 3)
    cluster.runs("a", 3, going=1)
    assert cluster.may("a", new_pods=True)
    cluster.runs("a", 3, going=2)
    assert not cluster.may("a", new_pods=True)
    assert cluster.may("a")  # what changes no pods does not wait
    with pytest.raises(SpecError, match="gpus 3 beside 2 of its pods that are on their way out"):
        cluster.ledger.grant(("asr", "a"), cluster.policy, new_pods=True)
    cluster.runs("a", 3)
    cluster.runs("b", 0, going=2)  # it is by its own pods that it waits, and not by others'
    assert cluster.may("a", new_pods=True)


def test_whoever_asks_for_less_does_not_wait_for_pods_on_their_way_out_of_what_it_gives_up() -> None:
    """All that there is runs, and a pod of before is still ending."""

    def may(going: int = 1, **asks: int) -> bool:
        cluster = Cluster(4)
        cluster.policy = under({"gpus": 4, "cpu": 40, "replicas": 4})
        of_four, gone = gpus(4, cpu=16, replicas=4), gpus(going, cpu=4 * going, replicas=going)
        cluster.ledger.hold(("asr", "a"), Running(of_four, of_four, gone))
        cluster.ask("a", 0, "asr", **asks)
        return cluster.may("a", new_pods=True)

    assert not may(gpus=4, cpu=16, replicas=4)
    assert may(endpoints=1)  # suspended, with another prompt
    assert not may(cpu=16, replicas=4)  # without GPUs, but as many pods anew
    assert may(cpu=12, replicas=3)
    assert may(gpus=3, cpu=12, replicas=3)
    assert not may(gpus=3, cpu=12, replicas=3, going=2)
    assert not may(gpus=4, cpu=15, replicas=4)  # or each change by a little would start as many pods anew


def test_one_whose_gpus_are_going_may_do_without_any() -> None:
    cluster = Cluster(4)
    cluster.note("a", 4, 4)
    cluster.runs("a", 4, going=1)
    cluster.ask("a", 0, cpu=4)
    assert cluster.may("a", new_pods=True)
    cluster.runs("a", 4, going=5)
    assert cluster.may("a", new_pods=True), "however many those are"
    cluster.ask("a", 0)
    assert cluster.may("a", new_pods=True)


def test_the_pod_more_of_a_rollout_counts_while_it_is_there() -> None:
    cluster = Cluster(4)
    cluster.note("a", 3, 3)
    cluster.runs("a", 3, pods=4)
    assert cluster.may("a")
    cluster.note("b", 1, 0)
    assert not cluster.may("b")
    cluster.runs("a", 3)
    assert cluster.may("b")


def test_what_was_granted_and_not_taken_is_others() -> None:
    """Its Deployment was refused, or is another's turn: a younger one gets what it has no use for."""
    cluster = Cluster(4)
    cluster.note("a", 4, 0)
    assert cluster.may("a")
    cluster.note("b", 4, 0)
    assert not cluster.may("b")
    cluster.ledger.settle(("asr", "a"))
    assert cluster.woken == ["b"]
    assert cluster.may("b")
    cluster.runs("b", 4)
    cluster.ledger.settle(("asr", "b"))
    cluster.ask("a", 4)
    assert not cluster.may("a")


def test_another_term_knows_what_runs_and_not_what_was_asked_for() -> None:
    cluster = Cluster(4)
    cluster.note("a", 4, 3)
    cluster.note("gone", 1, 0)
    cluster.ledger.begin(cluster.policy)
    cluster.ask("b", 1)
    cluster.ask("c", 1)
    assert [cluster.may(name) for name in ("c", "b")] == [False, True]
    cluster.ask("a", 4)
    assert not cluster.may("a")


def test_a_namespace_has_a_ceiling_of_its_own_and_all_have_one() -> None:
    cluster = Cluster(namespace=4, everywhere=5)
    cluster.note("a", 4, 4, "one")
    cluster.note("b", 2, 0, "two")
    cluster.note("c", 1, 0, "two")
    assert not cluster.may("b", "two")
    assert cluster.may("c", "two")
    with pytest.raises(SpecError) as error:
        cluster.ledger.grant(("two", "b"), cluster.policy)
    assert "gpus 2 (all that the installation may use is spoken for)" in error.value.message
    assert "one" not in error.value.message.split(), "no other namespace is named"


def test_what_is_not_counted_has_no_ceiling() -> None:
    cluster = Cluster()
    cluster.note("a", 900, 0)
    assert cluster.may("a")


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_asked_in_whatever_order_no_more_is_granted_than_there_is(seed: int) -> None:
    """And once nobody asks for anything new, looking again changes nothing."""
    random = Random(seed)
    cluster = Cluster(namespace=6, everywhere=9)
    places = dict(zip("abcdef", "112223", strict=True))
    wants, has, going = (dict.fromkeys("abcdef", 0) for _ in range(3))

    def look(cluster: Cluster, name: str, written: bool = True) -> bool:
        cluster.runs(name, has[name], places[name], going=going[name])
        cluster.ask(name, wants[name], places[name])
        may = cluster.may(name, places[name])
        if may and written:
            going[name] += max(0, has[name] - wants[name])
            has[name] = wants[name]
            cluster.runs(name, has[name], places[name], going=going[name])
        return may

    for _ in range(400):
        name = random.choice("abcdef")
        if random.random() < 0.4:
            wants[name] = random.randint(0, 5)
        if random.random() < 0.3:
            going[name] = 0
        if random.random() < 0.1:  # deleted by one that orphans, or that a finalizer holds up
            cluster.ledger.forget((places[name], name))
            wants[name] = 0
        elif look(cluster, name, random.random() < 0.8) and random.random() < 0.7:
            cluster.ledger.settle((places[name], name))  # else the answer was lost
        there = {each: has[each] + going[each] for each in has}
        assert sum(there.values()) <= 9
        assert all(sum(there[each] for each in has if places[each] == place) <= 6 for place in "123")
    for _ in range(10):
        going = dict.fromkeys("abcdef", 0)
        for name in wants:
            cluster.runs(name, has[name], places[name])
        for name in wants:
            look(cluster, name)
            cluster.ledger.settle((places[name], name))
    before = dict(has)
    fresh = Cluster(namespace=6, everywhere=9)
    fresh.created = cluster.created
    for name in wants:
        fresh.note(name, wants[name], has[name], places[name])
    for name in wants:
        assert fresh.may(name, places[name]) == look(cluster, name), "a restart changes nothing"
    assert has == before
