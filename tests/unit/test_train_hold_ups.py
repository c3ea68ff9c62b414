"""Who can't be written, does not come or goes away in the middle of an upgrade makes way for the others."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from whisper_operator.kube.errors import Refused
from whisper_operator.kube.kinds import (
    DEPLOYMENT,
    ENDPOINT,
)
from whisper_operator.kube.objects import Key
from whisper_operator.rollouts.progress import COMPLETE, WHOLE, Progress
from whisper_operator.rollouts.train import PATIENCE_SECONDS, UNSURE_SECONDS, Train
from whisper_operator.rollouts.turn import Turn

from tests.unit.fleet import NAMESPACE, NEXT, PAUSED, Fleet, bad, upgraded


def test_one_that_can_not_be_written_lets_the_others_pass() -> None:
    """By a policy of its namespace, say, which a webhook enforces."""
    fleet = upgraded()
    fleet.server.failing["apply", DEPLOYMENT] = [Refused(403, "no")]
    fleet.run()
    assert fleet.rolled == ["b"]
    assert fleet.reasons()["a"] == "ApplyRefused"
    fleet.look("a")  # as every half minute
    fleet.serve("b")
    fleet.serve("c")
    assert fleet.rolled == ["b", "c", "a"]  # behind those that could be written


@pytest.mark.parametrize("who", ["on its way", "failed", "first in the line"])
def test_one_that_is_deleted_makes_way(who: str) -> None:
    fleet = upgraded()
    fleet.broken = lambda name, _: name == "a"
    fleet.run()
    fleet.serve("a")
    if who == "failed":
        fleet.fail("a")
    if who == "first in the line":
        fleet.delete("b")
        fleet.broken = lambda *_: False
        fleet.serve("a")
        assert fleet.rolled == ["a", "c"]
        return
    fleet.delete("a")
    fleet.run()
    assert fleet.rolled == ["a", "b"]


def test_one_whose_spec_makes_no_sense_any_more_makes_way() -> None:
    fleet = upgraded()
    fleet.run()
    fleet.apply("b", accelerator={"type": "abacus"})
    fleet.run()
    fleet.serve("a")
    assert fleet.rolled == ["a", "c"]


def test_one_that_is_deleted_before_it_was_looked_at_makes_way() -> None:
    fleet = upgraded()
    fleet.woken.clear()
    fleet.look("a")
    fleet.look("b")
    fleet.delete("c")
    fleet.run()
    assert fleet.rolled == ["a"]


@pytest.mark.parametrize("how", ["deleted", "broken", "changed"])
def test_one_that_is_called_and_does_not_come_makes_way(how: str) -> None:
    fleet = upgraded()
    fleet.run()
    fleet._status("a", 1, 1, 1, COMPLETE)  # which calls the next
    if how == "deleted":
        fleet.delete("b")
    else:
        fleet.apply("b", accelerator={"type": "abacus" if how == "broken" else "nvidia-l4"})
    fleet.run()
    assert fleet.rolled == (["a", "b", "c"] if how == "changed" else ["a", "c"])


def test_one_that_boards_and_can_not_be_written_calls_who_asked_meanwhile() -> None:
    fleet = Fleet("ab")
    for name in "ab":
        fleet.apply(name, annotations=PAUSED)
    fleet.restart(NEXT)
    fleet.run()
    for name in "ab":
        fleet.apply(name)
    fleet.woken.clear()
    fleet.server.failing["apply", DEPLOYMENT] = [Refused(403, "no")]
    fleet.look("a", "b")
    assert fleet.rolled == []
    fleet.run()
    assert fleet.rolled == ["b"]


def test_what_another_installation_looks_after_neither_stops_nor_counts() -> None:
    fleet = upgraded("ab")
    fleet.broken = bad
    fleet.run()
    fleet.serve("a")
    train, ours = fleet.cache.train, ("ours", "z")
    whole = Progress(serves=WHOLE, server="registry.example.com/whisper-server:2.0.0")
    assert train.ask(ours, whole, most=1) is Turn.WAIT
    fleet.fail("a")
    assert train.states()["failed"] == 1
    assert train.ask(ours, whole, most=9) is Turn.WAIT
    train.leaves = lambda namespace: namespace == NAMESPACE
    assert train.states()["failed"] == train.states()["rolling"] == 0
    assert train.ask(("ours", "a"), whole, most=2) is Turn.BOARD


def test_a_wait_that_is_over_ends_no_later_one() -> None:
    """Each is as long as it says, or one would be passed over that has just been called."""
    fleet = upgraded()
    fleet.woken.clear()
    fleet.expire(PATIENCE_SECONDS - 1)
    fleet.cache.train.begin(fleet.cache.endpoints())  # another term
    fleet.look("b")
    fleet.look("c")
    fleet.wait(1)
    assert fleet.rolled == []
    fleet.wait(PATIENCE_SECONDS - 1)
    assert fleet.rolled == ["b"]


def test_who_came_when_called_and_is_called_again_is_waited_for_anew() -> None:
    woken: list[Key] = []
    timers: list[Callable[[], None]] = []
    train, whole = Train(woken.append), Progress(serves=WHOLE, server="r/s:2")
    train.later = lambda _, call: timers.append(call)
    for _ in range(2):
        for key in (("n", "a"), ("n", "b")):
            with train.look(key):
                assert train.ask(key, whole, most=0) is Turn.WAIT
        train.note(("n", "gone"), None, None)  # which calls the first
    assert woken == [("n", "a")] * 2
    timers[0]()
    assert ("n", "b") not in woken
    timers[1]()
    assert ("n", "b") in woken


def test_who_waits_is_not_counted_at_each_look_while_not_all_were_looked_at() -> None:
    """Or the first looks at ten thousand endpoints would cost the square of that."""
    counted = 0

    def leaves(_: str) -> bool:
        nonlocal counted
        counted += 1
        return False

    train, whole = Train(), Progress(serves=WHOLE, server="r/s:2")
    train.leaves = leaves
    keys = [("n", f"e{number:03}") for number in range(200)]
    train.begin(keys)
    for key in keys:
        with train.look(key):
            train.judge(key, whole)
            train.ask(key, whole, most=1)
    assert counted < 10 * len(keys)


def test_those_whose_writes_hang_don_t_take_turns_for_ever() -> None:
    """While the one waits for its answer, the other is tried again."""
    fleet = upgraded("abcd")
    fleet.server.hanging = frozenset("ab")
    fleet.woken.clear()
    fleet.look(*"abcd")
    for _ in range(2):
        fleet.look("b", "a")
        fleet.expire(UNSURE_SECONDS)
        fleet.look("a", "b")
        fleet.expire(UNSURE_SECONDS)
    assert (NAMESPACE, "c") in fleet.woken
    fleet.run()
    for name in "cd":
        fleet.look("a", "b")
        assert fleet.on_their_way() == [name]
        fleet.serve(name)
    fleet.server.hanging = frozenset()
    fleet.look("a")
    fleet.wait(UNSURE_SECONDS)
    fleet.serve()
    fleet.look("b")
    assert sorted(fleet.rolled) == [*"abcd"]


@pytest.mark.parametrize("carried_out", [False, True])
def test_a_write_without_an_answer_keeps_its_place_until_it_is_known_what_became_of_it(
    carried_out: bool,
) -> None:
    fleet = upgraded("ab")
    fleet.server.hanging, fleet.server.carries_out = frozenset("a"), carried_out
    fleet.run()
    fleet.look("b")
    assert fleet.images()["b"] == "1.2.3"
    if carried_out:
        fleet.watch("a")
    fleet.wait(UNSURE_SECONDS)
    assert fleet.on_their_way() == (["a"] if carried_out else ["b"])


def test_one_that_is_called_and_waits_for_a_worker_for_ever_is_passed_over() -> None:
    """As many of its namespace hang before it."""
    fleet = upgraded()
    fleet.run()
    fleet._status("a", 1, 1, 1, COMPLETE)
    fleet.look("a")
    assert fleet.woken[-1] == (NAMESPACE, "b")
    fleet.woken.clear()
    fleet.wait(PATIENCE_SECONDS - 1)
    fleet.look("c")
    assert fleet.rolled == ["a"]
    fleet.wait(1)
    assert fleet.rolled == ["a", "c"]


def test_one_that_is_not_looked_at_for_ever_holds_up_nobody_for_ever() -> None:
    fleet = upgraded()
    fleet.woken.clear()
    fleet.look("b")
    fleet.look("c")
    fleet.wait(PATIENCE_SECONDS - 1)
    assert fleet.rolled == []
    fleet.wait(1)
    assert fleet.rolled == ["b"]
    fleet.restart(replace(NEXT, max_rollouts=3))
    fleet.woken.clear()
    fleet.look("c")
    fleet.wait(PATIENCE_SECONDS)
    assert fleet.rolled == ["b"]  # which is on its way, and may have failed
    fleet.look("b")
    fleet.run()
    assert fleet.rolled == ["b", "c"]


def test_a_first_look_counts_before_its_writes() -> None:
    fleet = upgraded()
    fleet.woken.clear()
    fleet.look("a")
    fleet.look("b")
    fleet.apply("c", accelerator={"type": "abacus"})
    fleet.woken.clear()

    async def never(*_: Any, **__: Any) -> Any:
        assert (NAMESPACE, "a") in fleet.woken
        return None

    fleet.applier.apply = never  # type: ignore[method-assign]
    with pytest.raises(AttributeError):  # as there is no outcome
        fleet.look("c")
    assert fleet.woken[0] == (NAMESPACE, "a")


@pytest.mark.parametrize("what", ["the endpoint", "its Deployment"])
def test_one_that_goes_away_makes_way(what: str) -> None:
    """A finalizer may hold it for days."""
    fleet = upgraded()
    fleet.run()
    kind, raw = (
        (ENDPOINT, fleet.resources["a"])
        if what == "the endpoint"
        else (DEPLOYMENT, fleet.server.objects[DEPLOYMENT, "a"])
    )
    metadata = {**raw["metadata"], "deletionTimestamp": "2026-01-31T12:00:00Z", "resourceVersion": "9999"}
    fleet.woken += fleet.cache.upsert(kind, {**raw, "metadata": metadata})
    fleet.run()
    assert fleet.rolled == ["a", "b"]


def test_a_term_ends_with_nobody_in_the_line_and_who_joins_is_waited_for() -> None:
    """What another replica does meanwhile is not known: all is asked anew."""
    fleet = upgraded()
    fleet.run()
    train = fleet.cache.train
    train.end()
    assert train.states() == {"waiting": 0, "paused": 0, "rolling": 1, "failed": 0}
    train.join([("n", "z")])
    fleet.serve("a")
    fleet.look("b")
    assert fleet.rolled == ["a"]
    fleet.wait(PATIENCE_SECONDS)
    assert fleet.rolled == ["a", "b"]
