"""An upgrade that fails: whom it stops, for how long, and what of it stays."""

from dataclasses import replace
from typing import Any

import pytest
from whisper_operator.apply.outcome import Outcome
from whisper_operator.kube.errors import Refused
from whisper_operator.kube.kinds import (
    DEPLOYMENT,
)
from whisper_operator.kube.objects import condition
from whisper_operator.policy.rules import Policy
from whisper_operator.rollouts.progress import COMPLETE, WHOLE, Progress
from whisper_operator.rollouts.train import UNSURE_SECONDS
from whisper_operator.rollouts.turn import Turn
from whisper_operator.status.condition import STOPS_OTHERS, Fault
from whisper_operator.status.conditions import upgrades

from tests.unit.fleet import ABC, AFTER_THAT, NEXT, PAUSED, Fleet, bad, upgraded
from tests.unit.making import SETTINGS


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
