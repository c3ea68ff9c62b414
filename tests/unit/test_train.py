"""Changes of pods that the installation makes go out one by one: the order, the pace, a restart, a pause."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from whisper_operator.kube.kinds import (
    DEPLOYMENT,
    PAUSED_ANNOTATION,
    SPEC_ANNOTATION,
    TEMPLATE_ANNOTATION,
)
from whisper_operator.policy.rules import Policy
from whisper_operator.rollouts.progress import COMPLETE

from tests.unit.fleet import ABC, AFTER_THAT, NEXT, PAUSED, Fleet, bad, upgraded
from tests.unit.making import SETTINGS


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
