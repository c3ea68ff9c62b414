"""Changes of pods that the installation makes go out one by one: order, failure, pause, restart, and who never waits."""

from dataclasses import replace
from typing import Any

import pytest
from whisper_operator.kube.errors import Refused
from whisper_operator.kube.kinds import DEPLOYMENT, PAUSED_ANNOTATION
from whisper_operator.rollouts.progress import COMPLETE, WHOLE, Progress
from whisper_operator.rollouts.train import Turn

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
    assert "goes on once another endpoint serves again, on which the upgrade fails" in fleet.ready("b")[2]
    assert "WhisperEndpoint a" not in fleet.ready("b")[2]  # it may be somebody else's
    assert fleet.ready("a")[2].count("until this endpoint serves again, no other is upgraded") == 1
    assert fleet.cache.train.states() == {"waiting": 2, "paused": 0, "rolling": 0, "failed": 1}
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert any("The upgrade of WhisperEndpoint a in namespace asr fails" in each for each in warnings)
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
    assert "no other is upgraded" not in fleet.ready("a")[2]
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


def test_who_serves_nothing_waits_for_those_who_serve_and_stops_nobody() -> None:
    fleet = Fleet("abcd")
    fleet.lose("a")
    fleet.lose("b")
    fleet.restart(NEXT)
    fleet.run()
    assert fleet.rolled == ["c"]
    fleet.serve("c")
    assert fleet.rolled == ["c", "d"]
    fleet.broken = lambda name, _: name == "a"
    fleet.serve("d")
    assert fleet.rolled == ["c", "d", "a", "b"]  # both: they have nothing to lose
    assert fleet.on_their_way() == []


def test_who_serves_nothing_and_is_looked_at_last_waits_as_well() -> None:
    fleet = Fleet(ABC)
    fleet.lose("c")
    fleet.restart(replace(NEXT, max_rollouts=3))
    fleet.woken.clear()
    fleet.look("a")
    fleet.look("b")
    fleet.look("c")
    assert fleet.rolled == []
    fleet.run()
    assert fleet.rolled == ["a", "b"]
    fleet.serve("a", "b")
    assert fleet.rolled == ["a", "b", "c"]


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
    assert fleet.rolled == ["b", "a"]


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
    whole = Progress(serves=WHOLE, complete=True, proven=True, late=False, upgrading="")
    assert train.ask(ours, whole, most=1, paused=False) is Turn.WAIT
    fleet.fail("a")
    assert train.states()["failed"] == 1
    assert train.ask(ours, whole, most=1, paused=False) is Turn.STOPPED
    train.leaves = lambda namespace: namespace == NAMESPACE
    assert train.states()["failed"] == train.states()["rolling"] == 0
    assert train.ask(("ours", "a"), whole, most=1, paused=False) is Turn.BOARD
