"""Many that wait for room: they cost the others nothing, and no more each than few."""

import sys
from collections.abc import Callable
from functools import partial

import pytest

from tests.unit.ledger import Cluster


def crowd(waiting: int) -> Cluster:
    """All that there is runs, and so many more ask for it."""
    cluster = Cluster(4)
    cluster.note("a", 4, 4)
    for number in range(waiting):
        cluster.ask(f"w{number}", 1)
    for number in range(waiting):
        assert not cluster.may(f"w{number}")
    return cluster


def everyone(cluster: Cluster) -> list[tuple[str, str]]:
    return [("asr", name) for name in cluster.created if name != "a"]


def another_term(cluster: Cluster) -> None:
    cluster.ledger.begin(cluster.policy)


def the_end_of_a_term(cluster: Cluster) -> None:
    """And a follower's watches from then on."""
    cluster.ledger.end()
    for has in range(len(cluster.created)):
        cluster.runs("a", has % 2)


def all_deleted(cluster: Cluster) -> None:
    for key in everyone(cluster):
        cluster.ledger.forget(key)


def all_refused(cluster: Cluster) -> None:
    for _, name in everyone(cluster):
        cluster.ask(name, 0)


@pytest.mark.parametrize("what", [another_term, the_end_of_a_term, all_deleted, all_refused])
def test_a_crowd_that_waits_goes_in_steps_that_do_not_grow_with_it(what: Callable[[Cluster], None]) -> None:
    """The loop stands still meanwhile, on which the leader's Lease is renewed."""
    few, many = (calls(partial(what, crowd(waiting))) for waiting in (50, 500))
    assert many < 12 * few, (few, many)


@pytest.mark.parametrize("part", [0.5, 1])
def test_a_crowd_that_comes_at_once_is_told_in_steps_that_do_not_grow_with_it(part: float) -> None:
    """Whether there is room for some, or for all, who then run one after the other."""

    def work(count: int) -> int:
        cluster = Cluster(int(count * part))
        for number in range(count):
            cluster.ask(f"w{number}", 1)

        def look() -> None:
            for number in range(count):
                assert cluster.may(f"w{number}") == (number < count * part)
                if part == 1:
                    cluster.runs(f"w{number}", 1)

        return calls(look)

    few, many = work(50), work(500)
    assert many < 12 * few, (few, many)


def test_a_crowd_that_is_over_a_lower_ceiling_is_told_in_steps_that_do_not_grow_with_it() -> None:
    def work(count: int) -> int:
        cluster = Cluster(count // 2)
        for number in range(count):
            cluster.note(f"w{number}", 1, 1)
        return calls(lambda: [cluster.may(f"w{number}") for number in range(count)])

    few, many = work(50), work(500)
    assert many < 12 * few, (few, many)


def test_what_is_scarce_in_some_namespaces_only_is_shared_out_in_each_for_itself() -> None:
    def work(namespaces: int) -> int:
        cluster = Cluster(4)
        for number in range(namespaces):
            cluster.ask(f"a{number}", 3, f"n{number}")
            cluster.ask(f"b{number}", 3, f"n{number}")
        return calls(lambda: [cluster.may("a0", "n0"), cluster.may("b0", "n0")])

    assert work(100) == work(10)


def calls(work: Callable[[], object]) -> int:
    """How many functions are called in it: unlike seconds, as many on a busy machine."""
    count = 0

    def on_event(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def test_those_that_wait_make_looks_at_others_no_dearer() -> None:
    """Nor changes of them: what waits for one namespace's ceiling is not gone through for another's."""

    def work(waiting: int) -> int:
        cluster = Cluster(namespace=4, everywhere=40)
        for number in range(waiting):
            cluster.note(f"w{number}", 5, 0, "crowd")
            assert not cluster.may(f"w{number}", "crowd")
        cluster.note("a", 3, 3, "two")

        def look() -> None:
            for round in range(50):
                has = 3 - round % 2
                cluster.note("a", has, has, "two")
                assert cluster.may("a", "two")
                cluster.note("b", 1 + round % 2, 0, "two")
                cluster.may("b", "two")

        return calls(look)

    few, many = work(10), work(1000)
    assert many < 1.1 * few, (few, many)
