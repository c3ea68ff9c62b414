"""Changes of pods that the installation makes go out one by one: order, failure, pause, restart, and who never waits."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from whisper_operator.apply.outcome import Outcome
from whisper_operator.kube.errors import Refused
from whisper_operator.kube.kinds import (
    DEPLOYMENT,
    ENDPOINT,
    PAUSED_ANNOTATION,
    SPEC_ANNOTATION,
    TEMPLATE_ANNOTATION,
)
from whisper_operator.kube.objects import Key, condition
from whisper_operator.policy.rules import Policy
from whisper_operator.rollouts.progress import COMPLETE, WHOLE, Progress
from whisper_operator.rollouts.train import PATIENCE_SECONDS, UNSURE_SECONDS, Train
from whisper_operator.rollouts.turn import Turn
from whisper_operator.status.condition import STOPS_OTHERS, Fault
from whisper_operator.status.conditions import upgrades

from tests.unit.fleet import AFTER_THAT, NAMESPACE, NEXT, Fleet
from tests.unit.making import SETTINGS

ABC = ("a", "b", "c")
PAUSED = {PAUSED_ANNOTATION: "true"}


def bad(name: str, image: str) -> bool:
    """The next version starts nowhere."""
    return "2.0.0" in image


def upgraded(names: Any = ABC, **spec: Any) -> Fleet:
    """Endpoints that serve, and an operator that starts anew with another server.version."""
    fleet = Fleet(names, **spec)
    fleet.restart(NEXT)
    return fleet


def test_fifty_endpoints_are_upgraded_one_at_a_time_in_the_order_of_their_names() -> None:
    names = [f"e{number:02}" for number in range(50)]
    fleet = upgraded(names)
    fleet.run()
    for done in range(50):
        assert fleet.rolled == names[: done + 1]
        assert fleet.on_their_way() == [names[done]]
        assert fleet.cache.train.states() == {"waiting": 49 - done, "paused": 0, "rolling": 1, "failed": 0}
        fleet.serve(names[done])
    assert fleet.on_their_way() == []
    assert set(fleet.images().values()) == {"2.0.0"}
    assert set(fleet.reasons().values()) == {"Ready"}


def test_who_waits_serves_and_says_so() -> None:
    fleet = upgraded()
    fleet.run()
    assert fleet.reasons() == {"a": "RollingOut", "b": "UpgradePending", "c": "UpgradePending"}
    status, _, message = fleet.ready("c")
    assert status == "True"
    assert "the installation (its server.version" in message
    assert "comes by itself, as endpoints are upgraded one after the other" in message
    fleet.serve("a")
    assert fleet.reasons() == {"a": "Ready", "b": "RollingOut", "c": "UpgradePending"}


def test_as_many_as_the_configuration_says() -> None:
    fleet = Fleet("abcde")
    fleet.restart(replace(NEXT, max_rollouts=2))
    fleet.run()
    assert fleet.rolled == ["a", "b"]
    fleet.serve("b")
    assert fleet.rolled == ["a", "b", "c"]
    assert fleet.on_their_way() == ["a", "c"]


def test_those_that_are_looked_at_at_the_same_time_do_not_go_at_the_same_time() -> None:
    """Between the answer to one and its Deployment's change in the cache, others ask."""
    fleet = upgraded()
    fleet.run()
    fleet._status("a", 1, 1, 1, COMPLETE)
    fleet.look(*ABC)
    assert fleet.rolled == ["a", "b"]
    assert fleet.on_their_way() == ["b"]


def test_nobody_goes_before_every_endpoint_was_looked_at() -> None:
    """Or the last would be taken for the first, and one that is down for one that holds up nobody."""
    fleet = upgraded()
    fleet.woken.clear()
    fleet.look("c")
    fleet.look("b")
    assert fleet.rolled == []
    fleet.look("a")
    fleet.run()
    assert fleet.rolled == ["a"]


@pytest.mark.parametrize("restarted", [False, True])
def test_one_that_fails_stops_the_others_and_says_so(
    restarted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = upgraded(replicas=2)
    fleet.broken = bad
    fleet.run()
    fleet.serve()
    fleet.fail("a")
    if restarted:
        fleet.restart(NEXT)
        fleet.run()
    assert fleet.rolled == ["a"]
    assert fleet.reasons() == {"a": "RolloutStuck", "b": "UpgradePending", "c": "UpgradePending"}
    assert "and none while one fails: which that is stands in the operator's log" in fleet.ready("b")[2]
    assert "WhisperEndpoint a" not in fleet.ready("b")[2]  # it may be somebody else's
    assert fleet.ready("a")[2].count("until it serves again, no other endpoint is upgraded") == 1
    assert fleet.cache.train.states() == {"waiting": 2, "paused": 0, "rolling": 0, "failed": 1}
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert any("WhisperEndpoint a in namespace asr fails (RolloutStuck)" in each for each in warnings)
    fleet.broken = lambda *_: False  # somebody has mended what it was
    fleet.serve("a")
    assert fleet.rolled == ["a", "b"]
    assert fleet.reasons() == {"a": "Ready", "b": "RollingOut", "c": "UpgradePending"}


def test_one_that_fails_stops_those_beside_it_as_well() -> None:
    fleet = Fleet("abcde")
    fleet.broken = lambda name, image: name == "a" and bad(name, image)
    fleet.restart(replace(NEXT, max_rollouts=3))
    fleet.run()
    fleet.serve("a")
    fleet.fail("a")
    fleet.serve("b", "c")
    assert fleet.rolled == ["a", "b", "c"]


def test_a_version_that_mends_it_comes_to_who_failed_first_and_then_to_the_others() -> None:
    fleet = upgraded()
    fleet.broken = bad
    fleet.run()
    fleet.serve()
    fleet.fail("a")
    fleet.restart(AFTER_THAT)
    fleet.run()
    assert fleet.images() == {"a": "3.0.0", "b": "1.2.3", "c": "1.2.3"}
    for _ in ABC:
        fleet.serve()
    assert set(fleet.images().values()) == {"3.0.0"}
    assert "b" in fleet.rolled
    assert fleet.rolled.count("b") == 1


def test_the_version_before_mends_it_too_and_restarts_nobody_else() -> None:
    fleet = upgraded()
    fleet.broken = bad
    fleet.run()
    fleet.serve()
    fleet.fail("a")
    fleet.restart(SETTINGS)
    fleet.run()
    fleet.serve()
    assert fleet.rolled == ["a", "a"]
    assert set(fleet.reasons().values()) == {"Ready"}


@pytest.mark.parametrize("when", ["before it serves", "after it serves"])
def test_a_restart_of_the_operator_keeps_the_place(when: str) -> None:
    """From what the API server has alone: nothing is kept in memory or in a file."""
    fleet = upgraded()
    fleet.run()
    if when == "after it serves":  # which nobody sees
        woken, fleet.run = fleet.run, lambda: None  # type: ignore[method-assign]
        fleet.serve("a")
        fleet.run = woken  # type: ignore[method-assign]
    fleet.restart(NEXT)
    fleet.run()
    if when == "before it serves":
        assert (fleet.rolled, fleet.on_their_way()) == (["a"], ["a"])
        fleet.serve("a")
    assert (fleet.rolled, fleet.on_their_way()) == (["a", "b"], ["b"])
    fleet.serve()
    fleet.serve()
    assert (fleet.rolled, fleet.on_their_way()) == ([*ABC], [])


def test_an_operator_that_is_new_restarts_nobody_and_writes_nothing() -> None:
    fleet = Fleet(ABC)
    fleet.server.applied.clear()
    fleet.restart(SETTINGS)
    fleet.run()
    assert fleet.server.applied == []


def test_a_change_of_the_spec_never_waits_and_takes_the_upgrade_along() -> None:
    fleet = upgraded()
    fleet.run()
    fleet.apply("c", defaults={"language": "de"})
    fleet.run()
    assert fleet.rolled == ["a", "c"]
    assert fleet.images() == {"a": "2.0.0", "b": "1.2.3", "c": "2.0.0"}
    assert fleet.on_their_way() == ["a"]  # it takes nobody's place


@pytest.mark.parametrize("held", ["stopped", "paused", "all paused"])
def test_one_bad_endpoint_never_stops_the_others_own_changes(held: str) -> None:
    fleet = Fleet(ABC)
    fleet.broken = lambda name, image: name == "a" and bad(name, image)
    if held == "paused":
        fleet.apply("c", annotations=PAUSED)
    fleet.restart(replace(NEXT, paused=held == "all paused"))
    fleet.run()
    if held == "stopped":
        fleet.serve("a")
        fleet.fail("a")
    fleet.apply("c", annotations=PAUSED if held == "paused" else None, defaults={"language": "de"})
    fleet.run()
    assert fleet.images()["c"] == "2.0.0"
    fleet.apply("new")
    fleet.run()
    fleet.serve("c", "new")
    assert fleet.ready("c")[1] == fleet.ready("new")[1] == "Ready"


def test_ones_own_change_that_fails_stops_no_upgrade() -> None:
    fleet = Fleet(ABC)
    fleet.broken = lambda name, _: name == "a"
    fleet.apply("a", defaults={"language": "de"})
    fleet.run()
    fleet.serve("a")
    fleet.fail("a")
    fleet.rolled.clear()
    fleet.restart(NEXT)
    fleet.run()
    for name in "bc":
        fleet.serve(name)
    assert fleet.rolled == ["b", "c", "a"]  # it may be what mends it
    fleet.serve("a")
    fleet.fail("a")
    assert "no other endpoint is upgraded" not in fleet.ready("a")[2]
    fleet.restart(AFTER_THAT)
    fleet.run()
    assert fleet.rolled == ["b", "c", "a", "b"]


@pytest.mark.parametrize("value", ["true", "yes"])
def test_an_endpoint_is_paused_by_its_annotation(value: str) -> None:
    fleet = Fleet(ABC)
    fleet.apply("a", annotations={PAUSED_ANNOTATION: value})
    fleet.restart(NEXT)
    fleet.run()
    assert fleet.rolled == ["b"]
    status, reason, message = fleet.ready("a")
    assert (status, reason) == ("True", "UpgradePending")
    assert "held by the annotation whisper-operator.io/paused" in message
    assert ("(it says 'yes', which counts as true)" in message) is (value == "yes")
    assert fleet.cache.train.states() == {"waiting": 1, "paused": 1, "rolling": 1, "failed": 0}
    fleet.serve()
    fleet.serve()
    assert fleet.rolled == ["b", "c"]
    fleet.apply("a", annotations={PAUSED_ANNOTATION: "false"})
    fleet.run()
    assert fleet.rolled == ["b", "c", "a"]


def test_all_are_paused_by_the_configuration() -> None:
    fleet = Fleet(ABC)
    fleet.restart(replace(NEXT, paused=True))
    fleet.run()
    assert fleet.rolled == []
    assert "held by paused in the operator's configuration" in fleet.ready("a")[2]
    assert fleet.cache.train.states()["paused"] == 3
    fleet.restart(NEXT)
    fleet.run()
    assert fleet.rolled == ["a"]


def test_replicas_follow_the_spec_while_the_upgrade_waits() -> None:
    """More of them are what is wanted when load is high, and a new version that may not start is not."""
    fleet = upgraded()
    fleet.broken = bad
    fleet.run()
    fleet.serve()
    fleet.fail("a")
    fleet.apply("c", replicas=3)
    fleet.run()
    assert (fleet.replicas("c"), fleet.images()["c"]) == (3, "1.2.3")
    fleet.serve("c")
    assert fleet.ready("c")[:2] == ("True", "UpgradePending")
    fleet.apply("c", replicas=3, host="w.example.com")
    fleet.run()
    assert fleet.images()["c"] == "1.2.3"
    fleet.apply("c", replicas=3, suspend=True)
    fleet.run()
    assert (fleet.replicas("c"), fleet.images()["c"]) == (0, "2.0.0")  # where no pods are, nobody loses any


def test_who_serves_nothing_goes_at_once_when_one_has_come_through_and_stops_nobody() -> None:
    """They have nothing to lose, and may have waited for that very version; but not as the first to try it."""
    fleet = Fleet("abcd")
    fleet.lose("a")
    fleet.lose("b")
    fleet.restart(NEXT)
    fleet.run()
    assert fleet.rolled == ["c"]
    fleet.broken = lambda name, _: name == "a"
    fleet.serve("c")
    assert sorted(fleet.rolled[1:]) == ["a", "b", "d"]
    assert fleet.on_their_way() == ["d"]
    fleet.fail("a")
    assert "no other endpoint is upgraded" not in fleet.ready("a")[2]
    assert fleet.cache.train.states() == {"waiting": 0, "paused": 0, "rolling": 1, "failed": 0}


def test_where_nobody_serves_one_tries_a_version_before_all_others() -> None:
    """The nodes are made anew, say, while the operator starts with another version: all worked, and would again."""
    fleet = Fleet(ABC)
    for name in ABC:
        fleet.lose(name)
    fleet.restart(NEXT)
    fleet.run()
    assert fleet.rolled == ["a"]
    fleet.broken = bad
    fleet.serve("a")
    fleet.fail("a")  # which proves nothing, and keeps nobody waiting
    assert fleet.rolled == ["a", "b"]
    fleet.broken = lambda *_: False
    fleet.serve("b")
    assert fleet.rolled == ["a", "b", "c"]


def test_who_serves_nothing_and_is_looked_at_last_waits_as_well() -> None:
    fleet = Fleet(ABC)
    fleet.lose("c")
    fleet.restart(replace(NEXT, max_rollouts=2))
    fleet.woken.clear()
    fleet.look("a")
    fleet.look("b")
    fleet.look("c")
    assert fleet.rolled == []
    fleet.run()
    assert fleet.rolled == ["a", "b"]
    fleet.serve("a")
    assert fleet.rolled == ["a", "b", "c"]


def test_one_in_the_middle_of_its_own_change_is_not_hopeless() -> None:
    fleet = Fleet(ABC)
    fleet.broken = lambda name, _: name == "a"
    fleet.apply("a", defaults={"language": "de"}, rollout="Recreate")
    fleet.run()
    fleet._status("a", 1, 1, 0, "ReplicaSetUpdated")
    fleet.rolled.clear()
    fleet.restart(NEXT)
    fleet.run()
    assert fleet.rolled == ["b"]


def test_who_lacks_replicas_comes_after_those_who_serve_whole() -> None:
    """It might never be whole, and stop all others."""
    fleet = Fleet(ABC, replicas=2)
    fleet.lose("a", serving=1)
    fleet.restart(NEXT)
    fleet.run()
    for name in "bc":
        fleet.serve(name)
    assert fleet.rolled == ["b", "c", "a"]
    fleet._status("a", 3, 1, 1, "ReplicaSetUpdated")
    fleet.fail("a")
    assert fleet.cache.train.states() == {"waiting": 0, "paused": 0, "rolling": 0, "failed": 0}
    fleet.restart(AFTER_THAT)
    fleet.run()
    assert fleet.rolled == ["b", "c", "a", "b"]


def test_pods_that_never_worked_get_a_version_that_does_at_once() -> None:
    fleet = Fleet(ABC, NEXT)
    fleet.broken = lambda name, image: not bad(name, image)
    for name in "xyz":
        fleet.apply(name, image=None)
    fleet.settings = SETTINGS
    fleet.run()
    fleet.serve("x", "y", "z")
    for name in "xyz":
        fleet.fail(name)
    fleet.broken = lambda *_: False
    fleet.rolled.clear()
    fleet.restart(AFTER_THAT)
    fleet.run()
    assert sorted(fleet.rolled) == ["a", "x", "y", "z"]


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


def test_an_autoscaled_endpoint_needs_its_least_and_no_more() -> None:
    """What the load asks for besides may not be to be had for hours."""
    fleet = Fleet(ABC, autoscaling={"min": 1, "max": 5})
    raw = fleet.server.objects[DEPLOYMENT, "a"]
    raw["spec"]["replicas"] = 4
    fleet.restart(NEXT)
    fleet.run()
    assert fleet.rolled[0] == "a"
    fleet._status("a", 4, 4, 2, "ReplicaSetUpdated")
    fleet.run()
    assert fleet.rolled == ["a", "b"]


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


def test_one_that_fails_stops_nobody_who_would_get_another_server() -> None:
    """By the policy of one namespace, which tries it."""
    fleet = upgraded("ab")
    fleet.broken = bad
    fleet.run()
    fleet.serve("a")
    fleet.fail("a")
    same, other = (
        Progress(serves=WHOLE, server=f"registry.example.com/{name}")
        for name in ("whisper-server:2.0.0", "y:1")
    )
    train = fleet.cache.train
    assert train.ask(("n", "z"), same, most=9) is Turn.WAIT
    assert train.ask(("n", "z"), other, most=1) is Turn.BOARD


@pytest.mark.parametrize("why", ["its spec makes no sense", "its write hangs", "its write is refused"])
def test_the_version_that_mends_all_comes_though_who_failed_can_t_be_written(why: str) -> None:
    """It gets no new pods, by its own spec, the policy or its namespace, and must not keep the others from theirs."""
    fleet = upgraded()
    fleet.broken = bad
    fleet.run()
    fleet.serve()
    fleet.fail("a")
    if why == "its spec makes no sense":
        fleet.apply("a", accelerator={"type": "abacus"})
        fleet.run()
        assert fleet.ready("a")[1] == "UnknownAccelerator"
        assert "until it serves again, no other endpoint is upgraded" in fleet.ready("a")[2]
        assert condition(fleet.resources["a"]["status"], "Stalled")["reason"] == "UnknownAccelerator"
        assert "b" not in fleet.rolled
    elif why == "its write hangs":
        fleet.server.hanging = frozenset("a")
    fleet.restart(AFTER_THAT)
    if why == "its write is refused":
        fleet.server.failing["apply", DEPLOYMENT] = [Refused(403, "no")]
    fleet.run()
    for name in "bc":
        fleet.wait(UNSURE_SECONDS)
        fleet.look("a")
        assert fleet.images()["a"] == "2.0.0"
        assert fleet.on_their_way() == ["a", name]
        assert fleet.cache.train.states()["failed"] == 1
        fleet.serve(name)
    fleet.server.hanging = frozenset()
    fleet.apply("a")
    fleet.woken += fleet.cache.endpoints()
    fleet.wait(UNSURE_SECONDS)
    fleet.serve()
    assert fleet.images() == dict.fromkeys(ABC, "3.0.0")
    assert fleet.on_their_way() == []


def test_who_stops_others_needs_somebody_whatever_is_told_of_it() -> None:
    """Such as that it waits for room, which alone comes by itself."""
    waits = Fault("CeilingReached", "No room.", needs_action=False)
    assert upgrades.blamed(waits, Outcome()) == waits
    assert upgrades.blamed(waits, Outcome(stops_others=True)) == Fault(
        "CeilingReached", f"No room.{STOPS_OTHERS}", needs_action=True
    )


def test_who_failed_is_the_first_to_get_the_version_that_mends_it_and_alone() -> None:
    """Others that are looked at while it is written wait: one at a time."""
    fleet = upgraded()
    fleet.broken = bad
    fleet.run()
    fleet.serve()
    fleet.fail("a")
    fleet.restart(AFTER_THAT)
    fleet.woken.clear()
    fleet.look("c")
    fleet.look("a", "b")
    fleet.run()
    assert fleet.images() == {"a": "3.0.0", "b": "1.2.3", "c": "1.2.3"}


@pytest.mark.parametrize("what", ["paused at another version", "suspended"])
def test_what_did_not_serve_with_a_version_proves_nothing_of_it(what: str) -> None:
    """Or all that are down would get it at once."""
    fleet = Fleet("ayz")
    fleet.lose("y")
    fleet.lose("z")
    fleet.restart(NEXT)
    fleet.run()
    assert fleet.rolled == ["a"]
    if what == "suspended":
        fleet.apply("a", suspend=True)
        fleet.run()
    else:
        fleet.apply("a", annotations=PAUSED)
        fleet.restart(AFTER_THAT)
        fleet.run()
    fleet.serve("a")
    assert fleet.rolled == ["a", "y"]
    assert fleet.on_their_way() == ["y"]


def test_who_has_the_others_pass_goes_before_they_do_and_not_beside_them() -> None:
    """Where endpoints may pause nothing, the annotation on all of them must not have all go at once."""
    fleet = Fleet("abcd")
    fleet.broken = bad
    for name in "abcd":
        fleet.apply(name, annotations=PAUSED)
    fleet.policy = Policy({"everywhere": {"mayPause": False}})
    fleet.restart(NEXT)
    fleet.run()
    fleet.serve()
    assert fleet.rolled == ["a"]
    assert fleet.cache.train.states()["rolling"] == 1
    fleet.fail("a")
    assert fleet.rolled == ["a", "b"]


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


def test_a_fault_of_the_operators_own_is_told_and_leaves_the_upgrade_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("no idea")

    fleet = upgraded()
    fleet.run()
    for what, name in (("rollout.unmended", "a"), ("upgrade.passed_over", "a"), ("upgrade.edited", "b")):
        with monkeypatch.context() as patched:
            patched.setattr(f"whisper_operator.reconcile.{what}", fails)
            with pytest.raises(RuntimeError, match="no idea"):
                fleet.look(name)
        assert fleet.ready(name)[1] == "OperatorFault"
        assert fleet.on_their_way() == ["a"]
    fleet.run()
    fleet.look("a", "b")
    assert fleet.reasons() == {"a": "RollingOut", "b": "UpgradePending", "c": "UpgradePending"}


@pytest.mark.parametrize("when", ["before the first look", "after it"])
def test_ones_own_change_that_was_not_allowed_at_first_does_not_wait_once_it_is(when: str) -> None:
    """What an older version made says not what for."""
    fleet = Fleet(ABC, image="x/y:1")
    metadata = fleet.server.objects[DEPLOYMENT, "c"]["metadata"]
    for name in (SPEC_ANNOTATION, TEMPLATE_ANNOTATION):
        del metadata["annotations"][name]
    if when == "before the first look":
        fleet.apply("c", image="x/y:2")
    fleet.restart(replace(SETTINGS, paused=True))
    fleet.policy = Policy({"everywhere": {"registries": []}})
    fleet.run()
    fleet.apply("c", image="x/y:2")
    fleet.run()
    assert fleet.ready("c")[1] == "PolicyViolation"
    assert fleet.images()["c"] == "1"
    fleet.policy = Policy()
    fleet.woken += fleet.cache.endpoints()
    fleet.run()
    assert fleet.images() == {"a": "1", "b": "1", "c": "2"}


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


def test_one_that_its_namespace_has_no_room_for_is_put_aside_while_it_serves() -> None:
    fleet = upgraded()
    fleet.run()
    fleet.refuse("a")
    assert fleet.rolled == ["a", "b"]
    status, reason, message = fleet.ready("a")
    assert (status, reason) == ("False", "QuotaExceeded")
    assert "no other endpoint is upgraded" not in message
    assert fleet.cache.train.states() == {"waiting": 1, "paused": 0, "rolling": 1, "failed": 0}


def test_one_that_is_taken_down_stops_the_others_whatever_the_reason() -> None:
    """It may be the first of all that have a quota, by a default that asks for more."""
    fleet = Fleet(ABC, rollout="Recreate")
    stalled = {"type": "Stalled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    fleet.restart(NEXT)
    fleet.resources["a"]["status"]["conditions"].append(stalled)  # of something else, and for long
    fleet.run()
    fleet.refuse("a", serving=0)
    assert fleet.rolled == ["a"]
    assert "no other endpoint is upgraded" in fleet.ready("a")[2]
    assert "a quota, a Secret or an image" in fleet.ready("a")[2]


@pytest.mark.parametrize("restarted", [False, True])
def test_one_that_fails_and_is_paused_is_passed_over(restarted: bool) -> None:
    fleet = upgraded()
    fleet.broken = lambda name, _: name == "a"
    fleet.run()
    fleet.serve("a")
    fleet.fail("a")
    assert "whisper-operator.io/paused=true on it has the others pass" in fleet.ready("a")[2]
    fleet.restart(replace(NEXT, paused=True))
    fleet.run()
    assert fleet.cache.train.states()["failed"] == 1  # to have all wait is not to pass over one
    fleet.restart(NEXT)
    fleet.run()
    fleet.apply("a", annotations=PAUSED)
    if restarted:
        fleet.restart(NEXT)
    fleet.run()
    fleet.serve("b")
    assert fleet.rolled == ["a", "b", "c"]
    assert fleet.ready("a")[1] == "RolloutStuck"
    assert "no other endpoint is upgraded" not in fleet.ready("a")[2]
    assert fleet.cache.train.states() == {"waiting": 0, "paused": 0, "rolling": 1, "failed": 0}


def test_suspension_and_replicas_don_t_wait_where_the_strategy_does() -> None:
    """A policy's default, and a strategy that comes before the number of replicas."""
    fleet = Fleet(ABC, replicas=2)
    fleet.restart(NEXT)
    fleet.policy = Policy({"everywhere": {"defaults": {"rollout": "Recreate"}}})
    fleet.run()
    fleet.apply("c", replicas=3)
    fleet.run()
    assert (fleet.replicas("c"), fleet.images()["c"]) == (3, "1.2.3")
    fleet.watch("c")
    fleet.apply("c", replicas=3, suspend=True)
    fleet.run()
    fleet.serve("c")
    assert fleet.replicas("c") == 0


def test_the_strategy_is_no_change_of_pods() -> None:
    """It is what is advised where an upgrade can't go on: that must not have the version out."""
    fleet = upgraded()
    fleet.run()
    fleet.apply("c", rollout="RollingRecreate")
    fleet.run()
    assert fleet.images()["c"] == "1.2.3"


def test_a_spec_that_makes_no_sense_neither_stops_the_others_nor_keeps_the_mark() -> None:
    """Or its trouble of any later day would be taken for the upgrade's."""
    fleet = upgraded()
    fleet.run()
    fleet.apply("a", accelerator={"type": "abacus"})
    fleet.run()
    assert fleet.ready("a")[1] == "UnknownAccelerator"
    assert fleet.cache.train.states()["failed"] == 0
    fleet.serve("a")
    assert fleet.on_their_way() == ["b"]
    fleet.fail("a")
    fleet.serve("b")
    assert fleet.rolled == ["a", "b", "c"]


def test_a_mark_does_not_outlive_its_upgrade() -> None:
    """It serves, which nobody sees before the next version comes, and is held."""
    fleet = upgraded()
    fleet.run()
    fleet._status("a", 1, 1, 1, COMPLETE)
    fleet.restart(replace(AFTER_THAT, paused=True))
    fleet.run()
    assert fleet.on_their_way() == []
    assert fleet.images()["a"] == "2.0.0"


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


def test_one_moment_of_serving_is_not_enough() -> None:
    fleet = upgraded()
    fleet.run()
    fleet.served_at = datetime.now(UTC).isoformat(timespec="seconds")
    fleet.serve("a")
    assert fleet.rolled == ["a"]
    assert 0 < (fleet.next_look["a"] or 0) <= SETTINGS.settle_seconds
    fleet._status("a", 1, 1, 0, COMPLETE)
    fleet.run()
    assert fleet.rolled == ["a"]
    fleet.served_at = "2026-01-31T12:00:00Z"
    fleet.serve("a")
    assert fleet.rolled == ["a", "b"]


def test_an_edit_of_the_endpoint_on_which_an_upgrade_fails_lets_nobody_pass() -> None:
    fleet = upgraded()
    fleet.broken = bad
    fleet.run()
    fleet.serve("a")
    fleet.fail("a")
    for language in ("de", "fr"):
        fleet.apply("a", defaults={"language": language})
        fleet.run()
        fleet.serve("a")
    assert fleet.images() == {"a": "2.0.0", "b": "1.2.3", "c": "1.2.3"}
    fleet.broken = lambda *_: False  # the next edit has mended it
    fleet.serve("a")
    assert fleet.on_their_way() == ["b"]


def test_who_waits_tells_of_the_pods_that_run() -> None:
    fleet = Fleet(ABC, model="small")
    fleet.restart(NEXT)
    fleet.run()
    told = fleet.resources["c"]["status"]["effective"]
    assert told["image"].endswith(":1.2.3-openai-whisper-small")
    fleet.apply("c", model="small", replicas=3)
    fleet.run()
    told = fleet.resources["c"]["status"]["effective"]
    assert (told["image"].split(":")[1], told["replicas"]) == ("1.2.3-openai-whisper-small", 3)
    fleet.serve()
    fleet.serve()
    fleet.serve()
    assert fleet.resources["c"]["status"]["effective"]["image"].endswith(":2.0.0-openai-whisper-small")


def test_all_that_pauses_an_endpoint_is_told() -> None:
    fleet = Fleet(ABC)
    fleet.apply("a", annotations=PAUSED)
    fleet.restart(replace(NEXT, paused=True))
    fleet.run()
    assert (
        "It is held by the annotation whisper-operator.io/paused and by paused in the operator's configuration."
        in fleet.ready("a")[2]
    )


def test_one_whose_mark_can_not_be_taken_off_is_upgraded_the_next_time_like_any_other() -> None:
    fleet = upgraded()
    fleet.run()
    fleet.serve("a")
    fleet.server.failing["annotate", DEPLOYMENT] = [Refused(403, "no")] * 9
    fleet.serve("b")
    fleet._status("c", 1, 1, 1, COMPLETE)
    fleet.restart(AFTER_THAT)
    fleet.run()
    assert fleet.rolled == ["a", "b", "c", "a"]
    assert fleet.on_their_way() == ["a", "c"]  # which is through, all the same
    fleet.serve("a")
    fleet.server.hanging = frozenset("c")
    fleet.serve("b")
    assert fleet.images()["c"] == "2.0.0"
    fleet.look("a")
    fleet.server.hanging = frozenset()
    fleet.wait(UNSURE_SECONDS)
    fleet.look("c")
    assert fleet.rolled[3:] == ["a", "b", "c"]
    assert fleet.cache.train.states()["rolling"] == 1


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
