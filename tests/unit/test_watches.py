"""A dead watch is told from one that has nothing to report."""

import time

import pytest
from whisper_operator.informer.liveness import Watches
from whisper_operator.kube.kinds import DEPLOYMENT, SERVICE


def item(uid: str, version: int) -> dict[str, dict[str, str]]:
    return {"metadata": {"uid": uid, "resourceVersion": str(version)}}


def test_a_watch_that_has_shown_all_that_a_list_holds_lives() -> None:
    watches = Watches()
    watches.shown(SERVICE, item("a", 5))
    for _ in range(3):
        watches.listed(SERVICE, [(5, "a"), (4, "b")])
        watches.listed(DEPLOYMENT, [])
    assert not watches.behind
    assert watches.dead == []


def test_a_watch_that_owes_what_two_lists_hold_is_dead_until_it_shows_it() -> None:
    watches = Watches()
    watches.shown(SERVICE, item("a", 5))
    watches.listed(SERVICE, [(5, "a"), (9, "b")])
    assert watches.behind
    assert watches.dead == []
    watches.listed(SERVICE, [(5, "a"), (9, "b")])
    assert watches.dead == ["services"]
    watches.shown(SERVICE, item("b", 9))
    assert watches.dead == []
    assert not watches.behind


def test_what_is_gone_by_the_second_list_proves_nothing() -> None:
    """It may have come and gone while the watch had to list anew."""
    watches = Watches()
    watches.shown(SERVICE, item("a", 5))
    watches.listed(SERVICE, [(5, "a"), (9, "b")])
    watches.listed(SERVICE, [(5, "a")])
    assert watches.dead == []
    watches.listed(SERVICE, [(5, "a"), (12, "b")])
    assert watches.dead == []


def test_a_watch_that_lists_anew_calls_for_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    watches = Watches()
    watches.shown(SERVICE, item("a", 1), at_start=True)
    now += 1
    watches.shown(SERVICE, item("b", 2), at_start=True)
    now += 100
    watches.shown(SERVICE, item("b", 3))
    assert not watches.began_anew.is_set()
    watches.shown(SERVICE, item("b", 3), at_start=True)
    assert watches.began_anew.is_set()
